"""A search at full length fits where its first step did, and the query keeps no row per token and prototype."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from xpronet.model.memory import PrototypeMemory
from xpronet.model.xpronet import ModelConfig, XProNet


class Largest(TorchDispatchMode):
    """Bytes of the largest storage that any operation returned: views of something small stay small."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


CONFIG = ModelConfig(
    vocab_size=20_000, backbone="resnet18", d_model=8, d_ff=8, heads=2, layers=1, n_prototypes=2, d_prototype=8, gamma=2
)


def largest_of_a_search(model: XProNet, length: int) -> int:
    labels = torch.eye(14)[[13, 2]]
    with Largest() as seen:
        model.generate(torch.zeros(2, 1, 3, 32, 32), labels, beam_size=3, max_length=length)
    return seen.bytes


def test_decoding_does_not_grow_with_vocabulary_times_length():
    torch.manual_seed(0)
    model = XProNet(CONFIG).eval()
    with torch.no_grad():
        model.head.bias[0] = -1e9  # no report ends early
    step = 2 * 3 * 20_001 * 4  # log-probabilities of one step in float32
    short, long = (largest_of_a_search(model, length) for length in (2, 40))
    assert step <= short == long < 2 * step


def test_the_query_keeps_no_copy_of_prototypes_per_token():
    """The published code gathers B x heads x tokens x γ x width numbers; here the largest is the scores."""
    torch.manual_seed(0)
    batch, tokens, width, heads, gamma, rows = 4, 30, 256, 4, 15, 56
    memory = PrototypeMemory(width, heads, gamma, dropout=0.1)
    x = torch.randn(batch, tokens, width, requires_grad=True)
    prototypes = torch.randn(rows, width, requires_grad=True)
    mask = torch.ones(batch, rows, dtype=torch.bool)
    with Largest() as seen:
        memory(x, *memory.project(prototypes), mask).sum().backward()
    gathered = batch * heads * tokens * gamma * (width // heads) * 4
    assert 0 < seen.bytes < gathered / 4


def test_the_largest_sees_what_it_should():
    with Largest() as seen:
        torch.zeros(10, 100).expand(50, 10, 100)
    assert seen.bytes == 10 * 100 * 4
