"""A training step of each system of Table 1 from stored patch features, against the bare matrix products in it.

Sizes are those of the papers, the setting is that of the other benchmarks. The products are recorded in a step, forward
and backward, and done again alone, with operands of their shapes.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import alternate, at_most
from benchmarks.setting import BATCH, CONFIG, OBJECTIVE, SIZE, TOKENS, VIEWS, labels, tokens
from benchmarks.training import PARAMS
from xpronet.data.dataset import Batch
from xpronet.data.reports import PERIOD, Vocabulary
from xpronet.data.sentence_kinds import NORMAL
from xpronet.encoders.backbones import WIDTH
from xpronet.evaluation.rewards import Reward
from xpronet.model.decoding import sample
from xpronet.model.params import SystemName
from xpronet.model.system import System, system_class
from xpronet.training.credit import Credit
from xpronet.training.loop import optimiser, step
from xpronet.training.scst import written

PATCHES = (SIZE // 32) ** 2
# What the rest may cost: an LSTM's step after step of small operations beside few products, a Transformer's less.
MUST = {"xpronet": 3, "r2gencmn": 3, "ratchet": 3, "st": 4, "att2in": 4, "adaatt": 4, "topdown": 4}
MUST |= {"coat": 4, "sentsat_kg": 4, "hrgr": 4, "kerp": 3, "cmas_rl": 4}
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"


def rows(repeats: int = 3) -> list[dict]:
    found = []
    for name in get_args(SystemName):
        ours = stepping(at_full_size(name), batch(PATCHES, WIDTH[CONFIG.backbone]))
        bare = products(ours)
        found.append(at_most(f"training step of {name}", *alternate(ours, bare, repeats=repeats), MUST[name]))
    return [*found, *rewarded(repeats)]


@torch.no_grad()
def rewarded(repeats: int) -> list[dict]:
    """What the samples of a step of the second phase earn, against drawing them with the quickest system.

    By CIDEr alone for whole reports, and with BLEU-4 of the kinds beside it where sentences or words have the credit.
    """
    network, data = at_full_size("st").eval(), batch(PATCHES, WIDTH[CONFIG.backbone])
    vocabulary = Vocabulary([PERIOD, "<unk>", *sorted(NORMAL), *map(str, range(CONFIG.vocab_size - 2 - len(NORMAL)))])
    references, count = in_sentences(data.tokens[:, 1:]), PARAMS.samples
    cider = Reward(references, vocabulary, cider=1.0)
    both = Reward(references, vocabulary, cider=1.0, kinds=1.0)

    def draw() -> Tensor:
        step = network.begin(data.images, data.labels, data.views, beams=count, max_length=TOKENS)
        return sample(step, BATCH, samples=count, max_length=TOKENS)

    drawn, studies = in_sentences(draw().flatten(0, 1)), data.positions.tolist()
    works = {"CIDEr": lambda: cider(np.repeat(studies, count).tolist(), drawn)}
    for by in ("sentence", "word"):
        credit = Credit(both.gains, by=by, discount=PARAMS.discount, period=1)
        works[f"credit by {by}"] = partial(credit.advantages, studies, drawn, TOKENS)
    return [
        at_most(f"{name} of {BATCH} x {count} samples", *alternate(work, draw, repeats=repeats), 1)
        for name, work in works.items()
    ]


def in_sentences(tokens: Tensor) -> list[list[int]]:
    """Reports of evenly drawn words up to their end, with every ninth word of the vocabulary made a `.`, 1."""
    return [[1 if id and id % 9 == 0 else id for id in ids] for ids in written(tokens)]


def at_full_size(name: str) -> System:
    kind = system_class(name)
    return kind(CONFIG if name == "xpronet" else kind.Config(vocab_size=CONFIG.vocab_size, backbone=CONFIG.backbone))


def batch(patches: int, channels: int) -> Batch:
    """Patch features as the frozen extractor stores them, reports and labels."""
    torch.manual_seed(0)
    features, views = (
        torch.relu(torch.randn(BATCH, VIEWS, patches, channels)),
        torch.ones(BATCH, VIEWS, dtype=torch.bool),
    )
    return Batch(features, views, tokens(), labels(BATCH), torch.arange(BATCH))


def stepping(network: System, data: Batch) -> Callable[[], object]:
    """A step of the network, whose extractor is frozen."""
    network.train()
    network.visual.freeze(True)
    adam = optimiser(network, PARAMS)
    return lambda: step(network, adam, data, OBJECTIVE, "float32")


def products(work: Callable[[], object]) -> Callable[[], None]:
    """The matrix products of some work, alone."""
    with Recorder() as seen:
        work()
    operands = {pair: tuple(torch.randn(shape) for shape in pair) for pair in seen.pairs}

    def run() -> None:
        for pair, count in seen.pairs.items():
            left, right = operands[pair]
            for _ in range(count):
                left @ right

    return run


class Recorder(TorchDispatchMode):
    """Counts matrix products by the shapes of what they multiply; attention is two of them, and its gradient five."""

    def __init__(self):
        super().__init__()
        self.pairs: Counter = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        if name in ("mm", "bmm"):
            self._add(*arguments[:2])
        elif name in ("addmm", "baddbmm"):
            self._add(*arguments[1:3])
        elif name == ATTENTION:
            self._attend(*arguments[:3], forward=1)
        elif name == f"{ATTENTION}_backward":
            self._attend(*arguments[1:4], forward=2, again=1)
        return function(*arguments, **(keywords or {}))

    def _add(self, left: Tensor, right: Tensor, count: int = 1) -> None:
        self.pairs[tuple(left.shape), tuple(right.shape)] += count

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, *, forward: int, again: int = 0) -> None:
        """Scores and sums `forward` times each, and `again` the scores that the forward pass has not kept."""
        scores = torch.empty(*queries.shape[:-1], keys.shape[-2], device="meta")
        self._add(queries, keys.mT, forward + again)
        self._add(scores, values, forward)
