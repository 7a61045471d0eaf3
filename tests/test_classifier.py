"""The image classifier that is kept is the best one on validation, and its labels are the study's own."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.recorded import CLASSIFIER, Studies
from xpronet.classifier import fit, network
from xpronet.classifier.network import StudyClassifier, predict
from xpronet.common.files import write_json
from xpronet.common.processes import ALONE
from xpronet.encoders.backbones import resnet
from xpronet.labels.conditions import CONDITIONS

CPU = torch.device("cpu")
PARAMS = CLASSIFIER.model_copy(update={"epochs": 4, "lr": 1e-6, "weight_decay": 0.25})
TRAIN = np.repeat([[1], [1], [0], [0], [0]], 14, axis=1)  # five studies, in batches of 2, 2 and 1
VAL = np.zeros((4, 14))
VAL[2:, 3] = 1  # only this observation has both classes
PROBABILITIES = [  # of this observation after each epoch; AUROC, by counting pairs: 0.75, 1, 1, 0.5
    [0.1, 0.6, 0.5, 0.9],
    [0.1, 0.2, 0.7, 0.8],
    [0.3, 0.4, 0.5, 0.6],
    [0.1, 0.9, 0.5, 0.6],
]


class Classifier(nn.Module):
    """All its logits are 2 and a weight that moves by a millionth: losses and gradients are known beforehand."""

    def __init__(self, run: "Run"):
        super().__init__()
        self.run, self.weight = run, nn.Parameter(torch.zeros(14))
        run.start = torch.rand(()).item()  # as random weights would

    def forward(self, images, views):
        studies = ((images[:, 0, 0, 0, 0] * 0.229 + 0.485) * 255 / 50).round().int().tolist()
        assert views.sum(dim=1).tolist() == [2 if study == 1 else 1 for study in studies]
        half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        self.run.steps.append({"studies": studies, "training": self.training, "bf16": half})
        return (2 + self.weight).expand(len(images), -1)


class Run:
    """A training run and all that could be seen of it; validation as the script says."""

    def __init__(self, monkeypatch, *, seed: int = 1, **changes):
        self.steps, self.weights, self.options = [], [], []
        self.train, self.val = Studies(TRAIN), Studies(VAL)
        params = PARAMS.model_copy(update=changes)
        with monkeypatch.context() as patch, register_optimizer_step_pre_hook(self.record):
            patch.setattr(fit, "StudyClassifier", lambda backbone: Classifier(self))
            patch.setattr(fit, "predict", self.predict)
            self.fitted = fit.fit(self.train, self.val, params, seed=seed, device=CPU, batch_size=3)

    def record(self, optimiser, *rest) -> None:
        (group,) = optimiser.param_groups
        self.steps[-1] |= {"lr": group["lr"], "weight_decay": group["weight_decay"], "kind": type(optimiser)}
        self.steps[-1]["gradient"] = group["params"][0].grad.tolist()

    def predict(self, classifier, dataset, **options) -> np.ndarray:
        """Leaves the classifier in evaluation mode, as the real one does."""
        assert dataset is self.val
        probabilities = np.full((4, 14), 0.1)
        probabilities[:, 3] = PROBABILITIES[len(self.weights)]
        self.weights.append(classifier.eval().weight.tolist())
        self.options.append(options)
        return probabilities


@pytest.fixture
def run(monkeypatch) -> Run:
    return Run(monkeypatch)


def test_the_best_epoch_on_validation_is_kept(run):
    """Neither the last nor a later one that is only as good; in evaluation mode."""
    assert len({tuple(weights) for weights in run.weights}) == 4
    assert run.fitted.classifier.weight.tolist() == run.weights[1]
    assert not run.fitted.classifier.training


def test_thresholds_are_those_of_the_kept_epoch(run):
    """Probabilities of other epochs lie elsewhere: labels cut there would be wrong for all studies."""
    assert run.fitted.thresholds == pytest.approx([0.7 if k == 3 else 0.5 for k in range(14)])


def test_the_history_is_means_per_study(run):
    """The last, smaller batch weighs less: two studies of loss ln(1 + e^-2), three of ln(1 + e^2)."""
    loss = (2 * math.log1p(math.exp(-2)) + 3 * math.log1p(math.exp(2))) / 5
    rows = [[epoch, pytest.approx(loss, rel=1e-4), 0, score] for epoch, score in enumerate((0.75, 1, 1, 0.5), start=1)]
    assert [list(row) for row in run.fitted.history] == [["epoch", "loss", "skipped", "val_macro_AUROC"]] * 4
    assert [list(row.values()) for row in run.fitted.history] == rows


def test_each_step_follows_the_gradient_of_its_batch_alone(run):
    """Of the mean over studies and observations; no old gradient is added, no step is left out."""
    assert [len(step["studies"]) for step in run.steps] == [2, 2, 1] * 4
    for step in run.steps:
        expected = (1 / (1 + math.exp(-2)) - TRAIN[step["studies"]].mean()) / 14
        assert step["gradient"] == pytest.approx([expected] * 14, rel=1e-4)
        assert (step["kind"], step["weight_decay"]) == (torch.optim.AdamW, 0.25)


def test_rates_rise_and_fall_once_over_all_steps(run):
    """One cycle (Smith and Topin 2018) as torch has it: up from 1/25 in 0.3 of the steps, down to almost nothing."""

    def between(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    top = 0.3 * 12 - 1
    up = [between(1e-6 / 25, 1e-6, step / top) for step in range(3)]
    down = [between(1e-6, 1e-6 / 25e4, (step - top) / (11 - top)) for step in range(3, 12)]
    assert [step["lr"] for step in run.steps] == pytest.approx([*up, *down], rel=1e-6)


def test_every_step_trains_although_validation_leaves_evaluation_mode(run):
    assert all(step["training"] for step in run.steps)


def test_every_epoch_has_all_studies_in_an_order_of_its_own(run):
    """And tells the dataset which epoch it is: else augmentation would crop the same windows each time."""
    orders = run.train.orders()
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4]] * 4
    assert len({tuple(order) for order in orders}) > 2
    assert [study for step in run.steps for study in step["studies"]] == sum(orders, [])


def test_the_seed_decides_start_and_order(run, monkeypatch):
    torch.manual_seed(5)
    again, other = Run(monkeypatch), Run(monkeypatch, seed=2)
    assert (again.start, again.train.orders()) == (run.start, run.train.orders())
    assert other.start != run.start and other.train.orders() != run.train.orders()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_and_validation_have_the_precision_that_is_asked_for(monkeypatch, precision):
    run = Run(monkeypatch, precision=precision)
    assert [step["bf16"] for step in run.steps] == [precision == "bf16"] * 12
    options = {"precision": precision, "device": CPU, "batch_size": 3, "workers": 0, "group": ALONE}
    assert run.options == [options] * 4


def test_training_starts_from_the_weights_that_are_named(tmp_path, monkeypatch):
    """All but the head, which ImageNet has for other classes."""
    start, ours = resnet("resnet18", classes=1000).state_dict(), resnet("resnet18", classes=14)
    head = ours.fc.weight.clone()
    torch.save(start, tmp_path / "resnet.pth")
    monkeypatch.setattr(Classifier, "network", ours, raising=False)
    Run(monkeypatch, weights=str(tmp_path / "resnet.pth"), epochs=1)
    found = ours.state_dict()
    assert all(torch.equal(found[name], start[name]) for name in start if not name.startswith("fc."))
    assert torch.equal(ours.fc.weight, head)


@pytest.fixture(scope="module")
def classifier() -> StudyClassifier:
    """Its running statistics are not those of any batch, and its studies differ."""
    torch.manual_seed(0)
    classifier = StudyClassifier("resnet18")
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    classifier.network.fc.weight.data *= 20
    return classifier


@pytest.mark.parametrize("training", [True, False])
def test_a_study_s_logits_are_the_mean_over_the_views_that_are_there(classifier, training):
    """An absent view neither counts nor takes part in batch norm."""
    views = torch.tensor([[True, False], [True, True], [False, True]])
    images = torch.randn(3, 2, 3, 32, 32)
    images[~views] = torch.nan
    classifier = copy.deepcopy(classifier)
    reference = copy.deepcopy(classifier.network).train(training)
    with torch.no_grad():
        first, second, third, fourth = reference(torch.stack([images[0, 0], images[1, 0], images[1, 1], images[2, 1]]))
        found = classifier.train(training)(images, views)
    torch.testing.assert_close(found, torch.stack([first, (second + third) / 2, fourth]), rtol=1e-3, atol=1e-3)
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(classifier.network.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_predictions_are_of_evaluation_mode_in_the_dataset_s_order(classifier):
    """Else a study's labels hang on its neighbours, or stand beside another study."""
    classifier, alone = copy.deepcopy(classifier), classifier.network.eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    grey = [(50 * study / 255 - mean) / std for study in range(5)]
    with torch.no_grad():
        expected = torch.cat([alone(pixel.view(1, 3, 1, 1)).sigmoid() for pixel in grey])
    assert expected.std(dim=0).max() > 0.01
    for size in (2, 5):
        found = predict(classifier.train(), Studies(TRAIN), precision="float32", device=CPU, batch_size=size)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-4)
    half = predict(classifier, Studies(TRAIN), precision="bf16", device=CPU, batch_size=2)
    np.testing.assert_allclose(half, expected, atol=0.1)
    assert half.dtype == np.float32 and np.abs(half - expected.numpy()).max() > 3e-4


