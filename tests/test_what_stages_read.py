"""A stage that reads another file, split or study than it says makes scores that mean nothing, and nobody sees it.

The stages before training run on a made-up folder in which no file can stand for another, and what they write is
computed again from the files that they should have read.
"""

import csv
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from sklearn.metrics import f1_score, roc_auc_score

from tests.made import (
    OBSERVATIONS,
    PARAMS,
    SIZES,
    normalised,
    pack,
    positions,
    read_json,
    read_table,
)
from tests.test_what_the_model_reads import no_meteor
from xpronet.classifier import network
from xpronet.classifier.fit import fit
from xpronet.classifier.params import ClassifierParams
from xpronet.classifier.thresholds import choose_thresholds
from xpronet.data.dataset import StudyDataset
from xpronet.data.studies import Study, require_every_split
from xpronet.encoders import text_encoders
from xpronet.labels import rules
from xpronet.labels.conditions import pseudo_labels
from xpronet.prototypes.kmeans import prototype_matrix

CPU = torch.device("cpu")
SEED = PARAMS["seed"]


# prepare


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_without_a_study_is_refused_before_any_work(made, split):
    """It would be noticed after training, by a library that cannot name it."""
    annotation = read_json("data/prepared/annotation.json")
    Path("a.json").write_text(json.dumps({**annotation, split: []}))
    images = {**PARAMS["images"], "folder": "none", "broken": "fail"}
    with pytest.raises(ValueError, match=f"^a.json: no study in {split}: .*; move studies of another split there$"):
        made.run("prepare", dataset="iu_xray", source="a.json", images=images)


@pytest.mark.parametrize("name", ["none", "images.zip", "a.json"])
def test_images_that_are_neither_a_folder_nor_an_archive(made, name):
    """Looked for below a file, each of them would have a line."""
    shutil.copy("data/prepared/annotation.json", "a.json")
    Path("images.zip").write_bytes(b"PK")
    images = {**PARAMS["images"], "folder": name, "broken": "fail"}
    with pytest.raises(ValueError, match=f"^images.folder: {name} is neither a folder nor one of .tar, .tgz, .tar.gz$"):
        made.run("prepare", dataset="iu_xray", source="a.json", images=images)


def test_filters_that_empty_a_split_are_named():
    with pytest.raises(
        ValueError, match=r"^x: no study in val and test: .* or leave out fewer \(no x: 2; one image: 3\)$"
    ):
        require_every_split([Study("a", "train", "x", ("a.png",))], "x", {"no x": 2, "one image": 3})


# label


@pytest.mark.parametrize("section", ["findings", "impression", "both"])
@pytest.mark.parametrize("uncertain", ["positive", "negative"])
def test_labels_are_of_the_section_that_the_parameters_name(made, section, uncertain):
    """The impression may contradict the findings, or say what is not to be generated."""
    made.run("label", labels={"section": section, "uncertain": uncertain})
    ids = list(made.raw)
    texts = {
        "findings": [made.raw[id] for id in ids],
        "impression": [made.impression[id] for id in ids],
        "both": [f"{made.raw[id]}\n{made.impression[id]}" for id in ids],
    }
    expected = pseudo_labels(rules.label(texts[section]), uncertain=uncertain)
    np.testing.assert_array_equal(read_table("labels", ids), expected)
    np.testing.assert_array_equal(read_table("label_probabilities", ids), expected)
    metrics, drawn = read_json("metrics/labels.json"), drawn_labels(made, ids)
    assert metrics["drawn_macro_F1_14"] == pytest.approx(f1_score(drawn, expected, average="macro", zero_division=0))
    assert metrics["drawn_micro_F1_14"] == pytest.approx(f1_score(drawn, expected, average="micro"))
    assert metrics["labels_per_study"] == pytest.approx(expected.sum() / len(ids))
    assert metrics["no_finding"] == pytest.approx(expected[:, -1].mean())
    prevalence = read_json("metrics/details/labels.json")["prevalence"]
    for split in SIZES:
        of_split = expected[[id.startswith(split) for id in ids]].sum(axis=0)
        assert prevalence[split] == dict(zip(OBSERVATIONS, of_split.tolist(), strict=True))


def drawn_labels(made, ids: list[str]) -> np.ndarray:
    return np.array([[name in made.drawn[id] for name in OBSERVATIONS] for id in ids], int)


# classify


