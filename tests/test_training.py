"""The training recipe is the published one, and a run can be trusted to be the same run again."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.published import RECIPE
from tests.recorded import Studies
from xpronet.common import course
from xpronet.common.processes import Group
from xpronet.data.dataset import Batch
from xpronet.model.losses import Objective
from xpronet.model.xpronet import ModelConfig, Output, XProNet
from xpronet.training import loop
from xpronet.training.loop import optimiser, rate, selection_score, step, train


def test_two_rates_and_the_published_adam():
    model = XProNet(ModelConfig(vocab_size=5, backbone="resnet18", d_model=16, heads=4, layers=1, d_prototype=8))
    adam = optimiser(model, RECIPE)
    visual, rest = adam.param_groups
    assert {id(p) for p in visual["params"]} == {id(p) for p in model.visual.parameters()}
    assert len(visual["params"]) + len(rest["params"]) == len(list(model.parameters()))
    assert (visual["lr"], rest["lr"]) == (1e-3, 2e-3)
    expected = {"betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 5e-5, "amsgrad": True}
    assert {key: rest[key] for key in expected} == expected
    decaying = optimiser(model, RECIPE.model_copy(update={"weight_decay": 0.25}))
    assert [group["weight_decay"] for group in decaying.param_groups] == [0.25, 0.25]
    assert isinstance(adam, torch.optim.Adam) and not isinstance(adam, torch.optim.AdamW)


def test_rates_step_down_by_epoch():
    assert [rate(epoch, RECIPE) for epoch in (0, 9.9, 10, 20)] == pytest.approx([1, 1, 0.8, 0.64])


def test_rates_rise_and_fall_with_a_cosine():
    params = RECIPE.model_copy(update={"schedule": "cosine", "epochs": 12, "warmup_epochs": 2})
    found = [rate(epoch, params) for epoch in (0, 0.5, 2, 4.5, 7, 12)]
    assert found == pytest.approx([0, 0.25, 1, (1 + 0.5**0.5) / 2, 0.5, 0])
    assert rate(0.5, RECIPE.model_copy(update={"warmup_epochs": 2})) == 0.25  # before steps too


def test_adamw_decays_apart_from_the_gradient():
    model = XProNet(ModelConfig(vocab_size=5, backbone="resnet18", d_model=16, heads=4, layers=1, d_prototype=8))
    adamw = optimiser(model, RECIPE.model_copy(update={"optimiser": "adamw"}))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [group["lr"] for group in adamw.param_groups] == [1e-3, 2e-3]


def test_epochs_are_chosen_by_the_published_sum():
    assert selection_score({"BLEU_4": 0.1, "BLEU_1": 0.4, "METEOR": 0.2}) == pytest.approx(0.1 + 0.132 + 0.134)


# The loop itself, on five studies in batches of 2, 2 and 1, of a model whose every number is known beforehand.

NATS = (1.0, 2.0, 4.0, 8.0, 16.0)  # what the cross-entropy of each study starts from
RATES = {"lr_visual": 1e-3, "lr": 3e-3, "lr_decay": 0.5, "lr_step": 1, "weight_decay": 0.0}
LOOP = RECIPE.model_copy(update={"epochs": 7, "batch_size": 2, **RATES})
SCORES = [  # BLEU_4, BLEU_1, METEOR; the published sum is 0, .434, .3, .297, .335, .434, .566
    (0.0, 0.0, 0.0),
    (0.2, 0.1, 0.3),
    (0.3, 0.0, 0.0),
    (0.0, 0.9, 0.0),
    (0.0, 0.0, 0.5),
    (0.2, 0.1, 0.3),
    (0.1, 0.6, 0.4),
]


class Visual(nn.Linear):
    def freeze(self, frozen: bool) -> None:
        self.requires_grad_(not frozen)


class Model(nn.Module):
    """Its cross-entropy is a study's NATS less two weights, so that each gradient is -1 and Adam's step is the rate.

    All studies share the visual response, and have none to words.
    """

    def __init__(self, run: "Run"):
        super().__init__()
        self.run, self.nats = run, torch.tensor(NATS)
        self.visual, self.rest = Visual(1, 1, bias=False), nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.visual.weight)

    def forward(self, images, tokens, labels, *, views=None):
        studies = labels.argmax(dim=1)
        assert tokens.tolist() == [[0, study + 1, 0] for study in studies]
        assert views.sum(dim=1).tolist() == [2 if study == 1 else 1 for study in studies]
        torch.testing.assert_close(images[:, 0, 0, 0, 0], (50 * studies / 255 - 0.485) / 0.229)
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        self.run.events.append("step")
        self.run.steps.append({"studies": studies.tolist(), "training": self.training, "half": half})
        self.run.draws.append(torch.rand(()).item())  # as a dropout would
        size, length = len(studies), tokens.shape[1] - 1
        words = (self.visual.weight.sum() + self.rest - self.nats[studies])[:, None, None].expand(-1, length, 7)
        return Output(words, torch.ones(size, 1, 2), torch.zeros(size, length, 2), torch.ones(size, 1, dtype=bool))


class Run:
    """A training run and all that could be seen of it."""

    def __init__(self, *, poison: float | None = None):
        """`poison`: the cross-entropy of a study after the first epoch."""
        self.events, self.steps, self.draws, self.weights, self.saved = [], [], [], [], []
        self.poison, self.model, self.studies = poison, Model(self), Studies(np.eye(5))

    def train(self, *, seed: int = 1, frozen: Studies | None = None, **changes) -> "Run":
        params = LOOP.model_copy(update=changes)
        options = {"validate": self.validate, "save": self.save, "seed": seed, "device": torch.device("cpu")}
        objective = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
        self.history = train(self.model, self.studies, params, objective, frozen=frozen, **options)
        return self

    def validate(self, model: Model) -> dict[str, float]:
        """Scores as the script says; leaves the model in evaluation mode, as writing reports does."""
        assert model is self.model and not torch.is_autocast_enabled("cpu")
        self.events.append("validate")
        self.weights.append((model.visual.weight.item(), model.rest.item()))
        if self.poison is not None:
            model.nats[3] = self.poison
        model.eval()
        return dict(zip(("BLEU_4", "BLEU_1", "METEOR"), SCORES[len(self.weights) - 1], strict=True))

    def save(self, model: Model) -> None:
        assert model is self.model
        self.events.append("save")
        self.saved.append(len(self.weights))


@pytest.fixture(scope="module")
def run() -> Run:
    return Run().train()


def test_the_model_folder_holds_the_epoch_with_the_best_validation(run):
    """The first epoch counts even at score 0; of equal ones the earlier stays; no single score decides."""
    assert run.saved == [1, 2, 7]


def test_an_epoch_is_all_its_steps_then_validation_then_perhaps_the_model_folder(run):
    """Else the folder holds other weights than those whose scores stand beside it."""
    epoch = ["step"] * 3 + ["validate"]
    assert run.events == [*epoch, "save", *epoch, "save", *(epoch * 5), "save"]


def test_each_step_moves_the_weights_by_the_rates_of_its_epoch(run):
    """By Adam's rule for a gradient that stays: no step is left out or doubled, and no old gradient is added."""
    epochs = [3 * sum(0.5**past for past in range(epoch + 1)) for epoch in range(7)]
    for found, highest in zip(zip(*run.weights, strict=True), (1e-3, 3e-3), strict=True):
        assert found == pytest.approx([highest * steps for steps in epochs], rel=1e-4)


