"""A stage that reads another file, split or study than it says makes scores that mean nothing, and nobody sees it.

Training and writing run on a made-up folder from which what they must not read is taken away, and what they write is
computed again from the files that they should have read.
"""

import csv
import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.made import (
    OBSERVATIONS,
    PARAMS,
    REPORTS,
    keep,
    normalised,
    pack,
    positions,
    read_json,
    read_table,
    scores,
    tokens_of,
    words_of_train,
)
from xpronet.data.reports import Vocabulary
from xpronet.model import checkpoint
from xpronet.model.losses import Objective, training_losses
from xpronet.model.xpronet import ModelConfig, XProNet

SEED = PARAMS["seed"]

# train

STILL = {  # a training that leaves the weights as they start, and drops nothing out
    "train": {
        "epochs": 1,
        "batch_size": 6,
        "lr": 1e-30,
        "lr_visual": 1e-30,
        "weight_decay": 0.0,
        "val_beam_size": 2,
        "val_max_length": 6,
    },
    "model": dict.fromkeys(("dropout", "feature_dropout", "attention_dropout", "prototype_dropout"), 0.0),
    "theta": 1.2,
    "alpha": -0.3,
    "lambda_visual": 0.7,
    "delta_textual": 0.4,
}
KINDS = {
    "predicted": {"formulation": "official", "imlcs": True, "visual_weights": "classifier"},
    "reference": {"formulation": "paper", "imlcs": False, "visual_weights": "random"},
}


@pytest.fixture(scope="module", params=KINDS)
def still(origin, request, tmp_path_factory):
    """Trained in a folder without anything that training must not see."""
    folder, kind = tmp_path_factory.mktemp("still"), KINDS[request.param]
    shutil.copytree(origin.folder / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor()))
        annotation = read_json("data/prepared/annotation.json")
        for study in annotation["test"]:
            study |= {"report": "Poison poison poison poison.", "impression": "Poison."}
        Path("data/prepared/annotation.json").write_text(json.dumps(annotation))
        shutil.rmtree("data/features")
        val_table = "predicted_labels" if request.param == "predicted" else "labels"
        if request.param == "predicted":
            keep("labels", "train")
            keep("predicted_labels", "val")
        else:
            keep("labels", "train", "val")
            Path("data/predicted_labels.csv").unlink()
        if kind["visual_weights"] == "random":
            Path("data/classifier/weights.safetensors").write_bytes(b"copied, not read")
        model = {**STILL["model"], "visual_weights": kind["visual_weights"]}
        symbols = {"formulation": kind["formulation"], "imlcs": kind["imlcs"], "test_labels": request.param}
        origin.run("train", **{**STILL, "model": model}, **symbols)
        yield SimpleNamespace(made=origin, kind=kind, val_table=val_table)
    shutil.rmtree(folder)


def no_meteor(*values: float):
    """METEOR without Java: 0, or the values one after the other."""
    left = iter(values)
    return SimpleNamespace(score=lambda references, _: (next(left, 0.0), np.zeros(len(references))))


