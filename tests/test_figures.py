"""A picture that shows something else than the data has is worse than none, and nobody can tell by looking at it."""

import csv
import io
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from stages import curves as curves_stage
from tests.made import OBSERVATIONS, PARAMS, REPORTS, make, pack, positions, read_json, read_table, words_of_train
from xpronet.classifier.calibration import reliability
from xpronet.data.dataset import StudyDataset
from xpronet.data.reports import Vocabulary
from xpronet.data.studies import Study
from xpronet.figures import classifier, curves, health, labels, prototypes, reports
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.prototypes import kmeans

CPU = torch.device("cpu")
PER, GAMMA, HEADS = PARAMS["n_prototypes"], PARAMS["gamma"], PARAMS["model"]["heads"]
NAMES = (
    *("labels", "predicted_reliability_val", "predicted_reliability_test", "predicted_roc", "reports"),
    *("prototype_map", "prototype_use"),
)


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that are saved, instead of files."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: (saved.append(self), Path(path).touch()))
    return saved


def random_labels(count: int) -> np.ndarray:
    return (np.random.default_rng(1).random((count, 14)) < 0.3).astype(np.float32)


# labels and classifier


def test_labels_that_come_together_are_counted(figures, tmp_path):
    found = random_labels(30)
    found[:, 4] = 0
    labels.observations(tmp_path / "labels", found, split="train")
    bars, cells, *_ = figures[0].axes
    assert [bar.get_width() for bar in bars.patches] == found.sum(axis=0).tolist()
    shown = cells.images[0].get_array().filled(np.nan)
    for i in range(14):
        for j in range(14):
            share = found[found[:, i] > 0, j].mean() if i not in (4, j) else np.nan
            assert shown[i, j] == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize("most", [1, 6, 30])
def test_half_a_study_stands_at_no_axis(figures, tmp_path, most):
    labels.observations(tmp_path / "labels", np.eye(14)[[2] * most], split="train")
    ticks = figures[0].axes[0].get_xticks()
    assert (ticks == np.rint(ticks)).all()


def test_the_area_under_a_drawn_curve_is_its_auroc(figures, tmp_path):
    """Observations and splits stand in rows and columns that are easily exchanged."""
    splits = {
        split: (random_labels(size), np.random.default_rng(size).random((size, 14)))
        for split, size in (("val", 20), ("test", 40))
    }
    splits["val"][0][:, 3] = 0  # nothing to rank: no curve
    classifier.roc_curves(tmp_path / "roc", splits)
    for k, axes in enumerate(figures[0].axes[:14]):
        assert axes.get_title().startswith(CONDITIONS[k])
        drawn = [np.trapezoid(line.get_ydata(), line.get_xdata()) for line in axes.lines[1:]]
        expected = [roc_auc_score(each[:, k], given[:, k]) for each, given in splits.values() if each[:, k].any()]
        assert drawn == pytest.approx(expected)
    assert [len(axes.lines) for axes in figures[0].axes[2:5]] == [3, 2, 3]


def test_the_dots_of_a_reliability_diagram_are_the_bins(figures, tmp_path):
    truth, given = random_labels(50), np.random.default_rng(2).random((50, 14))
    classifier.reliability_diagrams(tmp_path / "reliability", truth, given, split="test")
    for k, axes in enumerate(figures[0].axes[:14]):
        found = reliability(truth[:, k], given[:, k])
        dots = axes.collections[-1].get_offsets()
        np.testing.assert_allclose(dots, np.stack([found.predicted, found.observed], axis=1))


# training


