"""The number of processes decides how soon a training ends, not what it ends in; none waits for one that is gone."""

import copy
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import stages.classify
import stages.train
from benchmarks import kills, processes
from tests.conftest import ended, forked, forking, launched, sharing
from xpronet.common.devices import loss_scaling
from xpronet.common.processes import LOST, Group, together
from xpronet.common.shares import BatchNorm, Share, descend, same_statistics, synchronise
from xpronet.common.states import States
from xpronet.data.dataset import EpochSampler, ShareSampler

CPU = torch.device("cpu")


def test_two_processes_train_what_one_trains():
    """With dropout, batch norm, validation: losses, scores and weights, of whole batches and of one study for two."""
    said = forking("from benchmarks import processes; print(processes.main((1, 2)))")
    assert float(said.split()[-1]) <= processes.LIMIT


@pytest.mark.parametrize(
    ("end", "line"), [("exit(3)", "its error, code 3, stands above"), ("os.kill(os.getpid(), 9)", "killed by SIGKILL")]
)
def test_a_process_that_dies_ends_the_run(end, line, monkeypatch, capfd):
    """Even while the first waits for it: the line says which process it was."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", f"import os; os.environ['RANK'] == '1' and {end}"])

    def work():
        with together(2, CPU):
            pass

    assert ended(forked(work), within=30) == 1
    assert f"process 2 of 2 has ended: {line}; all end\n" in capfd.readouterr().err


@pytest.mark.parametrize(("threads", "each"), [(None, 1), (3, 3)])
def test_processes_that_this_one_starts_find_it(threads, each, monkeypatch):
    """Each is the same command; what the first has to tell reaches them, and what they have reaches it.

    They share its threads, or each has as many as it is told.
    """
    same = (
        "import torch; from xpronet.common.processes import together\n"
        f"with together(1, torch.device('cpu'), threads={threads}) as group: "
        "group.gathered([group.rank, group.told(0), torch.get_num_threads()])"
    )
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", same])

    def work():
        torch.set_num_threads(2)
        with together(2, CPU, threads=threads) as group:
            found = group.gathered([group.rank, group.told(7), torch.get_num_threads()])
            assert found == [[0, 7, each], [1, 7, each]]
        return 0

    assert ended(forked(work), within=120) == 0


def test_a_process_that_a_launcher_started_does_not_wait_for_one_that_is_gone():
    port = processes.free_port()

    def work(rank: int):
        launched(rank, 2, port)
        with together(1, CPU) as group:
            assert (group.rank, group.size, group.largest(rank)) == (rank, 2, [1])
            if group.rank:
                os.kill(os.getpid(), signal.SIGKILL)
            group.wait()

    children = [forked(lambda rank=rank: work(rank)) for rank in range(2)]
    assert ended(children[1], within=30) == -signal.SIGKILL
    assert ended(children[0], within=30) == LOST


def test_processes_leave_out_the_same_step_of_fp16():
    """Where the gradient of one overflows: else their weights and loss scales part for ever."""
    assert forking("from tests import test_processes; test_processes.overflowing()").split() == ["0", "0"]


def overflowing() -> None:
    port = processes.free_port()

    def work(rank: int):
        launched(rank, 2, port)
        with together(1, CPU) as group:
            weight = nn.Parameter(torch.ones(2))
            sgd, scaler = torch.optim.SGD([weight], lr=1.0), loss_scaling(CPU, "fp16")
            for gradient in (torch.inf if rank else 1.0, 1.0):
                sgd.zero_grad()
                scaler.scale(gradient * weight.sum()).backward()
                _, norm = descend([weight], sgd, torch.ones(1), scaler=scaler, group=group)
            assert scaler.get_scale() == 2**15 and weight.tolist() == [-1, -1] and abs(norm.item() - 8**0.5) < 1e-6
        return 0

    children = [forked(lambda rank=rank: work(rank)) for rank in range(2)]
    print(*(ended(child, within=60) for child in children))


def test_a_stage_of_one_process_is_not_started_twice(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="is for one process, and is one of 2 here: start it without a launcher"):
        kills.run(lambda: None)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_each_study_of_an_epoch_belongs_to_one_process(size):
    """In the order of one process; a process without a study in the last, small batch has one to drop."""
    sampler = EpochSampler(14, shuffle=True, seed=1)
    shares = [list(ShareSampler(sampler, 4, Group(rank, size))) for rank in range(size)]
    order = list(sampler)
    for step in range(4):
        batch = order[4 * step : 4 * step + 4]
        own = [Share.of(Group(rank, size), len(batch)) for rank in range(size)]
        together = [item for rank in range(size) for item in shares[rank][step][: own[rank].stop - own[rank].start]]
        assert together == batch
        assert all(each[step] for each in shares)


def own_statistics() -> None:
    """Train and classify with two processes, each with its own statistics; say how far they lie from those of all."""
    train, fit = stages.train.train, stages.classify.fit

    def keep(module: nn.Module) -> None:
        torch.save(dict(module.named_buffers()), f"buffers{os.environ['RANK']}.pt")

    def training(model: nn.Module, *args, **options):
        history = train(model, *args, **options)
        keep(model)
        return history

    def fitting(*args, **options):
        fitted = fit(*args, **options)
        keep(fitted.classifier)
        return fitted

    stages.train.train, stages.classify.fit = training, fitting
    with tempfile.TemporaryDirectory() as folder:
        source, names = Path(folder) / "source", {"train": "visual.layers.1", "classify": "network.bn1"}
        kills.make(source)
        for kind, name in names.items():
            found = []
            for sync in (True, False):
                for group in ("train", "classifier"):
                    processes.CHANGES[group] |= {"batch_size": 7, "sync_batch_norm": sync}
                place = Path(folder) / f"{kind} {sync}"
                processes.trained(source, place, kind, 2)
                first, second = (torch.load(place / f"buffers{rank}.pt") for rank in range(2))
                assert all(torch.equal(first[name], second[name]) for name in first)
                found.append(first[f"{name}.running_mean"])
            print((found[0] - found[1]).abs().max().item())


def stopped() -> None:
    """Two processes train, and the first is asked to end in its second step; say how they end, and go on."""
    step, save = stages.train.train.__globals__["step"], States.save
    with tempfile.TemporaryDirectory() as folder:
        source, place = Path(folder) / "source", Path(folder) / "stopped"
        kills.make(source)
        _, expected = processes.trained(source, Path(folder) / "whole", "train", 2)
        shutil.copytree(source, place)
        processes.configure(place, "train")
        steps = []

        def asked(*args, **options):
            steps.append(1)
            if os.environ["RANK"] == "0" and len(steps) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*args, **options)

        def slow(self, number: int, *args):
            time.sleep(number == 2)
            save(self, number, *args)

        stages.train.train.__globals__["step"], States.save = asked, slow
        port, ends = processes.free_port(), []
        children = [processes.fork(place, "train", rank, 2, port) for rank in range(2)]
        for _ in children:
            child, status = os.wait()
            ends.append(time.monotonic())
            print(os.waitstatus_to_exitcode(status))
        assert ends[1] - ends[0] < 0.9
        print((place / "log").read_text().count("SIGTERM: training ends in epoch 1 after step 2: its state is saved"))
        stages.train.train.__globals__["step"] = step
        _, found = processes.trained(place, Path(folder) / "on", "train", 2)
        print(int(all(torch.equal(found[name], expected[name]) for name in expected)))
        print((Path(folder) / "on/log").read_text().count("goes on in epoch 1 after step 2"))


def test_a_signal_ends_all_processes_once_the_first_has_saved():
    """One that ended before it would have a launcher end it while it saves; all say the signal's code."""
    assert forking("from tests import test_processes; test_processes.stopped()").split() == [
        "143",
        "143",
        "1",
        "1",
        "1",
    ]


