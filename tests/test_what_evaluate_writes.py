"""Scores decide what is believed: each number must be of the reports, labels, split and floor whose name it bears.

Stage evaluate runs on a made-up folder in which no file can stand for another, and what it writes is computed again by
pycocoevalcap, scikit-learn and brute force from the files that it should have read.
"""

import csv
import json
import random
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from sklearn.metrics import average_precision_score, f1_score, precision_score, roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from tests.made import (
    OBSERVATIONS,
    REPORTS,
    SENTENCES,
    keep,
    make,
    pairs,
    read_json,
    read_table,
    scores,
    words_of_train,
    write_table,
)
from xpronet.evaluation import floors
from xpronet.labels import rules
from xpronet.labels.conditions import pseudo_labels

SOURCES = ("predicted", "reference", "none")
LEFT = (
    *("data/.chexbert.unfinished.npy", "data/prepared/.images.unfinished.u8", "data/features/.visual.unfinished.json"),
    "data/prepared/.archive.unfinished/files/p10/a.jpg",
)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, jar):
    """The folder after the stage, and what was written there for whom."""
    made = make(tmp_path_factory.mktemp("evaluated") / "here")
    annotation = read_json(made.folder / "data/prepared/annotation.json")
    for split in ("val", "test"):  # a report of train, and only one
        annotation[split][0]["report"] = made.raw["train-3"]
        made.text[f"{split}-0"] = made.text["train-3"]
    written = predictions(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        Path("data/prepared/annotation.json").write_text(json.dumps(annotation))
        sets = np.eye(14, dtype=int)[[1, 4, 9, 12]] + np.eye(14, dtype=int)[[3, 5, 10, 13]]
        which = np.random.default_rng(4)
        write_table(Path("data/labels.csv"), list(made.raw), sets[which.permutation(len(made.raw)) % 4])
        held_out = made.ids("val", "test")
        write_table(Path("data/predicted_labels.csv"), held_out, sets[which.integers(4, size=len(held_out))])
        for path in ("data/classifier", "data/prepared/images.u8", "data/prototypes.safetensors"):
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
        for name in ("flipped", "textual"):
            Path(f"data/features/{name}.npy").unlink()
        for name in LEFT:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()
        for name in ("data/raw/.notes.unfinished.txt", "elsewhere/a.npy"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()
        Path("data/features/.linked.unfinished").symlink_to(Path("elsewhere").resolve())
        patch.setattr("stages.evaluate.running_meteor", lambda: nullcontext(jar))
        made.run("evaluate", labels={"uncertain": "negative"})
        yield SimpleNamespace(made=made, written=written, meteor=jar)


def predictions(made) -> dict[str, dict[str, dict]]:
    """Reports at random under each kind of labels, in another order than the studies stand in; id -> record."""
    source, records = random.Random(2), {}
    (made.folder / "data/predictions").mkdir()
    for split in ("val", "test"):
        for id in made.ids(split):
            records[id] = {"id": id, "own_tokens": source.randint(5, 20)}
            for kind, pool in zip(SOURCES, (SENTENCES[:8], SENTENCES[4:], SENTENCES[2:10]), strict=True):
                report = " . ".join(text for _, text in source.sample(pool, source.randint(1, 4))) + " ."
                records[id][kind] = {"report": report, "log_prob": -1.0, "own_log_prob": -source.uniform(20, 60)}
        lines = [json.dumps(records[id]) + "\n" for id in made.ids(split)[::-1]]
        (made.folder / f"data/predictions/{split}.jsonl").write_text("".join(lines))
    return records


def test_what_killed_runs_have_left_is_gone_at_the_end(evaluated):
    """A stage whose results DVC then took from its run cache never came back for it."""
    kept = {path.name for path in (evaluated.made.folder / "data").rglob(".*unfinished*")}
    assert kept == {".notes.unfinished.txt"}  # the user's, in data/raw
    assert (evaluated.made.folder / "elsewhere/a.npy").exists()
    assert (evaluated.made.folder / "data/features/visual.npy").exists()


def label(texts: list[str]) -> np.ndarray:
    return pseudo_labels(rules.label(texts), uncertain="negative")


def of(evaluated, split: str, source: str) -> tuple[list[str], list[str]]:
    """References and reports of a split."""
    ids = evaluated.made.ids(split)
    return evaluated.made.texts(ids), [evaluated.written[id][source]["report"] for id in ids]


def clinical(references: list[str], hypotheses: list[str]) -> dict[str, float]:
    labels = label(references), label(hypotheses)
    return {
        "micro_F1_14": f1_score(*labels, average="micro"),
        "macro_F1_14": f1_score(*labels, average="macro", zero_division=0),
    }


def approx(values):
    return pytest.approx(values, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_numbers_that_runs_are_compared_by_are_under_predicted_labels(evaluated, split):
    """`dvc metrics diff` shows these: under the labels of the reports under test they would flatter."""
    references, reports = of(evaluated, split, "predicted")
    expected = {**scores(references, reports), **clinical(references, reports), "distinct_reports": len(set(reports))}
    expected["METEOR"] = evaluated.meteor.score(references, reports)[0]
    records = [evaluated.written[id] for id in evaluated.made.ids(split)]
    nats = sum(-record["predicted"]["own_log_prob"] for record in records)
    expected["cross_entropy"] = nats / sum(record["own_tokens"] for record in records)
    best = read_json(f"metrics/details/{split}.json")["floors"].values()
    expected |= {f"floor_{name}": max(floor[name] for floor in best) for name in ("BLEU_4", "micro_F1_14")}
    assert read_json(f"metrics/{split}.json") == approx(expected)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("split", ["val", "test"])
def test_every_kind_of_labels_has_scores_and_intervals_of_its_own_reports(evaluated, split, source):
    details, (references, reports) = read_json(f"metrics/details/{split}.json"), of(evaluated, split, source)
    found = details[source]
    expected = {**scores(references, reports), **clinical(references, reports)}
    expected["METEOR"] = evaluated.meteor.score(references, reports)[0]
    expected["micro_precision_14"] = precision_score(label(references), label(reports), average="micro")
    expected["length_ratio"] = len(" ".join(reports).split()) / len(" ".join(references).split())
    records = [evaluated.written[id] for id in evaluated.made.ids(split)]
    nats = sum(-record[source]["own_log_prob"] for record in records)
    expected["cross_entropy"] = nats / sum(record["own_tokens"] for record in records)
    assert {name: found[name] for name in expected} == approx(expected)
    count = len(references)
    drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), size=1000)
    for name, scorer in (("ROUGE_L", Rouge()), ("CIDEr", Cider())):
        per_study = scorer.compute_score(*pairs(references, reports))[1]
        assert found["intervals"][name] == approx(np.percentile(drawn @ per_study / count, (2.5, 97.5)).tolist())
    f1 = f1_score(label(references), label(reports), average=None, zero_division=0)
    assert {name: row["F1"] for name, row in details["observations"][source].items()} == approx(
        dict(zip(OBSERVATIONS, f1.tolist(), strict=True))
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_leak_is_what_labels_of_the_reports_under_test_add(evaluated, split):
    found = read_json(f"metrics/details/{split}.json")["leak_delta"]
    (references, reference), (_, predicted) = (of(evaluated, split, source) for source in ("reference", "predicted"))
    values = [{**scores(references, reports), **clinical(references, reports)} for reports in (reference, predicted)]
    expected = {name: values[0][name] - values[1][name] for name in values[0]}
    assert max(map(abs, expected.values())) > 0.01
    assert {name: found[name] for name in expected} == approx(expected)


@pytest.mark.parametrize("split", ["val", "test"])
def test_floors_are_train_reports_chosen_before_the_split_is_seen(evaluated, split):
    """A floor that was chosen on test, or by labels of the reports under test, is none; too low a one flatters."""
    made, train = evaluated.made, evaluated.made.ids("train")
    ids, texts, references = made.ids(split), made.texts(train), made.texts(made.ids(split))

    def constant(candidates: list[str], targets: list[str]) -> str:
        """The first of the best, by brute force."""
        return max(candidates, key=lambda text: Bleu(4).compute_score(*repeated(text, targets), verbose=0)[0][3])

    def repeated(text: str, targets: list[str]):
        return pairs(targets, [text] * len(targets))

    labels, predicted, reference = (
        *(read_table(name, group) for name, group in (("labels", train), ("predicted_labels", ids), ("labels", ids))),
    )

    def alike(row: np.ndarray) -> list[str]:
        return [text for text, own in zip(texts, labels, strict=True) if (own == row).all()]

    chosen = {each: constant(texts, made.texts(made.ids(each))) for each in ("train", "val", "test")}
    assert chosen["val"] not in (chosen["train"], chosen["test"])  # the probe can tell
    images = {name: np.load(f"data/features/{name}.npy") for name in ("visual", "held_out")}
    held_out = images["held_out"][[made.ids("val", "test").index(id) for id in ids]]
    expected = {
        "constant": [chosen["val"]] * len(ids),
        "label_constant": [constant(alike(row), alike(row)) for row in predicted],
        "label_neighbour": floors.label_neighbours(texts, labels, predicted, seed=1),
        "image_neighbour": [texts[row] for row in cosine_similarity(held_out, images["visual"]).argmax(axis=1)],
    }
    assert expected["label_constant"] != [constant(alike(row), alike(row)) for row in reference]
    found = read_json(f"metrics/details/{split}.json")["floors"]
    assert found.keys() == expected.keys()
    for name, reports in expected.items():
        values = {**scores(references, reports), **clinical(references, reports)}
        assert {key: found[name][key] for key in values} == approx(values), name


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_published_protocol_scores_against_references_cut_and_with_unknown_words(evaluated, split):
    """Row 23: without its own numbers beside ours, nobody can compare with the paper."""
    words, found = words_of_train(evaluated.made), read_json(f"metrics/details/{split}.json")
    for source in SOURCES:
        references, reports = of(evaluated, split, source)
        cut = [text.split()[: REPORTS["max_length"] - 1] for text in references]
        cut = [" ".join(word if word in words else "<unk>" for word in text) for text in cut]
        assert any(len(text.split()) >= REPORTS["max_length"] for text in references) and "<unk>" in " ".join(cut)
        expected = {**scores(cut, reports), "METEOR": evaluated.meteor.score(cut, reports)[0]}
        assert found["published_protocol"][source] == approx(expected)
    assert found["protocol"] == "full"


@pytest.mark.parametrize("split", ["val", "test"])
def test_strata_and_the_classifier_go_by_the_split_s_own_labels(evaluated, split):
    ids, found = evaluated.made.ids(split), read_json(f"metrics/details/{split}.json")
    labels, predicted, probabilities = (
        read_table(name, ids) for name in ("labels", "predicted_labels", "predicted_probabilities")
    )
    assert found["studies"] == len(ids) and found["labeller"] == "rules"
    per_study = Rouge().compute_score(*pairs(*of(evaluated, split, "predicted")))[1]
    for name in ("Cardiomegaly", "Edema", "Support Devices"):
        members = labels[:, OBSERVATIONS.index(name)] > 0
        assert found["strata"][name]["studies"] == members.sum() > 0
        assert found["strata"][name]["ROUGE_L"] == approx(per_study[members].mean())
    assert found["strata"]["report_in_train"]["studies"] == 1
    assert found["strata"]["report_in_train"]["ROUGE_L"] == approx(per_study[0])
    both = [k for k in range(14) if 0 < labels[:, k].sum() < len(ids)]
    quality = {
        "AUROC": [roc_auc_score(labels[:, k], probabilities[:, k]) for k in both],
        "AUPRC": [average_precision_score(labels[:, k], probabilities[:, k]) for k in both],
        "F1": [f1_score(labels[:, k], predicted[:, k], zero_division=0) for k in both],
        "prevalence": [labels[:, k].mean() for k in both],
    }
    names = [OBSERVATIONS[k] for k in both]
    for name, values in quality.items():
        assert found["classifier"][name] == approx(dict(zip(names, values, strict=True))), name
        assert found["classifier"][f"macro_{name}"] == approx(np.mean(values))


@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_per_study_are_those_of_the_study_in_the_row(evaluated, split):
    references, reports = of(evaluated, split, "predicted")
    with open(f"data/scores/{split}.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["id"] for row in rows] == evaluated.made.ids(split)
    both = pairs(references, reports)
    expected = {
        "ROUGE_L": Rouge().compute_score(*both)[1].tolist(),
        "CIDEr": Cider().compute_score(*both)[1].tolist(),
        "example_F1": f1_of_each(label(references), label(reports)),
    }
    assert rows[0].keys() == {"id", *expected}
    for name, values in expected.items():
        assert [float(row[name]) for row in rows] == approx(values), name


def f1_of_each(truth: np.ndarray, found: np.ndarray) -> list[float]:
    return [f1_score(*pair, zero_division=0) for pair in zip(truth, found, strict=True)]


def test_the_ceiling_is_held_against_what_was_drawn(evaluated):
    """Against the labeller's own labels of the same texts a labeller is always right."""
    for split in ("val", "test"):
        made, ids = evaluated.made, evaluated.made.ids(split)
        drawn = np.array([[name in made.drawn[id] for name in OBSERVATIONS] for id in ids], int)
        expected = {
            "micro_F1_14": f1_score(drawn, label(made.texts(ids)), average="micro"),
            "macro_F1_14": f1_score(drawn, label(made.texts(ids)), average="macro", zero_division=0),
        }
        ceiling = read_json(f"metrics/details/{split}.json")["ceiling"]
        assert ceiling["against"] == "the drawn state"
        assert {name: ceiling[name] for name in expected} == approx(expected)


def test_without_a_drawn_state_the_ceiling_is_held_against_the_labels(evaluated, tmp_path, monkeypatch):
    """Real studies have none."""
    shutil.copytree("data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    keep("predicted_labels", "val", "test")
    annotation = read_json("data/prepared/annotation.json")
    for studies in annotation.values():
        for study in studies:
            del study["state"]
    Path("data/prepared/annotation.json").write_text(json.dumps(annotation))
    monkeypatch.setattr("stages.evaluate.running_meteor", lambda: nullcontext(evaluated.meteor))
    evaluated.made.run("evaluate", labels={"uncertain": "positive"})
    for split in ("val", "test"):
        ids = evaluated.made.ids(split)
        own = pseudo_labels(rules.label(evaluated.made.texts(ids)))
        ceiling = read_json(f"metrics/details/{split}.json")["ceiling"]
        assert ceiling["against"] == "data/labels.csv"
        assert ceiling["micro_F1_14"] == approx(f1_score(read_table("labels", ids), own, average="micro"))
