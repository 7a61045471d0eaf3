"""Normal and abnormal sentences, by key words as in CMAS-RL (Jing, Wang, Xing, ACL 2019)."""

import torch
from torch import Tensor

from xpronet.data.reports import Vocabulary

# A sentence with one of them is normal, another is abnormal. The paper's are the first four, as far as is known here.
NORMAL = frozenset(("no", "normal", "clear", "stable", "unremarkable", "without", "not", "intact", "negative", "free"))


def normal_words(vocabulary: Vocabulary) -> Tensor:
    """(vocab_size + 1,) bool: which ids are such a word."""
    return torch.tensor([False, *(token in NORMAL for token in vocabulary.tokens)])