@pytest.fixture(scope="module")
def classified(origin, tmp_path_factory):
    """What the stage wrote, and what fitting on the right studies gives."""
    folder = tmp_path_factory.mktemp("classified")
    shutil.copytree(origin.folder / "data", folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        origin.run("classify")
        train, val = ([id for id in origin.raw if id.startswith(split)] for split in ("train", "val"))
        fitted = fit(
            StudyDataset(pack(), positions(origin, train), labels=read_table("labels", train), augment=True, seed=SEED),
            StudyDataset(pack(), positions(origin, val), labels=read_table("labels", val)),
            ClassifierParams.model_validate(
                {
                    "backbone": "resnet18",
                    "weights": "random",
                    "epochs": 2,
                    "batch_size": 5,
                    "lr": 1e-3,
                    "weight_decay": 1e-2,
                    "nonfinite": "stop",
                    "precision": "float32",
                    "sync_batch_norm": True,
                    "thresholds": "shared",
                }
            ),
            seed=SEED,
            device=CPU,
            batch_size=4,
        )
        yield SimpleNamespace(made=origin, fitted=fitted)
    shutil.rmtree(folder)


def test_the_classifier_learns_from_train_alone_and_from_crops(classified):
    """Its labels of held-out studies stand for what an image alone can tell (row 20)."""
    found = load_file("data/classifier/weights.safetensors")
    for name, tensor in classified.fitted.classifier.network.state_dict().items():
        assert torch.equal(found[name], tensor), name
    epochs = read_json("metrics/details/classifier.json")["epochs"]
    assert epochs == classified.fitted.history and len(epochs) == 2


def test_its_labels_are_of_the_held_out_images_and_its_thresholds_of_validation(classified):
    made = classified.made
    model, thresholds = network.load("data/classifier")
    held_out = made.ids("val", "test")
    with open("data/predicted_labels.csv", newline="") as file:
        rows = [(row["id"], row["split"]) for row in csv.DictReader(file)]
    assert rows == [(id, id.split("-")[0]) for id in held_out]  # none of train
    with torch.inference_mode():
        logits = [model.network(normalised(np.stack(made.images[id]))).mean(dim=0) for id in held_out]
    given = torch.stack(logits).sigmoid().numpy()
    probabilities, decided = (read_table(f"predicted_{name}", held_out) for name in ("probabilities", "labels"))
    np.testing.assert_allclose(probabilities, given, atol=1e-4)
    own = np.array([id.startswith("val") for id in held_out])
    labels = read_table("labels", held_out)
    np.testing.assert_allclose(thresholds, choose_thresholds(labels[own], given[own], kind="shared"), atol=1e-4)
    above = given >= thresholds - 1e-5
    sick, devices = above[:, :12].any(axis=1), above[:, 12]  # No Finding is the last
    np.testing.assert_array_equal(decided[:, :13], above[:, :13])
    np.testing.assert_array_equal(decided[:, 13], ~sick & (above[:, 13] | ~devices))
    both = [k for k in range(14) if 0 < labels[own, k].sum() < own.sum()]
    metrics = read_json("metrics/classifier.json")
    auroc = [roc_auc_score(labels[own, k], given[own, k]) for k in both]
    f1 = f1_score(labels[own][:, both], decided[own][:, both], average="macro", zero_division=0)
    assert metrics["macro_AUROC"] == pytest.approx(np.mean(auroc)) and metrics["macro_F1"] == pytest.approx(f1)
    details = read_json("metrics/details/classifier.json")["val"]
    assert details["prevalence"] == pytest.approx({OBSERVATIONS[k]: labels[own, k].mean() for k in both})
    assert {name: details[name] for name in metrics} == metrics


@pytest.mark.parametrize(
    ("stage", "changes"),
    [("classify", {"classifier": {"batch_size": 11}}), ("train", {"train": {"batch_size": 11}})],
)
def test_a_batch_of_one_patch_is_refused_before_training(made, stage, changes):
    """Twelve studies: how many there are is known here only."""
    with pytest.raises(ValueError, match="batch_size 11 leaves a batch of one study, and images.crop 32 one patch"):
        made.run(stage, **changes)


def test_a_batch_of_one_patch_is_trained_on_where_the_extractor_is_frozen_for_good(made, monkeypatch):
    monkeypatch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor()))
    made.run("train", train={"epochs": 2, "freeze_epochs": 2, "crops": 1, "batch_size": 11})
    assert len(Path("metrics/history.tsv").read_text().splitlines()) == 3


# features


