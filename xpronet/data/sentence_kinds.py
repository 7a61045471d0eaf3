"""Normal and abnormal sentences, by key words as in CMAS-RL (Jing, Wang, Xing, ACL 2019)."""

import torch
from torch import Tensor

from xpronet.data.reports import Vocabulary

# A sentence with one of them is normal, another is abnormal. The paper prints the first four.
NORMAL = frozenset(
    ("no", "normal", "clear", "stable", "unremarkable", "without", "intact", "negative", "free", "unchanged")
)


def normal_words(vocabulary: Vocabulary) -> Tensor:
    """(V + 1,) bool: which ids are such a key word."""
    return torch.tensor([False, *(token in NORMAL for token in vocabulary.tokens)])