def test_batch_norm_can_be_left_to_each_process():
    """`sync_batch_norm: false`, in train and classify; what is validated and saved has the statistics of the first."""
    said = forking("from tests import test_processes; test_processes.own_statistics()")
    assert all(float(far) > 1e-3 for far in said.split()) and len(said.split()) == 2


def test_all_processes_take_over_the_statistics_of_the_first():
    def work(group: Group):
        network = nn.BatchNorm2d(3)
        network(torch.full((2, 3, 4, 4), 10.0 * (group.rank + 1)))
        same_statistics(network, group)
        assert torch.equal(network.running_mean, torch.ones(3)) and network.num_batches_tracked == 1

    assert sharing(work) == [0, 0]


def test_batch_norm_becomes_that_of_all_processes_in_place():
    """State and holders stay; outside a share it is the plain one."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    norm, images = network[1], torch.randn(2, 3, 8, 8)
    expected, names = network(images), list(network.state_dict())
    synchronise(network)
    assert network[1] is norm and isinstance(norm, BatchNorm) and list(network.state_dict()) == names
    assert torch.equal(network(images), expected)


@pytest.mark.apart
def test_batch_norm_of_all_processes_is_that_of_the_whole_batch():
    """Whoever has how many images, and one none."""
    layouts, precisions = (torch.contiguous_format, torch.channels_last), (torch.float64, torch.float32, torch.bfloat16)

    def work(group: Group):
        for case in itertools.product((3, 5, 0), precisions, layouts):
            normalised(group, *case, device=CPU)

    assert sharing(work) == [0, 0]


def normalised(
    group: Group, first: int, precision: torch.dtype, layout: torch.memory_format, *, device: torch.device
) -> None:
    """Values, gradients and running statistics of five images, of which the first process has so many."""
    torch.manual_seed(1)
    weights = torch.float64 if precision == torch.float64 else torch.float32
    plain, images = nn.BatchNorm2d(4).to(device, weights), 3 * torch.randn(5, 4, 6, 7) + 2
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    upstream = torch.randn(5, 4, 6, 7).to(device, precision)
    images = images.to(device, precision).contiguous(memory_format=layout)
    whole, norm, x = copy.deepcopy(plain), copy.deepcopy(plain), images.to(weights).requires_grad_()
    expected = whole(x)
    expected.backward(upstream.to(weights))
    near = {"rtol": 1e-9, "atol": 1e-9} if precision == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    rounded = {"rtol": 2e-2, "atol": 2e-2} if precision == torch.bfloat16 else near

    own = slice(0, first) if group.first else slice(first, 5)
    part = images[own].detach().requires_grad_()
    synchronise(norm)
    with Share(own.start, own.stop, 5, group):
        found = norm(part)
        found.backward(upstream[own])
    assert found.dtype == part.grad.dtype == precision
    torch.testing.assert_close(found.to(weights), expected[own], **rounded)
    torch.testing.assert_close(part.grad.to(weights), x.grad[own], **rounded)
    for name in ("weight", "bias"):
        of_all = group.add(getattr(norm, name).grad.clone())
        torch.testing.assert_close(of_all, getattr(whole, name).grad, **rounded)
    assert norm.num_batches_tracked == 1
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm, name), getattr(whole, name), **near)


@pytest.mark.apart
def test_channels_without_spread_stay_numbers():
    """Rounding can bring their variance below nothing."""
    level = torch.linspace(5e5, 1e6, 512)[:, None, None]

    def work(group: Group):
        norm, own = BatchNorm(512), 3 if group.first else 5
        part = level.expand(own, 512, 14, 14).contiguous().requires_grad_()
        with Share(0 if group.first else 3, 3 if group.first else 8, 8, group):
            found = norm(part)
            found.sum().backward()
        assert found.isfinite().all() and part.grad.isfinite().all()

    assert sharing(work) == [0, 0]
