"""`xpronet score` is for people who never train here: their reports must get the numbers that ours would get."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from rich.console import Console
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from xpronet.app import score as scoring
from xpronet.app.cli import app
from xpronet.common.files import read_json
from xpronet.data.reports import clean_report
from xpronet.data.studies import Study, write_annotation
from xpronet.labels import rules
from xpronet.labels.conditions import pseudo_labels

REFERENCES = ["The heart is large.", "Small left effusion. 1. Clear.", "No pneumothorax.", "The lungs are clear."]
WRITTEN = ["the heart is large .", "SMALL LEFT\neffusion.", "Rib fracture.", "the lungs are <unk> ."]


@pytest.fixture(autouse=True)
def _here(tmp_path, jar, monkeypatch):
    """A folder with an annotation and nothing else, and a METEOR that runs already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scoring, "running_meteor", lambda: nullcontext(jar))
    studies = [Study(f"t{n}", "train", text, ["a.png"]) for n, text in enumerate([*REFERENCES[2:]] * 3)]
    studies += [Study("v", "val", "No pneumothorax. Clear.", ["a.png"])]
    studies += [Study(f"s{n}", "test", text, ["a.png"]) for n, text in enumerate(REFERENCES)]
    write_annotation("annotation.json", studies)
    write("reports.jsonl", WRITTEN)


def write(path: str, texts: list[str]) -> None:
    lines = [json.dumps({"id": f"s{n}", "report": text}) + "\n" for n, text in enumerate(texts)]
    Path(path).write_text("".join(reversed(lines)))  # in an order of their own


def scored(path: str = "reports.jsonl", *options: str, code: int = 0):
    done = CliRunner().invoke(app, ["score", path, "--annotation", "annotation.json", *options])
    if code:
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return read_json("scores.json"), done.output


def test_scores_are_of_reports_and_references_that_are_cleaned_alike():
    result, _ = scored()
    references = [clean_report(text, "iu_xray") for text in REFERENCES]
    assert references[1] == "small left effusion . clear ."  # its number is no word
    hypotheses = ["the heart is large .", "small left effusion .", "rib fracture .", "the lungs are <unk> ."]
    pairs = [{n: [text] for n, text in enumerate(texts)} for texts in (references, hypotheses)]
    expected, _ = Bleu(4).compute_score(*pairs, verbose=0)
    assert [result["scores"][f"BLEU_{n}"] for n in range(1, 5)] == pytest.approx(expected, abs=1e-9)
    labels = [pseudo_labels(rules.label(texts)) for texts in (references, hypotheses)]
    assert result["scores"]["micro_F1_14"] == pytest.approx(f1_score(*labels, average="micro"))
    assert (result["studies"], result["labeller"], result["not_in_split"]) == (4, "rules", 0)
    for metric, (low, high) in result["intervals"].items():
        assert low <= result["scores"][metric] + 1e-9 and result["scores"][metric] <= high + 1e-9, metric


def test_the_floor_is_the_train_report_that_serves_validation_best():
    result, _ = scored()
    assert list(result["floors"]) == ["constant"]
    write("constant.jsonl", ["no pneumothorax ."] * 4)
    assert scored("constant.jsonl")[0]["scores"]["BLEU_4"] == pytest.approx(result["floors"]["constant"]["BLEU_4"])


def test_the_published_protocol_counts_the_words_of_train_alone():
    """Three times in train makes a word of iu_xray; "heart", "effusion" and "fracture" are none."""
    write("known.jsonl", ["the <unk> is <unk> .", "<unk> <unk> <unk> . clear .", "no pneumothorax .", REFERENCES[3]])
    result, _ = scored("known.jsonl")
    assert result["published_protocol"]["BLEU_1"] > 0.8 > result["scores"]["BLEU_1"]


def test_a_table_and_predictions_of_our_own_score_as_json_lines_do():
    expected, _ = scored()
    for column in ("report", "text"):
        with open("reports.csv", "w", newline="", encoding="utf-8-sig") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "model", column])
            rows.writerows([f"s{n}", "x", text] for n, text in enumerate(WRITTEN))
        assert scored("reports.csv")[0]["scores"] == expected["scores"]
    own = [{"id": f"s{n}", "none": {"report": text}, "predicted": {"report": "."}} for n, text in enumerate(WRITTEN)]
    Path("own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in own))
    assert scored("own.jsonl", "--labels", "none")[0]["scores"] == expected["scores"]


def test_what_is_printed_fits_a_terminal_and_a_paper():
    result, said = scored("reports.jsonl", "--markdown", "scores.md")
    assert "4 studies of test; F1 by labeller rules; 4 different reports" in " ".join(said.split())
    assert f"{result['scores']['BLEU_1']:.3f}" in said and "scores.json" in said
    console = Console(width=80, record=True)
    scoring.show(result | {"floors": dict.fromkeys(("constant", "label_constant"), result["scores"])}, console)
    table = [line for line in console.export_text().splitlines() if line.startswith("BLEU_1")]
    assert len(table) == 1 and table[0].count("0.") == 6  # score, interval, two floors, published: on one line
    rows = Path("scores.md").read_text().splitlines()
    assert rows[2].startswith("|  | score | 95 % interval | constant | published protocol |")
    assert len({row.count("|") for row in rows[2:]}) == 1 and len(rows) == 4 + len(scoring.SHOWN)


def test_images_floors_stand_beside_where_stage_features_has_written(made):
    """Of the annotation in data/prepared, in a folder with features and predicted labels."""
    annotation = read_json("data/prepared/annotation.json")
    lines = [json.dumps({"id": study["id"], "report": study["report"]}) for study in annotation["test"]]
    Path("mine.jsonl").write_text("\n".join([*lines, '{"id": "other", "report": "x"}']))
    done = CliRunner().invoke(app, ["score", "mine.jsonl", "--annotation", "data/prepared/annotation.json"])
    assert done.exit_code == 0, done.output
    result = read_json("scores.json")
    assert list(result["floors"]) == ["constant", "label_constant", "label_neighbour", "image_neighbour"]
    assert result["scores"]["BLEU_4"] == pytest.approx(1) and result["not_in_split"] == 1
    assert "Left out: 1 report of other studies." in done.output


@pytest.mark.parametrize(
    ("path", "content", "line"),
    [
        ("gone.jsonl", None, "gone.jsonl: no such file"),
        ("few.jsonl", '{"id": "s0", "report": "x"}', "few.jsonl: no report for 3 of 4 studies of test, s1 first"),
        ("odd.jsonl", '{"id": "s0"}', "odd.jsonl: line 1: expected"),
        ("odd.csv", "id,findings\ns0,x\n", "odd.csv: no column report or text"),
        ("twice.csv", "id,report\ns0,x\ns0,y\n", "twice.csv: s0 stands in lines 2 and 3, with different values"),
    ],
)
def test_a_file_that_is_none_is_one_line(path, content, line):
    if content is not None:
        Path(path).write_text(content)
    said = scored(path, code=1)
    assert said.startswith(line) and "\n" not in said
    assert not Path("scores.json").exists()


def test_a_split_without_studies_is_one_line():
    write_annotation("annotation.json", [Study("t", "train", "Clear.", ["a.png"])])
    assert scored("reports.jsonl", code=1) == "annotation.json: no study in split test"
