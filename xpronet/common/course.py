"""The course of a training: where it stands, which is all that decides what follows, saved now and then and restored.

Killed at any moment and started again it ends in the same bytes: a state holds weights and buffers, optimiser, schedule
and fp16's loss scale, the random generators, the epoch and the step in it, the sums since the epoch began, the history
and the best epoch. The order of an epoch and its augmentation follow from seed, epoch and study
(xpronet/data/dataset.py).
"""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from xpronet.common.devices import loss_scaling
from xpronet.common.files import replacing
from xpronet.common.processes import ALONE, LOST, Group
from xpronet.common.progress import track
from xpronet.common.shares import Share
from xpronet.common.snapshot import (
    flat,
    parts_of,
    random_states,
    restore_optimiser,
    restore_statistics,
    set_random_states,
    statistics,
)
from xpronet.common.states import States
from xpronet.common.weights import save_tensors

logger = logging.getLogger(__name__)

Row = dict[str, float]
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SMALLEST_SCALE = 1.0  # of losses in fp16: below it the gradient itself overflows
WAITING = 0.2  # share of an epoch's time from which its loader is the bottleneck


class Stopped(SystemExit):
    """A signal has asked for the end: the exit code is the one that shells give it, 128 and its number."""


class Course:
    """Where a training stands. Enter it around the loop: a signal then ends the run at a step, its state saved."""

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        *,
        device: torch.device,
        states: States | None,
        group: Group = ALONE,
        precision: str = "float32",
    ):
        """`states`: None keeps nothing, and leaves signals alone; only the first process of the group has some."""
        self.module, self.optimiser, self.schedule = module, optimiser, schedule
        self.device, self._states, self._group = device, states, group
        self.scaler = loss_scaling(device, precision)
        self.epoch, self.done, self._steps = 0, 0, 0  # epochs, steps of this one and of all that are behind
        self.history: list[Row] = []  # a row per epoch, of what is the same again
        self.pace: list[Row] = []  # of what it took, which is not
        self.best: int | None = None  # the epoch, from 0
        self.share = Share(0, 0, 0)  # of the step's batch, to be entered around it
        self._score, self._sums, self._unsaved = None, {}, {}
        self._signal, self._validating, self._saved, self._warned = 0, False, False, False
        self._clock = [0.0, 0.0, 0]  # seconds of this epoch, those of them spent waiting for data, images

    def __enter__(self) -> "Course":
        self._handlers = {}
        if self._states is not None and threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._asked) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def restore(self) -> dict[str, Tensor]:
        """Go on from the newest state, if there is one -> what was kept of the best epoch."""
        found = self._group.told(self._states and self._states.load())
        if not found:
            return {}
        content, tensors, best = found
        for name in ("epoch", "done", "history", "pace", "best"):
            setattr(self, name, content[name])
        self._score, self._steps = content["score"], content["steps"]
        parts = parts_of(tensors)
        self.module.load_state_dict(parts["module"])
        restore_optimiser(self.optimiser, content["groups"], parts.get("optimiser", {}))
        self.schedule.load_state_dict(content["schedule"])
        self.scaler.load_state_dict(content["scaler"])
        self._sums = parts.get("sums", {})
        set_random_states(parts["generators"], self.device)
        if self._states:
            logger.info("goes on in epoch %d after step %d: %s", self.epoch + 1, self.done, self._states.folder)
        return best

    def sums(self, **zero: Tensor) -> dict[str, Tensor]:
        """What an epoch adds up in place, as far as it is: `zero` at its beginning."""
        self._sums = {
            name: self._sums[name].to(tensor.device) if self._sums else tensor for name, tensor in zero.items()
        }
        return self._sums

    def batches(self, batches: DataLoader, *, what: str) -> Iterator[Any]:
        """Those that are left of the epoch; each must have been learnt from when the next is asked for."""
        order, size = batches.batch_sampler.sampler, batches.batch_sampler.batch_size
        order.epoch, order.start = self.epoch, self.done * size
        drawn = random_states(self.device)
        left = track(iter(batches), what=what, unit="batches", total=len(batches), done=self.done)
        if self.done:  # an iterator draws a number for its workers: once per epoch
            set_random_states(drawn, self.device)
        self._clock = [0.0, 0.0, 0]
        began = asked = time.perf_counter()
        for batch in left:
            self._clock[1] += time.perf_counter() - asked
            self.share = Share.of(self._group, min(size, len(order) - self.done * size))
            if self._group.size > 1:
                batch = batch.part(0, self.share.stop - self.share.start)
                batch = batch.widened(*self._group.largest(batch.views.shape[1], batch.tokens.shape[1]))
            self._clock[2] += int(batch.views.sum())
            self._drawn = random_states(self.device)
            yield batch
            self.done, self._steps = self.done + 1, self._steps + 1
            (self._signal,) = self._group.largest(self._signal)
            if self._states and (self._signal or self._states.due()):
                self._save()
            if self._signal:
                self._group.wait()  # a launcher ends all when the first to end has done so: not while one saves
                self._end()
            asked = time.perf_counter()
        self._clock[0] = time.perf_counter() - began
        self._clock[2] = sum(self._group.gathered(self._clock[2]))

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Around what learns nothing: a signal ends it at once, and the state is that before it."""
        drawn = random_states(self.device)
        try:
            self._validating = True
            if self._signal:
                raise Stopped(128 + self._signal)
            yield
        except Stopped:
            self._validating = False
            self._save(drawn)
            self._end()
        finally:
            self._validating = False

    def is_best(self, score: float) -> bool:
        """Whether a score is above those of all epochs before; the first one is."""
        return self._score is None or score > self._score

    def finish_epoch(self, row: Row, score: float, best: Mapping[str, Tensor]) -> None:
        """`best`: what to hold on to of the epoch, where it is the best so far; else nothing."""
        if best:
            self.best, self._score, self._unsaved = self.epoch, score, best if self._states else {}
        self.history.append(row)
        self._say_pace()
        self.epoch, self.done, self._sums = self.epoch + 1, 0, {}
        if self._states:
            self._save()
        self._unsaved = {name: tensor.clone() for name, tensor in self._unsaved.items()}  # of a full disk
        (self._signal,) = self._group.largest(self._signal)
        if self._signal:
            self._end()

    def _asked(self, number: int, frame: object) -> None:
        """The first signal ends the run as soon as its state can be saved, a second one as it always did."""
        self._signal = number
        self.__exit__()
        if self._validating:
            raise Stopped(128 + number)

    def _end(self) -> None:
        line = (
            "its state is saved, and the same command goes on from there" if self._saved else "its state is not saved"
        )
        name = signal.Signals(self._signal).name
        logger.warning("%s: training ends in epoch %d after step %d: %s", name, self.epoch + 1, self.done, line)
        raise Stopped(128 + self._signal)

    def take(
        self, step: Callable[[], tuple[Tensor, Tensor]], batch: Any, dataset: Any, *, what: str, help: str, skip: bool
    ) -> tuple[Tensor, Tensor] | None:
        """Take a step -> its losses and the gradient's norm; None where it is left out for want of numbers.

        In fp16 a step whose scaled gradient overflows is left out in any case, and the next has a smaller scale.

        Args:
            step: has left the weights as they were where loss or norm are not finite.
            skip: leave out such a step, and its traces in the statistics of batch norm, too.

        Raises:
            ValueError: a step without numbers is not to be left out, or the scale has become too small; what it takes
                to see that step again is saved.
        """
        before = statistics(self.module) if skip else []
        losses, norm = step()
        number = bool(losses.isfinite().all())
        if number and norm.isfinite():
            self.schedule.step()
            return losses, norm
        if number and self.scaler.is_enabled():
            if self.scaler.get_scale() < SMALLEST_SCALE:
                line = f"{what}: the gradient is not a number at any scale of fp16; take bf16 or float32, or {help}"
                raise self._unusable(batch, dataset, line)
        elif not skip:
            culprit = "gradient" if number else "loss"
            raise self._unusable(batch, dataset, f"{what}: the {culprit} is not a number any more; {help}")
        else:
            restore_statistics(self.module, before)
        with warnings.catch_warnings(action="ignore"):  # the first step of all may be one
            self.schedule.step()
        return None

    def _unusable(self, batch: Any, dataset: Any, line: str) -> ValueError:
        """An error of `line`, the step and its studies, whose batch is saved with what it takes to see it again."""
        batch = joined(self._group.gathered(batch))
        if not self._group.first:
            self._group.wait()  # whoever ends ends all: not while the first writes
            raise SystemExit(LOST)
        studies = ", ".join(map(dataset.name, batch.positions.tolist()))
        text = f"{line} (step {self.done + 1}: {studies})"
        if self._states:
            path = self._states.home / "nonfinite.safetensors"
            parts = {"batch": vars(batch), "module": self.module.state_dict(), "generators": self._drawn}
            try:
                with replacing(path) as beside:
                    save_tensors(flat(parts), beside)
                text += f"; that batch, the weights and the random generators are in {path}"
            except OSError as error:
                text += f"; that batch is not saved: {error}"
        self._group.wait()
        return ValueError(text)

    def _say_pace(self) -> None:
        seconds, waited, images = self._clock
        if not images:  # every step was taken before this process began
            return
        share = waited / seconds
        self.pace.append(
            {
                "epoch": self.epoch + 1,
                "seconds": seconds,
                "images_per_second": images / seconds,
                "data_wait": share,
            }
        )
        logger.info(
            "epoch %d: %.4g images/s, %.0f %% of the time waiting for data",
            self.epoch + 1,
            images / seconds,
            100 * share,
        )
        if share > WAITING and not self._warned:
            self._warned = True
            logger.warning("loading data holds up training: more runtime.workers, or a faster disk")

    def _save(self, generators: Mapping[str, Tensor] | None = None) -> None:
        """`generators`: their states where those of now do not count. A full disk is a line, and the run goes on."""
        state, optimiser = self.optimiser.state_dict(), {}
        for index, each in state["state"].items():
            optimiser |= {f"{index}.{name}": tensor for name, tensor in each.items()}
        content = {
            **{name: getattr(self, name) for name in ("epoch", "done", "history", "pace", "best")},
            "score": self._score,
            "steps": self._steps,
            "groups": state["param_groups"],
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        tensors = {
            "module": self.module.state_dict(),
            "optimiser": optimiser,
            "sums": self._sums,
            "generators": generators or random_states(self.device),
        }
        self._saved = False
        try:
            if self._unsaved:
                self._states.save_best(self.best, self._unsaved)
                self._unsaved = {}
            self._states.save(self._steps + self.epoch, content, flat(tensors))
        except OSError as error:
            logger.warning("the state is not saved, and training goes on: %s", error)
            return
        self._saved = True


def joined(batches: Sequence[Any]) -> Any:
    """The shares of a batch as one: what each has of a tensor, one after the other."""
    every = {name: torch.cat([vars(batch)[name] for batch in batches]) for name in vars(batches[0])}
    return type(batches[0])(**every)