def test_every_step_trains_although_validation_leaves_evaluation_mode(run):
    """Else dropout and batch norm are off from the second epoch on."""
    assert len(run.steps) == 21 and all(step["training"] for step in run.steps)


def test_the_history_is_means_per_study(run):
    """The last, smaller batch weighs less; contrastive losses of 2, 2 and 1 studies that differ by hand: Eq. 17."""
    names = ["epoch", "lr", "total", "cross_entropy", "visual_contrastive", "textual_contrastive", "auxiliary"]
    validation = ["val_BLEU_4", "val_BLEU_1", "val_METEOR"]
    columns = ["epoch", "lr", "lr_visual", *names[2:], "gradient_norm", "skipped", *validation, "val_selection"]
    assert all(list(row) == columns for row in run.history)
    visual = (2 * 2 * (1 - 0.4) / 4 * 2) / 5  # two ordered pairs above the margin in each batch of 2
    textual = (2 * 2 / 4 * 2 + 1) / 5  # nothing is like nothing, itself included
    start = 0.0
    for epoch, row in enumerate(run.history):
        rates = 4e-3 * 0.5**epoch
        ce = 31 / 5 - start - (2 * 0 + 2 * 1 + 1 * 2) / 5 * rates
        start += 3 * rates
        expected = [epoch + 1, 3e-3 * 0.5**epoch, ce + visual + 0.1 * textual, ce, visual, textual, 0]
        assert [row[name] for name in names] == pytest.approx(expected, rel=1e-5)
        assert row["lr_visual"] == pytest.approx(1e-3 * 0.5**epoch)
        assert (row["gradient_norm"], row["skipped"]) == (pytest.approx(2**0.5, rel=1e-6), 0)  # -1 of either weight
    assert [tuple(row[name] for name in validation) for row in run.history] == SCORES
    selections = [row["val_selection"] for row in run.history]
    assert selections == pytest.approx([0, 0.434, 0.3, 0.297, 0.335, 0.434, 0.566])


