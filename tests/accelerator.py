"""A stand-in for an accelerator: tensors that lie on the CPU, say that they do not, and refuse what a GPU would refuse.

PyTorch has a device type for backends that live outside of it. Here it is one without kernels: each operation is
computed by the CPU's, after a look at where its operands claim to be. Values are real, so that loops with `.item()`,
boolean masks, early stops and a backward pass run to their end. Autocast casts nothing here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "standin"
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}  # the only ways from one device to another
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class OnStandIn(torch.Tensor):
    """What is on the device; `.numpy()` and what calls it are refused by PyTorch itself."""

    @staticmethod
    def __new__(cls, host: torch.Tensor):
        layout = {"strides": host.stride(), "storage_offset": host.storage_offset(), "dtype": host.dtype}
        with torch.inference_mode(host.is_inference()):  # a view of what is older than inference mode is none of it
            self = torch.Tensor._make_wrapper_subclass(cls, host.size(), **layout, device=torch.device(NAME, 0))
        self.host = host
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _run(operation, args, kwargs or {})

    def tolist(self):  # these three are refused for subclasses of tensors, but work on any device
        return self.host.tolist()

    def untyped_storage(self):
        return self.host.untyped_storage()

    def __format__(self, spec):
        return format(self.host, spec)


@contextmanager
def stand_in() -> Iterator[torch.device]:
    """The device; inside, it can be named wherever PyTorch takes one."""
    _register()
    # In one thread: PyTorch starts those of a device before the first backward pass of a process, or never.
    with _Everywhere(), torch.autograd.set_multithreading_enabled(False):
        torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(..., device=...) would go by unseen
        try:
            yield torch.device(NAME)
        finally:
            torch._C._set_only_lift_cpu_tensors(False)


def _run(operation, args, kwargs):
    operands = tree_leaves((args, kwargs))
    ours = [operand for operand in operands if isinstance(operand, OnStandIn)]
    if kwargs.get("device") is not None:
        there = kwargs["device"].type == NAME
    elif operation in COPIES:
        there = isinstance(args[0], OnStandIn)
    else:
        there = bool(ours)
    if not ours and not there:
        return operation(*args, **kwargs)
    _check(operation, args, operands, kwargs)
    if there and "device" in kwargs:
        kwargs = kwargs | {"device": torch.device("cpu")}
    args, kwargs = tree_map_only(OnStandIn, lambda tensor: tensor.host, (args, kwargs))
    result = operation(*args, **kwargs)
    if not there:
        return result
    known = {id(tensor.host): tensor for tensor in ours}  # an operation in place gives back its operand
    return tree_map_only(torch.Tensor, lambda host: known[id(host)] if id(host) in known else OnStandIn(host), result)


def _check(operation, args, operands, kwargs) -> None:
    """Raise RuntimeError where a GPU would, and where it could read memory that is free again."""
    if operation in COPIES:
        if kwargs.get("non_blocking") or operation is aten.copy_.default and args[2:] == (True,):
            raise RuntimeError(f"{operation}: non_blocking, but nobody pins the memory or waits")
        return
    if operation in INDEXING:  # indices may lie on the CPU
        operands = [args[0], *args[2:]]
    mixes = torch.Tag.pointwise in operation.tags or operation in INDEXING  # with scalars of the CPU
    for operand in operands:
        strange = isinstance(operand, torch.Tensor) and not isinstance(operand, OnStandIn)
        if strange and (operand.dim() or not mixes):
            raise RuntimeError(f"{operation}: a tensor {tuple(operand.shape)} on the CPU, others are not")
        if isinstance(operand, torch.Generator):
            raise RuntimeError(f"{operation}: a random generator on the CPU, the numbers are not")


class _Everywhere(TorchDispatchMode):
    """Also where no operand is on the device: what makes tensors there."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation._can_decompose():  # in inference mode, those that are made of others arrive whole
            with self:
                return operation.decompose(*args, **kwargs or {})
        return _run(operation, args, kwargs or {})


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


@cache
def _register() -> torch.library.Library:
    """Once a process; it cannot be undone, and concerns no other device."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    library = torch.library.Library("_", "IMPL")
    library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    return library  # it lasts as long as it is kept
