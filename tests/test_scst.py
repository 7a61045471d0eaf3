"""Self-critical training: what is drawn is what is learnt, and what it earns is CIDEr-D as others compute it."""

import csv
import itertools
import os
import shutil
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pydantic import ValidationError

from stages import train as stage
from tests.conftest import sharing
from tests.made import PARAMS
from tests.published import RECIPE
from tests.test_systems import PERIOD, build, studies
from tests.test_training import LOOP, Run
from tests.test_what_the_model_reads import no_meteor
from xpronet.common.processes import ALONE
from xpronet.common.shares import Share, add_gradients, uniform
from xpronet.data.dataset import Batch
from xpronet.data.reports import Vocabulary
from xpronet.evaluation.rewards import Cider, Reward
from xpronet.model.decoding import sample
from xpronet.training.credit import Credit
from xpronet.training.loop import train
from xpronet.training.scst import Reinforce


def reports(count, longest, seed):
    random = np.random.default_rng(seed)
    return [[*random.integers(1, 6, random.integers(0, longest)).tolist(), 0] for _ in range(count)]


def test_cider_is_pycocoevalcap_s():
    """With the same references and document frequencies, the end of a report as a word."""
    references, hypotheses = reports(12, 9, seed=1), reports(12, 12, seed=2)
    hypotheses[3] = references[3]
    theirs = CiderScorer()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        theirs += (" ".join(map(str, hypothesis)), [" ".join(map(str, reference))])
    _, expected = theirs.compute_score()
    ours = Cider(references)
    found = [ours.score(hypothesis, study) for study, hypothesis in enumerate(hypotheses)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found[3] == pytest.approx(10, abs=1e-6) and len(set(found)) > 6


def test_a_report_that_breaks_off_earns_less():
    references = reports(6, 9, seed=3) + [[1, 2, 3, 4, 0]]
    ours = Cider(references)
    assert ours.score([1, 2, 3, 4, 0], 6) > ours.score([1, 2, 3, 4], 6) > 0


def test_rewards_are_weighed_and_meteor_sees_words():
    references, seen = [[1, 2, 0], [2, 0]], []

    def score(own, texts):
        seen.append((own, texts))
        return 0.0, np.array([0.25, 0.5])

    jar = SimpleNamespace(score=score)
    words = Vocabulary(["<unk>", "clear"])
    both = Reward(references, words, cider=0.5, meteor=2.0, jar=jar)([1, 0], [[2, 0], [1, 0]])
    alone = Reward(references, words, cider=1.0)([1, 0], [[2, 0], [1, 0]])
    np.testing.assert_allclose(both, 0.5 * alone + 2.0 * np.array([0.25, 0.5]))
    assert seen == [(["clear", "<unk> clear"], ["clear", "<unk>"])]


def test_samples_are_drawn_by_the_probabilities():
    torch.manual_seed(0)
    first = torch.log_softmax(torch.tensor([0.1, 1.0, -0.5]), dim=0)  # end, and words 1 and 2
    second = torch.log_softmax(torch.tensor([[9.0, 9.0, 9.0], [1.0, 0.0, 0.3], [-1.0, 0.5, 0.0]]), dim=1)  # by the last

    def step(tokens, position, parents):
        return second[tokens] if position else first.expand(*tokens.shape, -1)

    count = 40_000
    tokens = sample(step, 1, samples=count, max_length=2)[0]
    expected = {(0, 0): first[0].exp()} | {(a, b): (first[a] + second[a, b]).exp() for a in (1, 2) for b in range(3)}
    for report, probability in expected.items():
        share = (tokens == torch.tensor(report)).all(dim=1).float().mean()
        assert share == pytest.approx(
            probability.item(), abs=5 * (probability * (1 - probability) / count).sqrt().item()
        )
    assert sum(expected.values()) == pytest.approx(1)


def test_draws_belong_to_places_in_the_batch():
    """Else another number of processes would sample other reports."""
    like = torch.empty(5, 2, 3)
    torch.manual_seed(4)
    whole = uniform(like)
    parts = []
    for share in Share(0, 5, 5).parts(2):
        torch.manual_seed(4)
        with share:
            parts.append(uniform(like[share.start : share.stop]))
    assert torch.equal(torch.cat(parts), whole) and whole.min() > 0 and whole.max() < 1


CPU = torch.device("cpu")
WORDS, LENGTH = 2, 2


def earns(places, written):
    """A reward that looks at every token, the end among them, and at the study."""
    return np.array(
        [
            (1 + place) * sum((at + 1) * (token + 0.3) for at, token in enumerate(ids))
            for place, ids in zip(places, written, strict=True)
        ]
    )


@pytest.mark.parametrize("name", ["att2in", "xpronet"])
def test_the_gradient_is_the_score_function_s(name):
    """Of the mean reward, by every report that there is; the greedy baseline adds nothing to it in the mean."""
    model = build(name, words=WORDS).double()
    images, _, labels, views = studies(2, words=WORDS)
    images, labels = images.double(), labels.double()
    bodies = [(*body, 0) for n in range(LENGTH) for body in itertools.product((1, 2), repeat=n)]
    every = bodies + list(itertools.product((1, 2), repeat=LENGTH))
    model.eval()
    mean = 0.0
    for ids in every:
        given = torch.tensor([[0, *ids, *(0,) * (LENGTH - len(ids))]]).expand(2, -1)
        log_probs = model(images, given, labels, views=views).log_probs
        own = log_probs.gather(-1, given[:, 1:, None]).squeeze(-1)[:, : len(ids)].sum(dim=1)  # (B,)
        mean = mean - (own.exp() * torch.from_numpy(earns([0, 1], [ids, ids]))).mean()
    weight = model.head.weight
    (expected,) = torch.autograd.grad(mean, weight)

    objective = Reinforce(earns, samples=4000, max_length=LENGTH)
    torch.manual_seed(5)
    batch = Batch(images, views, torch.zeros(2, 1, dtype=torch.int64), labels, torch.arange(2))
    losses = objective.losses(model, batch)
    (found,) = torch.autograd.grad(losses.total, weight)
    assert (found - expected).norm() < 0.06 * expected.norm()
    assert losses.reward.item() == pytest.approx(-mean.item(), rel=0.03)
    assert not model.training


STEPS = (
    ("att2in", "report", 1),
    ("xpronet", "report", 1),
    ("xpronet", "word", 1),
    ("hrgr", "sentence", 3),
    ("hrgr", "report", 1),
)


@pytest.mark.apart
def test_processes_take_the_step_of_one():
    """The last batch may have fewer studies than there are processes: losses and gradient are those of one process."""
    for name, by, count in STEPS:
        take_the_step_of_one(name, by, count)


def take_the_step_of_one(name: str, by: str, count: int) -> None:
    words = Vocabulary(["<unk>", "a", "b", "c", "d", "e", "f"])
    jar = SimpleNamespace(score=lambda own, texts: (0.0, np.array([len(text) / 10 for text in texts or 1 / 0])))
    reward = Reward([[4 + study, 2, 1, 0] for study in range(count)], words, cider=1.0, meteor=0.5, jar=jar)
    credit = None if by == "report" else Credit(reward.gains, by=by, discount=0.9, period=PERIOD)

    def step(group) -> list[torch.Tensor]:
        model, (images, _, labels, views) = build(name), studies(count)
        share = Share.of(group, count)
        own = [each[share.start : share.stop] for each in (images, views, labels, torch.arange(count))]
        torch.manual_seed(5)
        with share:
            batch = Batch(own[0], own[1], torch.zeros(len(own[0]), 1).long(), *own[2:])
            losses = Reinforce(reward, samples=4, max_length=15, credit=credit).losses(model, batch)
        losses.total.backward()
        add_gradients(model.parameters(), group)
        return [*(each.detach() for each in losses), model.head.weight.grad]

    alone = step(ALONE)
    assert alone[-1].any()

    def compare(group) -> None:
        torch.testing.assert_close(step(group), alone)

    assert sharing(compare) == [0, 0]


def test_what_earns_more_becomes_likelier():
    """Every study learns to write the word that pays, and to stop after it."""
    model = build("att2in", words=5)
    images, _, labels, views = studies(4, words=5)
    batch = Batch(images, views, torch.zeros(4, 1, dtype=torch.int64), labels, torch.arange(4))
    pays = [3, 1, 4, 2]

    def reward(places, written):
        return np.array(
            [
                float(ids == [pays[place], 0]) + 0.3 * (pays[place] in ids)
                for place, ids in zip(places, written, strict=True)
            ]
        )

    adam = torch.optim.Adam([each for key, each in model.named_parameters() if not key.startswith("visual.")], lr=1e-2)
    objective = Reinforce(reward, samples=16, max_length=3)
    torch.manual_seed(6)
    for _ in range(150):
        adam.zero_grad()
        losses = objective.losses(model, batch)
        losses.total.backward()
        adam.step()
    assert losses.greedy_reward.item() == pytest.approx(1.3)
    written = model.generate(images, labels, views=views, beam_size=1, max_length=3).tokens
    assert written.tolist() == [[word, 0, 0] for word in pays]


def history():
    with open("metrics/history.tsv", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


CREDITS = {
    "xpronet": {},
    "st": {"credit": "sentence", "kind_reward": 1.0, "cider_reward": 0.0, "discount": 0.9},
    "hrgr": {"credit": "word"},
}


@pytest.mark.parametrize("name", CREDITS)
def test_a_second_phase_goes_on_from_a_trained_folder(made, monkeypatch, name):
    """With a last batch of one study in one patch: batch norm is in evaluation mode."""
    monkeypatch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor()))
    made.run("train", system=name)
    assert {"total", "cross_entropy"} <= set(history()[0])
    shutil.copytree("data/model", "start")
    changes = {"epochs": 1, "batch_size": 11, "freeze_epochs": 0, "val_beam_size": 2, "val_max_length": 6, "samples": 2}
    made.run(
        "train",
        system=name,
        train=changes | {"start": "start", "phase": "scst", "schedule": "steps", "warmup_epochs": 0} | CREDITS[name],
    )
    (row,) = history()
    assert {"total", "reward", "greedy_reward"} <= set(row) and "cross_entropy" not in row
    assert 0 <= float(row["greedy_reward"]) <= 10
    made.run("curves")


