"""Processes that compute one result together: how they find each other, and how the end of one ends all.

`runtime.processes` starts them on this machine, each a copy of this very command. Where the environment has RANK and
WORLD_SIZE, as `torchrun` and `accelerate launch` set them, on one machine or several, they are started already.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from xpronet.common.threads import take

logger = logging.getLogger(__name__)

PATIENCE = timedelta(hours=1)  # with a process that lives: as long as the first alone ever scores or writes
LOST = 75  # exit code of a process that ends because another does
CLOSED = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport", "ncclRemoteError")


@dataclass(frozen=True)
class Group:
    """This process among those that compute a result; alone, each method gives back what it is given."""

    rank: int = 0  # 0 is the one that writes, scores and decides
    size: int = 1
    local: int = 0  # its number on its machine

    @property
    def first(self) -> bool:
        return self.rank == 0

    def place(self, device: torch.device) -> torch.device:
        """Its own device: each process takes the next GPU of its machine."""
        if self.size == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", self.local % torch.cuda.device_count())

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, *numbers: int) -> list[int]:
        """Of each number the largest that a process has."""
        if self.size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def told(self, found: Any) -> Any:
        """What the first process has found; the others wait for it."""
        if self.size == 1:
            return found
        box = [found if self.first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, found: Any) -> list[Any]:
        """What each process has found, in their order."""
        if self.size == 1:
            return [found]
        boxes: list[Any] = [None] * self.size
        dist.all_gather_object(boxes, found)
        return boxes

    def to_first(self, found: Any) -> list[Any]:
        """What each process has found, in their order, for the first one; nothing for the others."""
        if self.size == 1:
            return [found]
        boxes: list[Any] = [None] * self.size
        dist.gather_object(found, boxes if self.first else None, dst=0)
        return boxes if self.first else []

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = Group()


@contextmanager
def together(processes: int, device: torch.device, *, threads: int | None = None) -> Iterator[Group]:
    """Be one of the processes for the block: of those that a launcher has started, else of `processes` on this machine.

    When one ends before its time, the others do, too, and the first says which: within seconds, where it has started
    them; else the launcher does.

    Args:
        threads: of each; None: their shares of this one's where it starts them, else as it has them.

    Raises:
        ValueError: more than one on a device whose results PyTorch cannot add up.
    """
    outside = "WORLD_SIZE" in os.environ
    size = int(os.environ["WORLD_SIZE"]) if outside else processes
    take(threads)
    if size == 1:
        yield ALONE
        return
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"runtime.processes = {size}: more than one needs runtime.device cpu or cuda, not {device}")
    threads = threads or max(1, torch.get_num_threads() // processes)
    if outside:
        group, children = Group(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", 0))), None
    else:
        group, store = Group(0, size), dist.TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        children = _Children(size, store.port, threads)
        torch.set_num_threads(threads)
    if not group.first:
        _follow()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    crowded = device.type == "cpu" or local > torch.cuda.device_count()  # NCCL wants a GPU for each
    if "XPRONET_PARENT" in os.environ:
        store = dist.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), size, is_master=False)
    elif outside:
        store = None  # the launcher's
    began = {"store": store, "rank": group.rank, "world_size": size} if store else {}
    try:
        dist.init_process_group("gloo" if crowded else "cpu:gloo,cuda:nccl", timeout=PATIENCE, **began)
        yield group
        group.wait()
        dist.destroy_process_group()
        if children:
            children.finish()
    except RuntimeError as error:
        if children:
            children.blame()
        text = " ".join(str(error).split())
        if not any(closed in text for closed in CLOSED):
            raise
        logger.error("process %d of %d: another process is gone (%s)", group.rank + 1, size, text[:200])
        raise SystemExit(LOST) from error
    finally:
        if children:
            children.end()


class _Children:
    """Copies of this command, as processes 1, 2, … beside this one, and a thread that watches them."""

    def __init__(self, size: int, port: int, threads: int):
        self._size, self._over, self._ended = size, threading.Event(), threading.Event()
        common = {**os.environ, "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": str(threads)}
        common |= {"XPRONET_PARENT": str(os.getpid())}
        self._processes = {
            rank: subprocess.Popen(sys.orig_argv, env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(1, size)
        }
        threading.Thread(target=self._watch, daemon=True).start()

    def finish(self) -> None:
        """Wait for their ends, which are near."""
        for process in self._processes.values():
            process.wait(timeout=60)

    def blame(self) -> None:
        """After an error here, give the watch its time: it may be that of a child."""
        self._ended.wait(3)

    def end(self) -> None:
        self._over.set()
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            if not any(self._failed()):
                continue
            for _ in range(10):  # the one at fault may be a moment behind those that have lost it, or be this one
                if self._over.wait(1):
                    return
                rank, code = min(self._failed().items(), key=lambda item: item[1] == LOST)
                if code != LOST:
                    break
            why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"its error, code {code}, stands above"
            print(f"process {rank + 1} of {self._size} has ended: {why}; all end", file=sys.stderr, flush=True)
            for process in self._processes.values():
                process.kill()
            os._exit(1)  # the main thread may wait in a collective for ever

    def _failed(self) -> dict[int, int]:
        codes = {rank: process.poll() for rank, process in self._processes.items()}
        return {rank: code for rank, code in codes.items() if code}


def _follow() -> None:
    """Of all but the first process: leave signals to it, which decides what is still to be done, and end with it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger().setLevel(logging.ERROR)
    parent = int(os.environ.get("XPRONET_PARENT", 0))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(LOST)

    if parent:
        threading.Thread(target=watch, daemon=True).start()