@pytest.mark.parametrize("start", ["classifier", "random"])
def test_features_are_of_train_and_mirrored_and_held_out_ones_a_file_of_their_own(made, start, monkeypatch):
    """A test image among the features is a test image in the prototypes."""
    encoded = []
    encoder = SimpleNamespace(write=lambda path, texts, **options: encoded.append((path, texts)))
    monkeypatch.setattr(text_encoders, "load", lambda name, **options: encoder if name == "minilm" else None)
    made.run("features", model={**PARAMS["model"], "visual_weights": start})
    torch.manual_seed(1)
    resnet = torchvision.models.resnet18(weights=None, num_classes=1)
    if start == "classifier":
        state = load_file("data/classifier/weights.safetensors")
        resnet.load_state_dict({name: state[name] for name in state if not name.startswith("fc.")}, strict=False)
    resnet.fc = torch.nn.Identity()
    resnet.eval()

    @torch.inference_mode()
    def features(ids, turn=lambda view: view):
        return [resnet(normalised(np.stack([turn(view) for view in made.images[id]]))).mean(0).numpy() for id in ids]

    train, held_out = made.ids("train"), made.ids("val", "test")
    for name, expected in (
        ("visual", features(train)),
        ("flipped", features(train, np.fliplr)),
        ("held_out", features(held_out)),
    ):
        np.testing.assert_allclose(np.load(f"data/features/{name}.npy"), expected, rtol=1e-3, atol=1e-4)
    assert encoded == [("data/features/textual.npy", [made.raw[id] for id in train])]


# prototypes


def test_a_prototype_is_the_mean_of_the_train_studies_with_its_observation(made):
    """With one cluster an observation; two where each orientation has its own, the mirrored one first."""
    train = made.ids("train")
    visual, flipped, textual = (np.load(f"data/features/{name}.npy") for name in ("visual", "flipped", "textual"))
    labels = read_table("labels", train) > 0
    for flips, count, sides in (
        ("joint", 1, [(visual + flipped) / 2]),
        ("separate", 2, [flipped, visual]),
    ):
        made.run("prototypes", n_prototypes=count, features={"flips": flips})
        found = load_file("data/prototypes.safetensors")["prototypes"].numpy()
        for k in np.flatnonzero(labels.any(axis=0)):
            expected = [np.append(side[labels[:, k]].mean(0), textual[labels[:, k]].mean(0)) for side in sides]
            np.testing.assert_allclose(found[k], expected, rtol=1e-4, err_msg=OBSERVATIONS[k])
        details = read_json("metrics/details/prototypes.json")
        assert [row["studies"] for row in details["observations"]] == labels.sum(axis=0).tolist()
        assert details["init"] == "kmeans" and details["shape"] == list(found.shape)


def test_clusters_come_from_the_seed(made):
    """Two clusters of up to twenty-four rows, and noise where an observation has one row or none."""
    train = made.ids("train")
    made.run("prototypes")
    found = load_file("data/prototypes.safetensors")["prototypes"].numpy()
    features = [np.load(f"data/features/{name}.npy") for name in ("visual", "flipped", "textual")]
    sizes = {"conditions": OBSERVATIONS, "n_prototypes": PARAMS["n_prototypes"], "flips": "joint"}
    clusters = [prototype_matrix(*features, read_table("labels", train), **sizes, seed=seed)[0] for seed in (SEED, 0)]
    np.testing.assert_array_equal(found, clusters[0])
    assert not np.array_equal(*clusters)  # the probe can tell


def test_prototypes_at_random_come_from_the_seed(made):
    made.run("prototypes", prototype_init="random")
    found = load_file("data/prototypes.safetensors")["prototypes"]
    expected = np.random.RandomState(SEED).normal(size=(14, 2, 520)) / 520**0.5
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_published_prototypes_are_brought_into_our_order(made):
    """Row 19: files of MIMIC-CXR go by the alphabet, No Finding last."""
    alphabet = [*sorted(OBSERVATIONS[:-1]), OBSERVATIONS[-1]]
    matrix = torch.arange(14.0).repeat_interleave(2)[:, None].expand(28, 520).contiguous()
    torch.save(matrix, "published.pt")
    made.run("prototypes", prototype_init="published.pt", labels={"file_order": "alphabetical"})
    found = load_file("data/prototypes.safetensors")["prototypes"]
    assert found[:, :, 0].tolist() == [[alphabet.index(name)] * 2 for name in OBSERVATIONS]
