"""The number of processes decides how soon a training ends, not what it ends in; none waits for one that is gone."""

import os
import signal
import sys
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks import kills, processes
from tests.conftest import forking
from xpronet.common.course import descend
from xpronet.common.devices import loss_scaling
from xpronet.common.processes import LOST, Group, together
from xpronet.common.shares import BatchNorm, Share, synchronise
from xpronet.data.dataset import EpochSampler, ShareSampler

CPU = torch.device("cpu")


def forked(work: Callable[[], int | None]) -> int:
    """A child's id, whose exit code is what `work` returns or exits with."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = work() or 0
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code)


def ended(child: int, *, within: float) -> int:
    """Its exit code, and at once."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"still running after {within} s")


def launched(rank: int, size: int, port: int) -> None:
    """Be a process as torchrun starts it."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}


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


def test_processes_that_this_one_starts_find_it(monkeypatch):
    """Each is the same command; what the first has to tell reaches them, and what they have reaches it."""
    same = (
        "import torch; from xpronet.common.processes import together\nwith together(1, torch.device('cpu')) as group: "
    )
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", f"{same}group.gathered([group.rank, group.told(0)])"])

    def work():
        torch.set_num_threads(1)
        with together(2, CPU) as group:
            assert group.gathered([group.rank, group.told(7)]) == [[0, 7], [1, 7]]
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
    assert [ended(child, within=60) for child in children] == [0, 0]


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


def test_batch_norm_becomes_that_of_all_processes_in_place():
    """State and holders stay; outside a share it is the plain one."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    norm, images = network[1], torch.randn(2, 3, 8, 8)
    expected, names = network(images), list(network.state_dict())
    synchronise(network)
    assert network[1] is norm and isinstance(norm, BatchNorm) and list(network.state_dict()) == names
    assert torch.equal(network(images), expected)