@pytest.mark.apart
def test_every_process_starts_java_only_where_its_samples_earn_meteor(made, monkeypatch):
    """It takes a gigabyte in each."""

    @contextmanager
    def starting():
        Path("started", str(os.getpid())).touch()
        yield no_meteor()

    monkeypatch.setattr(stage, "running_meteor", starting)
    monkeypatch.setattr(stage, "shared", lambda params, work: sharing(lambda group: work(params, CPU, group)))
    for changes, count in (
        ({"phase": "cross_entropy"}, 1),
        ({"phase": "scst", "start": "start", "samples": 1, "val_max_length": 4}, 2),
    ):
        Path("started").mkdir()
        made.run("train", system="st", train=PARAMS["train"] | {"meteor_reward": 0.5} | changes)
        assert len(os.listdir("started")) == count
        shutil.rmtree("started")
        shutil.copytree("data/model", "start", dirs_exist_ok=True)


def test_too_little_memory_names_what_this_phase_has():
    """It is never computed in parts, and its samples count."""
    run = Run()

    def read(*given):
        raise RuntimeError("CUDA out of memory")

    run.model.patch_features = read
    options = {"validate": run.validate, "save": run.save, "seed": 1, "device": torch.device("cpu")}
    line = r": set train.checkpointing=true, .*; else lower train.samples = \d+ or train.batch_size"
    with pytest.raises(ValueError, match=line) as error:
        train(run.model, run.studies, LOOP, Reinforce(earns, samples=4, max_length=3), **options)
    assert "accumulate" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "phase scst goes on from a trained model: set train.start to its folder"),
        ({"start": "m", "cider_reward": 0.0, "meteor_reward": 0.0}, "all 0: nothing is earned"),
        ({"start": "m", "accumulate": 2}, "accumulate 2 is for phase cross_entropy"),
    ],
)
def test_an_impossible_phase_is_one_line(changes, line):
    with pytest.raises(ValidationError, match=line):
        type(RECIPE).model_validate(RECIPE.model_dump() | {"phase": "scst"} | changes)
