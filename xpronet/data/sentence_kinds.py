"""Which sentences say that something is normal: those with one of these words, as CMAS-RL's authors have it."""

import torch
from torch import Tensor

from xpronet.data.reports import Vocabulary

NORMAL = frozenset(
    ["no", "not", "without", "normal", "clear", "stable", "unremarkable", "intact", "negative", "unchanged", "free"]
)


def normal_words(vocabulary: Vocabulary) -> Tensor:
    """(vocab_size + 1,) bool of ids."""
    return torch.tensor([False, *(word in NORMAL for word in vocabulary.tokens)])