def test_the_curves_of_a_training_are_its_history(figures, tmp_path):
    names = ("epoch", "val_selection", *curves.LOSSES, *curves.SCORES)
    rows = [dict(zip(names, (epoch, score, *np.arange(6) + epoch), strict=True)) for epoch, score in ((1, 2), (2, 1))]
    with open(tmp_path / "history.tsv", "w", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t")
        writer.writeheader()
        writer.writerows([{**row, "textual_contrastive": 0} for row in rows])  # as without CMPNet
    curves.training(tmp_path / "training", curves.read_history(tmp_path / "history.tsv"))
    losses, scores = figures[0].axes
    assert [list(line.get_ydata()) for line in losses.lines[:-1]] == [[1, 2], [2, 3]]
    assert [list(line.get_ydata()) for line in scores.lines[:-1]] == [[4, 5], [5, 6], [6, 7]]
    assert list(losses.lines[-1].get_xdata()) == [1, 1] and "after epoch 1 of 2" in figures[0].get_suptitle()
    (tmp_path / "history.tsv").write_text("epoch\n")
    with pytest.raises(ValueError, match="history.tsv: no history of a training .*dvc repro -f train"):
        curves.read_history(tmp_path / "history.tsv")


def test_a_training_of_one_epoch_has_a_point_to_see(figures, tmp_path):
    history = {name: [0.5] for name in ("epoch", "val_selection", *curves.LOSSES, *curves.SCORES)}
    curves.training(tmp_path / "training", history)
    assert all(line.get_marker() == "o" for axes in figures[0].axes for line in axes.lines[:-1])


@pytest.mark.parametrize("text", [". " * 60, "there is no pleural effusion . " * 9])
def test_no_word_leaves_its_column(text):
    """A model that has collapsed writes nothing but full stops, which no line was to begin with."""
    for width in (90, 91, 97, 250):
        for line in reports._wrap(text.split(), [True] * len(text.split()), width):
            assert max(x + reports._width(word, mark) for x, word, mark in line) <= width


# prototypes


def small_model(d_prototype: int = 520, *, cmpnet: bool = True, vocabulary: int = 20) -> XProNet:
    torch.manual_seed(0)
    sizes = {**PARAMS["model"], "n_prototypes": PER, "gamma": GAMMA, "d_prototype": d_prototype}
    return XProNet(ModelConfig(vocab_size=vocabulary, backbone="resnet18", cmpnet=cmpnet, **sizes)).eval()


def test_uses_are_the_choices_of_patches_and_words(made):
    """Counted by hand: no patch of a view that is not there, no padding, each head a query of its own."""
    model, ids = small_model(), made.ids("val")
    tokens = [[0, *range(1, 2 + number % 4), 0] for number in range(len(ids))]
    asked = read_table("predicted_labels", ids)
    dataset = StudyDataset(pack(), positions(made, ids), tokens=tokens, labels=asked, ids=ids)
    found = health.count_uses(model, dataset, batch_size=3, device=CPU)
    inputs = []
    model.memory.register_forward_pre_hook(lambda module, args: inputs.append(args))
    queries = dict.fromkeys(health.QUERIES, 0)
    counts = {kind: np.zeros(14 * PER) for kind in health.QUERIES}
    for row, id in enumerate(ids):  # alone: without any padding
        inputs.clear()
        batch = made.batch([id])
        views = batch["views"][0].sum()
        with torch.no_grad():
            model(batch["images"][:, :views], torch.tensor([tokens[row]]), torch.from_numpy(asked[row : row + 1]))
        for kind, (x, *_) in zip(health.QUERIES, inputs, strict=True):
            with torch.no_grad():
                query = model.memory.query(x[0]).unflatten(-1, (HEADS, -1))
                key = model.memory.key(model.prototype_projection(model.prototypes)).unflatten(-1, (HEADS, -1))
            scores = torch.einsum("thd,mhd->htm", query, key).numpy()
            scores[:, :, np.repeat(asked[row], PER) == 0] = -np.inf
            for of_query in scores.reshape(-1, 14 * PER):
                allowed = np.isfinite(of_query).sum()
                counts[kind][np.argsort(-of_query)[: min(GAMMA, allowed)]] += 1
            queries[kind] += scores.shape[0] * scores.shape[1]
    for kind, each in found.items():
        assert each.queries == queries[kind]
        np.testing.assert_array_equal(each.counts, counts[kind])
        assert each.expected.sum() == pytest.approx(each.counts.sum())


def test_uses_sum_to_gamma_for_each_query(made):
    model, ids = small_model(), made.ids("val")
    two = np.eye(14, dtype=np.float32)[np.arange(len(ids))] + np.eye(14, dtype=np.float32)[5 + np.arange(len(ids))]
    dataset = StudyDataset(pack(), positions(made, ids), tokens=[[0, 1, 2, 0]] * len(ids), labels=two, ids=ids)
    uses = health.count_uses(model, dataset, batch_size=2, device=CPU)
    assert uses["words"].queries == 3 * HEADS * len(ids)
    for each in uses.values():
        assert each.counts.sum() == each.queries * GAMMA
    found = health.describe(uses, gamma=GAMMA, studies=len(ids))
    nobody = [each for each in found["each"] if not two[:, CONDITIONS.index(each["observation"])].any()]
    assert nobody and not any(each["asked"] or each["dead"] for each in nobody)  # nobody asked: that is no death
    assert found["summary"]["asked"] == 14 * PER - len(nobody)


def test_a_prototype_that_was_asked_and_never_responded_is_dead(figures, tmp_path):
    counts, expected = np.ones(14 * PER, int), np.ones(14 * PER)
    counts[3], expected[8 : 8 + PER], counts[8 : 8 + PER] = 0, 0, 0
    uses = {kind: health.Uses(10, counts, expected) for kind in health.QUERIES}
    found = health.describe(uses, gamma=1, studies=5, moved=np.arange(14.0 * PER))
    assert [row for row, each in enumerate(found["each"]) if each["dead"]] == [3]
    assert found["summary"] | {"dead": 1, "asked": 26, "prototypes": 28, "median_drift": 13.5} == found["summary"]
    ratios = prototypes.relative_use(found["each"], "words", PER)
    assert ratios[1].tolist() == [1, 0] and np.isnan(ratios[4]).all()
    prototypes.health(tmp_path / "health", found)
    assert "Of 26 prototypes that 5 validation studies may ask, 25 have responded" in figures[0].get_suptitle()
    patches, _, drift, *_ = figures[0].axes
    assert sorted(drift.collections[0].get_offsets()[:, 0]) == [100 * value for value in range(28)]
    assert [text.get_text() for text in patches.texts] == ["×", "no study may ask"]


def test_drift_is_nothing_where_nothing_moved():
    before = np.random.default_rng(0).normal(size=(6, 5))
    assert (health.drift(before, before) == 0).all()
    assert health.drift(before, 3 * before) == pytest.approx(2)


def test_the_nearest_studies_are_nearest_by_both_features(monkeypatch):
    """In pieces, as the features of 270,000 studies are read."""
    random = np.random.default_rng(3)
    visual, textual, matrix = random.normal(size=(23, 4)), random.normal(size=(23, 3)), random.normal(size=(6, 7))
    distances = np.linalg.norm(matrix[:, None] - np.concatenate([visual, textual], axis=1), axis=2)
    for size in (100, 5):
        monkeypatch.setattr(kmeans, "BATCH_ROWS", size)
        nearest = health.nearest_studies(matrix, visual, textual)
        np.testing.assert_array_equal(nearest, np.argsort(distances, axis=1)[:, : health.NEAREST])
    studies = [Study(id=f"s{row}", split="train", report="", image_path=()) for row in range(23)]
    uses = {"patches": health.Uses(1, np.ones(28, int), np.ones(28))}
    rows, own = np.tile(nearest[:1], (28, 1)), random_labels(23)
    found = health.describe(uses, gamma=1, studies=1, nearest=rows, train=studies, labels=own)
    assert found["each"][9]["nearest"] == [f"s{row}" for row in nearest[0]]
    assert found["each"][9]["nearest_with_it"] == own[nearest[0], 4].sum()
    assert found["summary"]["nearest_with_it"] == pytest.approx(own[nearest[0]].mean(), abs=1e-4)


def test_neighbours_are_counted_in_full_width():
    matrix = np.zeros((3, 2, 4))
    matrix[:, :, 0] = [[0, 1], [10, 30], [13, 31]]
    assert prototypes.beside_their_own(matrix) == pytest.approx(2 / 6)


def test_places_are_of_the_prototype_in_the_row():
    """Two far groups must stay apart, whatever t-SNE does with the rest."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(14, 4, 6)) + 100 * (np.arange(14) < 7)[:, None, None]
    spots = prototypes.places(matrix)
    distances = np.linalg.norm(spots.reshape(-1, 2)[:, None] - spots.reshape(-1, 2), axis=2)
    np.fill_diagonal(distances, np.inf)
    far = np.arange(56) // 4 < 7
    assert (far[distances.argmin(axis=1)] == far).mean() > 0.95
    np.testing.assert_array_equal(spots, prototypes.places(matrix))


# reports


def test_shared_words_are_those_in_the_same_order():
    reference = ["the", "heart", "is", "large", ".", "lungs", "are", "clear", "."]
    report = ["heart", "is", "normal", ".", "the", "lungs", "are", "clear", "."]
    assert [word for word, mark in zip(report, reports.shared(report, reference), strict=True) if mark] == [
        *("heart", "is", "lungs", "are", "clear", ".")  # a full stop between others is no agreement
    ]
    assert reports.shared([], reference) == []


def test_examples_are_neither_the_best_nor_chosen_by_hand():
    own = np.zeros((30, 14))
    own[:, -1], own[:, 12], own[10:, 3] = 1, 1, 1  # a device is no finding
    scores = np.random.default_rng(0).random(30)
    rows = reports.choose(scores, own)
    ranked = sorted(range(10, 30), key=scores.__getitem__)
    assert rows == [ranked[17], ranked[10], ranked[2]]
    assert reports.kind(own) == "studies with findings"
    assert reports.choose([0.5], np.eye(14)[[13]]) == [0]  # no study with findings, and one alone
    assert reports.kind(np.eye(14)[[12, 13]]) == "studies, all without findings"


def test_every_word_is_drawn_once_and_within_the_picture(figures, tmp_path):
    words = [f"word{number}" for number in range(80)]
    examples = [reports.Example("$1 a_b^", " ".join(words), [" ".join(words[::-1]), ""])]
    reports.side_by_side(tmp_path / "reports", "title", ["one", "other"], examples)
    figure = figures[0]
    texts = [text for text in figure.texts if text.get_text().startswith("word")]
    assert sorted(text.get_text() for text in texts) == sorted(words * 2)
    width = figure.bbox.width
    ends = [text.get_window_extent().x1 / width for text in texts]
    assert max(ends) < 1 and min(text.get_position()[1] for text in texts) > 0
    assert max(end for end, text in zip(ends, texts, strict=True) if text.get_position()[0] < 0.3) < 1 / 3


def test_what_stands_above_a_study_is_within_the_picture_too(figures, tmp_path):
    head = f"P00001, ROUGE-L 0.50: {reports.names(np.ones(14))}"
    reports.side_by_side(tmp_path / "reports", "title", ["one"], [reports.Example(head, "a .", ["b ."])] * 4)
    texts = figures[0].texts
    assert max(text.get_window_extent().x1 for text in texts) < figures[0].bbox.width
    lines = [text.get_text() for text in texts if text.get_color() == "#555555"]
    assert " ".join(lines[:2]) == head
    boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.y0)
    assert len(lines) == 8 and boxes[0].y0 > 0 and boxes[-1].y1 < figures[0].bbox.height
    below = {box.y0: box.y1 for box in boxes}  # columns begin at one height
    assert all(top <= bottom for top, bottom in zip(list(below.values())[:-1], list(below)[1:], strict=True))


# the stages


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What stage figures writes of a model trained here, of the same from elsewhere, and of one w/o CMPNet."""
    made = make(tmp_path_factory.mktemp("drawn") / "here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        words = words_of_train(made)
        card = checkpoint.ModelCard(Vocabulary(words), CONDITIONS, REPORTS["style"], crop=32, beam_size=1, max_length=9)
        model = small_model(vocabulary=len(words))
        with torch.no_grad():
            before = load_file("data/prototypes.safetensors")["prototypes"].reshape(-1, 520)
            model.prototypes.copy_(torch.from_numpy(before))
            model.prototypes[5] *= 1.5
        checkpoint.save("data/model", model, card)
        checkpoint.save("without", small_model(cmpnet=False, vocabulary=len(words)), card)
        shutil.copytree("data/model", "published")
        ids = made.ids("test")
        Path("data/predictions").mkdir()
        lines = [json.dumps({"id": id, "predicted": {"report": "the lungs are clear ."}}) for id in ids]
        Path("data/predictions/test.jsonl").write_text("\n".join(lines) + "\n")
        Path("data/scores").mkdir()
        rows = "".join(f"{id}\t{number / 10}\n" for number, id in enumerate(ids))
        Path("data/scores/test.tsv").write_text("id\tROUGE_L\n" + rows)
        found = SimpleNamespace(made=made)
        made.run("figures")
        found.files, found.health = written()
        patch.setattr("xpronet.figures.classifier.reliability_diagrams", lambda *values, **split: None)
        made.run("figures")
        found.again, _ = written()
        for drawing in ("labels.observations", "classifier.roc_curves", "reports.side_by_side", "prototypes.health"):
            patch.setattr(f"xpronet.figures.{drawing}", lambda *values, **split: None)
        patch.setattr(prototypes, "prototype_map", lambda path, matrices: found.maps.append(list(matrices)))
        patch.setattr(logging.getLogger(), "level", logging.INFO)
        handler = logging.StreamHandler(io.StringIO())
        logging.getLogger().addHandler(handler)
        found.maps = []
        made.run("figures", model_folder="published")
        _, found.published = written()
        made.run("figures", model_folder="without")
        found.empty, found.without = written()
        logging.getLogger().removeHandler(handler)
        found.said = handler.stream.getvalue().splitlines()
        yield found


def written() -> tuple[dict[str, bytes], dict]:
    """The pictures, by name, and the health of prototypes."""
    files = {str(path): path.read_bytes() for path in Path("metrics/figures").rglob("*.*")}
    return files, read_json("metrics/details/prototype_health.json")


def test_every_picture_is_there_twice_and_not_empty(drawn):
    assert set(drawn.files) == {f"metrics/figures/{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    for path, content in drawn.files.items():
        if path.endswith(".svg"):
            assert len(list(ElementTree.fromstring(content).iter())) > 100
        else:
            with Image.open(io.BytesIO(content)) as picture:
                assert 1000 < picture.width <= 1200
                assert np.asarray(picture.convert("L")).std() > 10


def test_the_same_data_give_the_same_bytes(drawn):
    """DVC would keep another picture of each run, and show it as changed."""
    assert drawn.files == drawn.again


def test_the_health_is_of_validation_under_predicted_labels(drawn):
    each = drawn.health["each"]
    assert drawn.health["summary"]["studies"] == len(drawn.made.ids("val"))
    assert [one["drift"] for one in each] == [0.5 if row == 5 else 0 for row in range(28)]
    labelled = read_table("predicted_labels", drawn.made.ids("val")).any(axis=0)
    assert {one["observation"] for one in each if one["asked"]} == {OBSERVATIONS[k] for k in np.flatnonzero(labelled)}
    assert all(id.startswith("train-") for one in each for id in one["nearest"])


def test_a_model_from_elsewhere_has_no_past(drawn):
    """The prototypes of this folder were not its first ones."""
    assert {"drift", "nearest"}.isdisjoint(drawn.published["each"][0])
    kept = ("patches", "words", "asked", "dead")
    for one, other in zip(drawn.health["each"], drawn.published["each"], strict=True):
        assert [one[key] for key in kept] == [other[key] for key in kept]
    assert drawn.maps == [["after training", "as they are queried (Eq. 8)"]]


def test_without_prototypes_their_pictures_say_so(drawn):
    """DVC wants the same files of every model."""
    assert drawn.without == {} and set(drawn.empty) == set(drawn.files)
    for name in ("prototype_map", "prototype_use"):
        path = f"metrics/figures/{name}.svg"
        assert b"without has no prototypes of observations" in drawn.empty[path] != drawn.files[path]


def test_what_is_left_out_is_said_in_one_line(drawn):
    assert drawn.said == [
        "the prototypes of published did not begin here: neither the first ones nor their drift",
        "without has no prototypes of observations: their pictures are empty",
    ]


def test_stage_curves_draws_the_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("metrics").mkdir()
    names = ("epoch", "val_selection", *curves.LOSSES, *curves.SCORES)
    Path("metrics/history.tsv").write_text("\t".join(names) + "\n" + "\t".join(["1"] * len(names)) + "\n")
    curves_stage.main()
    assert {path.name for path in Path("metrics/figures").iterdir()} == {"training.png", "training.svg"}