def history() -> list[dict[str, float]]:
    with open("metrics/history.tsv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file, delimiter="\t")]


def test_the_card_says_what_the_model_was_trained_on(still):
    """Vocabulary, cleaning, image size and search go with the weights: nothing else is needed to generate."""
    card = read_json("data/model/model.json")
    assert card["vocabulary"] == words_of_train(still.made)
    assert not {"raretrain0", "rareval", "raretest", "poison", "xxxx"} & set(card["vocabulary"])
    assert card["conditions"] == list(OBSERVATIONS) and card["style"] == "mimic_cxr" and card["crop"] == 32
    assert card["beam_size"] == 2 and card["max_length"] == 6
    sizes = {**PARAMS["model"], **STILL["model"], "backbone": "resnet18", "vocab_size": len(card["vocabulary"])}
    sizes |= {"n_conditions": 14, "n_prototypes": 2, "d_prototype": 520, "gamma": 3, "cmpnet": True}
    assert card["sizes"] == {**sizes, "formulation": still.kind["formulation"]}


def test_the_classifier_goes_with_the_model(still):
    """New images get their labels from it, wherever the model folder is taken."""
    found = {path.name: path.read_bytes() for path in Path("data/model/classifier").iterdir()}
    assert found == {path.name: path.read_bytes() for path in Path("data/classifier").iterdir()} != {}


def test_training_starts_from_the_prototypes_the_classifier_and_the_seed(still):
    model, _ = checkpoint.load("data/model")
    prototypes = load_file("data/prototypes.safetensors")["prototypes"]
    assert torch.equal(model.prototypes.unflatten(0, (14, 2)), prototypes)
    torch.manual_seed(SEED)
    fresh = XProNet(model.config)
    for name, start in fresh.named_parameters():
        if name != "prototypes" and not name.startswith("visual."):
            torch.testing.assert_close(model.get_parameter(name), start, rtol=0, atol=1e-20, msg=name)
    names = [name for name, module in fresh.visual.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(names) == 20
    if still.kind["visual_weights"] == "random":
        expected = {name: fresh.visual.get_submodule(name).weight for name in names}
    else:
        state = load_file("data/classifier/weights.safetensors")
        layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
        published = {name: name.split(".", 2) for name in names}  # layers.4.0.conv1 is layer1.0.conv1 of torchvision
        expected = {
            name: state[".".join([layers[int(number)], *rest, "weight"])]
            for name, (_, number, *rest) in published.items()
        }
    for name, weight in expected.items():
        torch.testing.assert_close(model.visual.get_submodule(name).weight, weight, rtol=0, atol=1e-20, msg=name)


def test_losses_are_of_train_studies_with_their_own_crops_reports_and_labels(still):
    """Computed again batch by batch: crops by seed, epoch and study, reports cut, labels by id, the symbols' loss."""
    made, train = still.made, still.made.ids("train")
    model, _ = checkpoint.load("data/model")
    model.train()
    words, labels, images = words_of_train(made), torch.from_numpy(read_table("labels", train)), pack()
    places = positions(made, train)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(hash((SEED, 0)))).tolist()
    objective = Objective(1.2, -0.3, 0.7, 0.4, still.kind["imlcs"], still.kind["formulation"])
    sums = np.zeros(5)
    for batch in (order[:6], order[6:]):
        pixels, views, tokens = torch.zeros(len(batch), 2, 3, 32, 32), torch.zeros(len(batch), 2, dtype=bool), []
        for row, study in enumerate(batch):
            random = torch.Generator().manual_seed(hash((SEED, 0, study)))
            crops = [images.random_crop(place, random) for place in places[study]]
            assert crops[0].shape == (32, 32) and not np.array_equal(crops[0], made.images[train[study]][0])
            pixels[row, : len(crops)], views[row, : len(crops)] = normalised(np.stack(crops)), True
            tokens.append(torch.tensor(tokens_of(made.text[train[study]], words)))
        count = max(1 + row.sum().item() for row in views) - 1
        tokens = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        assert tokens.shape[1] <= REPORTS["max_length"]
        pixels, views = pixels[:, :count], views[:, :count]
        output = model(pixels, tokens, labels[batch], views=views)
        losses = training_losses(output, tokens, labels[batch], objective=objective)
        sums += len(batch) * np.array([loss.item() for loss in losses])
    (row,) = history()
    names = ("total", "cross_entropy", "visual_contrastive", "textual_contrastive", "auxiliary")
    assert [row[name] for name in names] == pytest.approx((sums / len(train)).tolist(), rel=1e-4)
    assert row["epoch"] == 1 and row["lr"] == 1e-30


def test_validation_writes_for_its_own_images_and_labels_and_is_scored_on_whole_reports(still):
    """Row 20: whether the labels come from the reports under test is the parameters' choice, and nobody else's."""
    made, val = still.made, still.made.ids("val")
    model, card = checkpoint.load("data/model")

    def score(labels: np.ndarray, **search: int) -> dict[str, float]:
        search = {"beam_size": 2, "max_length": 6, **search}
        written = model.generate(labels=torch.from_numpy(labels), **made.batch(val), **search)
        return scores(made.texts(val), [text_of(ids, card.vocabulary.tokens) for ids in written.tokens.tolist()])

    labels, (row,) = read_table(still.val_table, val), history()
    expected = score(labels)
    assert {name: row[f"val_{name}"] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-9)
    for other in (
        score(np.ones_like(labels)),
        score(labels[::-1].copy()),
        score(labels, beam_size=3),
        score(labels, max_length=7),
    ):
        assert other != pytest.approx(expected, rel=1e-3)  # the probe can tell


def text_of(ids: list[int], words: Sequence[str]) -> str:
    return " ".join(words[id - 1] for id in ids if id)


def test_the_epoch_that_is_best_on_validation_is_kept_and_reported(made, monkeypatch):
    """And every size of the parameters is the model's."""
    sizes = {"dropout": 0.11, "feature_dropout": 0.22, "attention_dropout": 0.33, "prototype_dropout": 0.44}
    monkeypatch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor(0.1, 9.0, 0.2)))
    made.run("train", train={**PARAMS["train"], "epochs": 3, "batch_size": 12}, model=sizes, cmpnet=False)
    rows = history()
    assert [row["epoch"] for row in rows] == [1, 2, 3] and [row["val_METEOR"] for row in rows] == [0.1, 9.0, 0.2]
    best = {name: rows[1][name] for name in ("epoch", "total", "val_selection")}
    assert read_json("metrics/train.json") == pytest.approx(best, rel=1e-5)
    steps = load_file("data/model/weights.safetensors")["visual.layers.1.num_batches_tracked"]
    assert steps == 2  # two epochs of one batch; some studies lack the second view, so both are one pass (row 33)
    found = read_json("data/model/model.json")["sizes"]
    assert {name: found[name] for name in sizes} == sizes and not found["cmpnet"]