def test_a_loss_that_is_no_number_names_the_rate(monkeypatch):
    """Else the ranking on validation says that its input contains NaN, and nobody knows why."""
    forward = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", lambda self, *args: forward(self, *args) * torch.nan)
    with pytest.raises(ValueError, match="^classifier epoch 1/4: the loss is not a number any more; lower classifier"):
        Run(monkeypatch)


def test_a_step_without_numbers_is_left_out_and_counted(monkeypatch):
    """As in stage train: the mean is over the studies of the others."""
    forward = Classifier.forward

    def broken(self, images, views):
        logits = forward(self, images, views)
        return logits * torch.nan if len(self.run.steps) == 2 else logits

    monkeypatch.setattr(Classifier, "forward", broken)
    run = Run(monkeypatch, nonfinite="skip")
    rows = run.fitted.history
    assert [row["skipped"] for row in rows] == [1, 0, 0, 0] and all(math.isfinite(row["loss"]) for row in rows)
    taken = [study for step in (run.steps[0], run.steps[2]) for study in step["studies"]]
    expected = sum(math.log1p(math.exp(-2 if study < 2 else 2)) for study in taken) / len(taken)
    assert rows[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(run.weights).all()


def test_probabilities_that_are_no_numbers_are_refused(classifier):
    """A rate that is too high breaks the weights; labels cut from NaN would all be 0."""
    broken = copy.deepcopy(classifier)
    broken.network.fc.bias.data[3] = torch.nan
    studies = Studies(TRAIN)
    studies.name = lambda study: f"study CXR{study}"
    with pytest.raises(ValueError, match="^study CXR0: the classifier's probabilities are no numbers; lower class"):
        predict(broken, studies, precision="float32", device=CPU, batch_size=2)


def test_a_classifier_folder_is_all_that_prediction_needs(classifier, tmp_path):
    thresholds = np.linspace(0.1, 0.9, 14, dtype=np.float32)
    network.save(tmp_path / "classifier", classifier, thresholds)
    loaded, found = network.load(tmp_path / "classifier")
    np.testing.assert_array_equal(found, thresholds)
    assert loaded.backbone == "resnet18" and not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in classifier.state_dict().items())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"sizes": {}}, "not a classifier of this version: no 'backbone'"),
        ([1], "not a classifier of this version: list indices"),
        ({"backbone": "vgg16", "thresholds": {}}, "backbone 'vgg16' must be one of resnet18, resnet50, resnet101"),
        ({"backbone": "resnet18", "thresholds": {}}, "no 'Enlarged Cardiomediastinum'"),
        ({"backbone": "resnet18", "thresholds": dict.fromkeys(CONDITIONS, "high")}, "could not convert"),
    ],
)
def test_another_folder_than_a_classifier_s_is_one_line(tmp_path, content, line):
    write_json(tmp_path / "classifier.json", content)
    with pytest.raises(ValueError, match="classifier.json: ") as error:
        network.load(tmp_path)
    assert line in str(error.value) and "\n" not in str(error.value)
