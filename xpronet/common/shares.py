"""A batch that several processes share, or one in parts: what depends on all of its studies, wherever or whenever.

Each process computes the studies of its share, at once or in parts, and everything here makes their gradients add up to
that of the batch in one process. Alone, and outside a `Share`, each function is the plain one; but dropout on a CPU has
draws of its own, which take less time than PyTorch's.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xpronet.common.processes import ALONE, Group

MOMENTUM = 0.1  # of batch norm's running statistics, as torch has it

_entered: list["Share"] = []


@dataclass(frozen=True)
class Share:
    """Rows `start` to `stop` of a batch of `size` studies. Enter it around a step."""

    start: int
    stop: int
    size: int
    group: Group = ALONE

    @classmethod
    def of(cls, group: Group, size: int) -> "Share":
        """As even as can be; of a batch smaller than the group some are empty."""
        return cls(size * group.rank // group.size, size * (group.rank + 1) // group.size, size, group)

    def parts(self, count: int) -> list["Share"]:
        """Its rows in `count` parts as even as can be, or in fewer, so that no process has an empty one."""
        count = max(1, min(count, self.size // self.group.size))
        borders = [self.start + (self.stop - self.start) * part // count for part in range(count + 1)]
        return [Share(*rows, self.size, self.group) for rows in pairwise(borders)]

    def __enter__(self) -> "Share":
        if self._partial:
            _entered.append(self)
        return self

    def __exit__(self, *error) -> None:
        if self._partial:
            _entered.remove(self)

    @property
    def _partial(self) -> bool:
        return self.group.size > 1 or self.stop - self.start < self.size


def shared() -> bool:
    """Whether the studies at hand are but a part of a batch."""
    return bool(_entered)


def studies(count: int) -> int:
    """How many the batch has, of which `count` are at hand."""
    return _entered[-1].size if _entered else count


def total(x: Tensor) -> Tensor:
    """The sum over all processes; no gradient."""
    return _entered[-1].group.add(x.detach().clone()) if _entered else x


def every(x: Tensor) -> Tensor:
    """Where all processes have True."""
    return total((~x).int()) == 0 if _entered else x


def added(x: Tensor) -> Tensor:
    """The sum over all processes, with the gradient of this one's part: those of all add up to that of the sum."""
    return x + (total(x) - x.detach()) if _entered else x


def rows(x: Tensor, whole: Tensor | None = None) -> Tensor:
    """(b, ...) of this share -> (B, ...) of the batch, with the gradient of this share's rows.

    Rows of other parts are those of `whole` (B, ...); without it 0, so that the results of all parts add up to it.
    """
    if not _entered:
        return x
    share = _entered[-1]
    if whole is None:
        whole = x.new_zeros(share.size, *x.shape[1:])
        whole[share.start : share.stop] = x.detach()
        whole = share.group.add(whole)
    return torch.cat([whole[: share.start], x, whole[share.stop :]])


def dropout(x: Tensor, p: float, training: bool, *, dim: int = 0) -> Tensor:
    """Dropout whose draws belong to places in the batch: each part draws for all studies, which lie along `dim`."""
    on_cpu = x.device.type == "cpu"
    if not (training and 0 < p < 1 and (_entered or on_cpu)):
        return F.dropout(x, p, training)
    shape = (*x.shape[:dim], studies(x.shape[dim]), *x.shape[dim + 1 :])
    kept = (_kept(x, shape, p) if on_cpu else x.new_empty(shape).bernoulli_(1 - p)).div_(1 - p)
    return x * (kept.narrow(dim, _entered[-1].start, x.shape[dim]) if _entered else kept)


def _kept(like: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """0 with probability `p` to 1/65,536, else 1. Four from a random number: `bernoulli_` takes much longer."""
    count, least = math.prod(shape), min(round(p * 2**16), 2**16 - 1)
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    return torch.ge(drawn, least - 2**15, out=like.new_empty(count)).view(shape)


def uniform(like: Tensor) -> Tensor:
    """Numbers in (0, 1) in the shape of `like`, whose draws belong to places in the batch, which lie along axis 0."""
    size = (studies(len(like)), *like.shape[1:])
    drawn = torch.empty(size, device=like.device).uniform_(1e-20, 1)
    return drawn[_entered[-1].start : _entered[-1].stop] if _entered else drawn


class Dropout(nn.Dropout):
    """`dropout` as a module; studies lie along its first axis, or along `dim`."""

    def __init__(self, p: float, *, dim: int = 0):
        super().__init__(p)
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training, dim=self.dim)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the images of all processes, on a CPU too."""

    def forward(self, x: Tensor) -> Tensor:
        if not (_entered and self.training):
            return super().forward(x)
        mean, variance, count = _statistics(x, self.weight.dtype)
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return _Normalised.apply(x, self.weight, self.bias, mean, variance, count, self.eps)


@torch.no_grad()
def _statistics(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) of the images (n, C, h, w) of all processes, and of how many numbers each is."""
    count = x.numel() // x.shape[1]
    sums = torch.zeros(2 * x.shape[1] + 1, dtype=torch.float64, device=x.device)
    if count:
        unused = torch.zeros(2, x.shape[1], dtype=dtype, device=x.device)  # without them bfloat16 has its own dtype
        mean, variance = (each.double() for each in torch.ops.aten.batch_norm_update_stats(x, *unused, 0.0))
        sums[:-1] = torch.cat([mean, variance + mean.square()]) * count
        sums[-1] = count
    dist.all_reduce(sums)
    mean, square = (sums[:-1] / sums[-1]).view(2, -1)
    variance = (square - mean.square()).clamp(min=0)  # rounding can bring that of a constant below
    return mean.to(dtype), variance.to(dtype), sums[-1].to(dtype)