def test_every_epoch_has_all_studies_in_an_order_of_its_own(run):
    """And tells the dataset which epoch it is: else augmentation would crop the same windows each time."""
    orders = run.studies.orders()
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4]] * 7
    assert len({tuple(order) for order in orders}) > 5
    assert [study for step in run.steps for study in step["studies"]] == sum(orders, [])


def test_the_seed_decides_order_and_dropout(run):
    """Whatever was drawn before; else a run cannot be had again, or three seeds are one."""
    torch.manual_seed(5)
    again = Run().train()
    assert (again.studies.orders(), again.draws) == (run.studies.orders(), run.draws)
    other = Run().train(seed=2)
    assert other.studies.orders() != run.studies.orders()
    assert not set(other.draws) & set(run.draws)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops_the_run_at_once(value):
    """Before its weights are scored or saved over good ones, with the line that says what to change."""
    run = Run(poison=value)
    with pytest.raises(ValueError, match="train epoch 2/7: the loss is not a number any more; lower train.lr or"):
        run.train()
    assert (run.saved, run.events[-1]) == ([1], "step")
    assert 3 in run.steps[-1]["studies"] and len(run.events) <= 5 + 3


@pytest.mark.parametrize(("precision", "half"), [("float32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_forward_pass_has_the_precision_that_is_asked_for(precision, half):
    assert [step["half"] for step in Run().train(epochs=1, precision=precision).steps] == [half] * 3


def test_fp16_scales_the_loss_and_takes_the_scale_back(run):
    """Before norm and clipping: the rows are those of float32, and so are the steps."""
    found = Run().train(precision="fp16")
    for row, expected in zip(found.history, run.history, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    assert found.weights == pytest.approx(np.array(run.weights), rel=1e-5)
    clipped = Run().train(precision="fp16", clip_norm=0.5, epochs=1)
    assert clipped.history[0]["gradient_norm"] == pytest.approx(2**0.5, rel=1e-5)


def overflowing(run: Run, limit: float) -> Run:
    """A gradient beyond `limit` is infinite, as it is in fp16 from 65,504 up."""
    run.model.rest.register_hook(lambda gradient: torch.where(gradient.abs() > limit, torch.inf, gradient))
    return run


def test_a_step_whose_scaled_gradient_overflows_is_left_out_and_counted():
    """The next has half the scale; no other step is touched, and nobody has to ask for it."""
    run = overflowing(Run(), 2**14.5).train(precision="fp16", epochs=2)
    assert [row["skipped"] for row in run.history] == [2, 0]
    assert run.weights[1] == pytest.approx((1e-3 + 3 * 0.5e-3, 3e-3 + 3 * 1.5e-3), rel=1e-4)


@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_a_loss_scale_that_collapses_ends_the_run(nonfinite, monkeypatch):
    """Not in silence, with a model that has learnt nothing."""
    monkeypatch.setattr(course, "SMALLEST_SCALE", 2**14.5)
    run = overflowing(Run(), 0)
    with pytest.raises(ValueError, match="the gradient is not a number at any scale of fp16; take bf16 or float32, or"):
        run.train(precision="fp16", nonfinite=nonfinite, epochs=7)
    assert run.model.rest.item() == 0 and len(run.steps) == 2


def test_rates_of_a_warm_up_and_a_cosine_change_with_every_step():
    """In the middle of each step, so that the first moves something."""
    params = {"schedule": "cosine", "epochs": 2, "warmup_epochs": 0.5}
    run = Run().train(**params)
    rates = np.cumsum([rate((step + 0.5) / 3, LOOP.model_copy(update=params)) for step in range(6)])
    assert [weights[0] for weights in run.weights] == pytest.approx([1e-3 * rates[2], 1e-3 * rates[5]], rel=1e-4)


def test_a_clipped_gradient_is_as_long_as_asked_for():
    """Adam does not see the length of gradients that are all alike, so one stays as it is and the next is cut."""
    model = nn.Linear(1, 1, bias=False)
    model.forward = lambda images, tokens, labels, views: Output(
        (1e3 * model.weight.sum()).expand(1, 1, 3), torch.ones(1, 1, 2), torch.ones(1, 1, 2), torch.ones(1, 1).bool()
    )
    pixels = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    batch = Batch(pixels, torch.ones(1, 1).bool(), torch.tensor([[0, 1]]), torch.ones(1, 1), torch.zeros(1))
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    objective = Objective(theta=1.5, alpha=0.4, lambda_visual=0.0, delta_textual=0.0)
    for clip_norm, moved in ((None, 1e3), (0.5, 0.5), (1e4, 1e3)):
        before = model.weight.item()
        step(model, sgd, batch, objective, "float32", clip_norm)
        assert abs(model.weight.item() - before) == pytest.approx(moved, rel=1e-3)


def test_the_first_epochs_are_of_the_frozen_dataset():
    """And the extractor's weight does not move in them."""
    run = Run()
    frozen = Studies(np.eye(5))
    run.train(epochs=4, freeze_epochs=2, frozen=frozen)
    assert (len(frozen.orders()), frozen.asked[-1][0]) == (2, 1)
    assert {epoch for epoch, _ in run.studies.asked} == {2, 3}
    visual = [weights[0] for weights in run.weights]
    assert visual[:2] == [0, 0] and visual[3] > visual[2] > 0
    assert run.weights[0][1] > 0


def test_the_extractor_alone_is_compiled_and_not_for_several_processes(monkeypatch):
    compiled = []
    monkeypatch.setattr(loop, "compile_in_place", lambda module, *, key: compiled.append((module, key)))
    run = Run()
    run.model.visual.layers = nn.Identity()
    run.train(epochs=1, compile=True)
    assert compiled == [(run.model.visual.layers, "train.compile")]
    options = {"validate": run.validate, "save": run.save, "seed": 1, "device": torch.device("cpu")}
    with pytest.raises(ValueError, match="^train.compile is for one process"):
        train(run.model, run.studies, LOOP.model_copy(update={"compile": True}), None, **options, group=Group(0, 2))
