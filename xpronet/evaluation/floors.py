"""What any model must beat: reports that need no image."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer


def best_constant(candidates: Sequence[str], references: Sequence[str]) -> str:
    """The one report that, given to every study, has the best BLEU-4 on `references` (validation's).

    Args:
        candidates: cleaned train reports; every distinct one competes, the first seen wins a tie.
    """
    distinct = list(dict.fromkeys(candidates))
    return distinct[int(constant_bleu_4(distinct, references).argmax())]


def constant_bleu_4(candidates: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """BLEU-4 (C,) of each of C candidates as the hypothesis for all R references; pycocoevalcap's to 1e-6.

    An n-gram that a candidate has c times matches, over all references, as often as there are references with it at
    least once, twice, … c times. So the references are counted once, whatever the number of candidates.
    """
    lengths, target = (np.array([len(text.split()) for text in texts]) for texts in (candidates, references))
    log_precision = np.zeros(len(candidates))
    for n in range(1, 5):
        counter = CountVectorizer(ngram_range=(n, n), tokenizer=str.split, token_pattern=None, lowercase=False)
        wanted = counter.fit_transform(references).tocoo()  # (R, G)
        has_at_least = np.zeros((wanted.data.max() + 1, wanted.shape[1]))  # [c, g]: references with g at least c times
        for count in range(1, len(has_at_least)):
            has_at_least[count] = np.bincount(wanted.col[wanted.data >= count], minlength=wanted.shape[1])
        matches_up_to = has_at_least.cumsum(axis=0)
        offered = counter.transform(candidates).tocoo()  # (C, G): n-grams that no reference has cannot match
        matched = matches_up_to[np.minimum(offered.data, len(has_at_least) - 1), offered.col]
        matches = np.bincount(offered.row, weights=matched, minlength=len(candidates))  # (C,)
        guesses = len(references) * np.maximum(lengths - n + 1, 0)
        log_precision += np.log((matches + 1e-15) / (guesses + 1e-9)) / 4
    ratio = len(references) * np.maximum(lengths, 1) / target.sum()
    return np.exp(log_precision + np.minimum(0, 1 - 1 / ratio))  # with the brevity penalty