class _Normalised(torch.autograd.Function):
    """Batch norm by statistics of all processes, with the gradient that goes through these.

    By PyTorch's kernels of evaluation, which take statistics as they are and pass over the images once.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: Tensor, eps: float
    ):
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        return torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)[0] if len(x) else x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        x, weight, mean, variance, count = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        own = weight.new_zeros(2, len(weight))  # of weight and bias, by these images
        if len(x):
            last = x.is_contiguous(memory_format=torch.channels_last)
            # Where only one of the two has its channels last, PyTorch 2.14 computes wrong sums on a CPU.
            gradient = gradient.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
            fixed = (weight, mean, variance, mean, inverse, False, ctx.eps, [False, True, True])
            own = torch.stack(torch.ops.aten.native_batch_norm_backward(gradient, x, *fixed)[1:])
        every = own.clone()
        dist.all_reduce(every)
        # With z = (x - mean) / deviation it is weight / deviation (dy - mean dy - z mean of z dy), here sorted by x.
        of_weight, of_bias = every / count
        scale = weight * inverse
        slope = -scale * inverse * of_weight
        shift = -scale * of_bias - slope * mean
        scale, slope, shift = (each[:, None, None] for each in (scale, slope, shift))
        of_x = torch.addcmul(shift, x, slope).addcmul_(gradient, scale)
        return of_x.to(x.dtype), *own, None, None, None, None


def counted_as(batches: float, norms: Iterable[nn.BatchNorm2d]) -> None:
    """What comes next moves the running statistics of batch norms as so many batches do."""
    for norm in norms:
        norm.momentum = 1 - (1 - MOMENTUM) ** batches


def synchronise(module: nn.Module) -> None:
    """Turn a network's batch norms into such ones, in place: their weights, names and holders stay."""
    for each in module.modules():
        if type(each) is nn.BatchNorm2d:
            each.__class__ = BatchNorm


def same_statistics(module: nn.Module, group: Group) -> None:
    """Give all processes the buffers of the first: what batch norms that are not synchronised have each for itself."""
    for buffer in module.buffers() if group.size > 1 else ():
        dist.broadcast(buffer, src=0)


def add_gradients(parameters: Iterable[nn.Parameter], group: Group) -> None:
    """The sum over all processes, in one message; 0 from one that has no use for a parameter, as without studies."""
    parameters = [each for each in parameters if each.requires_grad]
    if group.size == 1 or not parameters:
        return
    used = group.largest(*(int(each.grad is not None) for each in parameters))
    parameters = [each for each, anywhere in zip(parameters, used, strict=True) if anywhere]
    for each in parameters:
        each.grad = torch.zeros_like(each) if each.grad is None else each.grad
    flat = group.add(torch.cat([each.grad.flatten() for each in parameters]))
    for each, part in zip(parameters, flat.split([each.numel() for each in parameters]), strict=True):
        each.grad.copy_(part.view_as(each))


def descend(
    parameters: Iterable[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    losses: Tensor,
    *,
    scaler: torch.amp.GradScaler,
    group: Group,
    clip_norm: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Take the step of gradients that are there, scaled -> losses (n,) and the gradient's norm (), on the CPU.

    Gradients are summed over all processes, so that each decides the same; then unscaled, then clipped. Where a loss or
    the norm is not finite the weights stay as they are.
    """
    parameters = list(parameters)
    add_gradients(parameters, group)
    scaler.unscale_(optimiser)
    norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    found = torch.cat([losses.detach(), norm[None]]).cpu()
    if found.isfinite().all():
        optimiser.step()
    scaler.update()
    return found[:-1], found[-1]