# generate

WORDS = ("<unk>", "also", "are", "clear", "heart", "is", "lungs", "no", "pleural", "the", ".")


@pytest.mark.parametrize(
    ("folder", "decode", "search"),
    [
        ("other/model", {"beam_size": 3, "max_length": 9}, {"beam_size": 3, "max_length": 9}),
        ("data/model", {"beam_size": None, "max_length": None}, {"beam_size": 2, "max_length": 5}),
    ],
)
def test_reports_are_of_the_named_model_under_each_kind_of_labels(made, folder, decode, search):
    """Scores under three kinds of labels stand side by side: each is what it is called, for its own study."""
    torch.manual_seed(11)
    sizes = {"backbone": "resnet18", "d_model": 16, "d_ff": 16, "heads": 2, "layers": 1, "n_prototypes": 2, "gamma": 3}
    model = XProNet(ModelConfig(vocab_size=len(WORDS), d_prototype=520, **sizes)).eval()
    model.prototypes.data.mul_(30)  # so that labels matter
    card = checkpoint.ModelCard(Vocabulary(WORDS), OBSERVATIONS, "mimic_cxr", 32, beam_size=2, max_length=5)
    checkpoint.save(folder, model, card)
    keep("labels", "val", "test")
    for name in ("classifier", "features"):
        shutil.rmtree(f"data/{name}")
    made.run("generate", model_folder=folder, decode=decode)
    for split in ("val", "test"):
        ids = made.ids(split)
        records = [json.loads(line) for line in Path(f"data/predictions/{split}.jsonl").read_text().splitlines()]
        assert [record["id"] for record in records] == ids
        tokens = [torch.tensor(tokens_of(made.text[id], list(WORDS))) for id in ids]
        assert [record["own_tokens"] for record in records] == [len(each) - 1 for each in tokens]
        tokens = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        likelihoods = {}
        for source, labels in (
            ("predicted", read_table("predicted_labels", ids)),
            ("reference", read_table("labels", ids)),
            ("none", np.ones((len(ids), 14), np.float32)),
        ):
            given = {"labels": torch.from_numpy(labels), **made.batch(ids)}
            written = model.generate(**given, **search)
            with torch.inference_mode():
                log_probs = model(tokens=tokens, **given).log_probs.gather(2, tokens[:, 1:, None])[..., 0]
            ends = (tokens[:, 1:] == 0).cumsum(dim=1) <= 1  # the words and the first 0 behind them
            own = (log_probs * ends).sum(dim=1).tolist()
            found = [record[source] for record in records]
            assert [each["report"] for each in found] == [text_of(each, WORDS) for each in written.tokens.tolist()]
            assert [each["log_prob"] for each in found] == pytest.approx(written.log_probs.tolist(), abs=0.01)
            assert [each["own_log_prob"] for each in found] == pytest.approx(own, abs=0.01)
            likelihoods[source] = np.array(own)
        for source in ("reference", "none"):  # the probe can tell
            assert np.abs(likelihoods[source] - likelihoods["predicted"]).max() > 0.1


def test_a_model_whose_weights_are_broken_is_refused_by_the_first_study(made):
    """Empty reports of log-probability -Infinity would be scored, and could not be read again."""
    torch.manual_seed(11)
    sizes = {"backbone": "resnet18", "d_model": 16, "d_ff": 16, "heads": 2, "layers": 1, "n_prototypes": 2, "gamma": 3}
    model = XProNet(ModelConfig(vocab_size=len(WORDS), d_prototype=520, **sizes)).eval()
    model.head.bias.data[3] = torch.nan
    card = checkpoint.ModelCard(Vocabulary(WORDS), OBSERVATIONS, "mimic_cxr", 32, beam_size=2, max_length=5)
    checkpoint.save("data/model", model, card)
    with pytest.raises(ValueError, match=r"^study val-0 and 3 more: the model's log-probabilities are no numbers"):
        made.run("generate")
    assert not Path("data/predictions").exists()


def test_a_model_of_other_images_or_another_cleaning_is_refused(made):
    torch.manual_seed(11)
    model = XProNet(ModelConfig(vocab_size=len(WORDS), backbone="resnet18", d_model=16, d_ff=16, heads=2, layers=1))
    card = checkpoint.ModelCard(Vocabulary(WORDS), OBSERVATIONS, "iu_xray", 96, beam_size=2, max_length=5)
    checkpoint.save("data/model", model, card)
    with pytest.raises(ValueError, match="2 problems") as error:
        made.run("generate")
    assert "set images.crop=96" in str(error.value) and "set reports.style=iu_xray" in str(error.value)
