"""How varied the written reports are: a model that repeats itself can score well and say nothing."""

from collections.abc import Sequence

import numpy as np

from xpronet.evaluation.floors import constant_bleu_4

SELF_BLEU_REPORTS = 200  # each is compared with all others
COLLAPSED = 0.1  # share of the references' variety below which a model has collapsed, however many there are


def diversity(references: Sequence[str], hypotheses: Sequence[str], *, seed: int) -> dict[str, float | bool]:
    """Of N cleaned reports beside their references.

    Returns:
        distinct_reports: how many; distinct_1, distinct_2: distinct words and pairs of words per written one;
        self_BLEU_4: mean BLEU-4 of a report as the hypothesis for each of the others (200 of them, drawn by `seed`);
        length_ratio: words written per word of the references; collapsed: whether of R distinct references there are
        fewer than √R distinct reports, so that each is repeated more often than there are others; or, where R is above
        100, fewer than a tenth.
    """
    texts = list(hypotheses)
    if len(texts) > SELF_BLEU_REPORTS:
        chosen = np.random.default_rng(seed).choice(len(texts), SELF_BLEU_REPORTS, replace=False)
        texts = [texts[row] for row in sorted(chosen)]
    similar = constant_bleu_4(texts, texts, leave_own_out=True)[[bool(text) for text in texts]]
    written = sum(len(text.split()) for text in hypotheses)
    distinct, variety = len(set(hypotheses)), len(set(references))
    return {
        "distinct_reports": distinct,
        "distinct_1": _distinct(hypotheses, 1),
        "distinct_2": _distinct(hypotheses, 2),
        "self_BLEU_4": float(np.mean(similar)) if len(similar) and len(texts) > 1 else 1.0,
        "length_ratio": written / sum(len(text.split()) for text in references),
        "collapsed": distinct < max(variety**0.5, COLLAPSED * variety),
    }


def _distinct(texts: Sequence[str], n: int) -> float:
    grams = [gram for text in texts for gram in zip(*(text.split()[start:] for start in range(n)), strict=False)]
    return len(set(grams)) / len(grams) if grams else 0.0
