"""Corpus scores from sums per study, so that resamples and subsets of the studies are one matrix product.

BLEU and METEOR of a corpus follow from summed counts, ROUGE-L and CIDEr are means over studies, and F1 follows from
summed hits. So each study is a row of numbers, and a corpus a vector of weights. CIDEr keeps the document frequencies
of all references that were scored (row 32): a resample does not change what counts as a rare phrase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from xpronet.evaluation.extras import Scorer
from xpronet.evaluation.meteor import Meteor
from xpronet.labels.agreement import f1, f1s, hits
from xpronet.labels.conditions import CONDITIONS, NO_FINDING

DRAWS = 1000
SEED = 1  # of every draw in an evaluation: two runs differ by their reports alone
MEANS = ("ROUGE_L", "CIDEr", "example_F1")  # scores of a corpus that are means over its studies


@dataclass(frozen=True)
class Table:
    """What N studies contribute to corpus scores."""

    bleu: np.ndarray  # (N, 10): matches and guesses of 1- to 4-grams, then words of hypothesis and reference
    meteor: np.ndarray  # (N, 23)
    means: np.ndarray  # (N, 3): MEANS; (N, 3 + E) with extra scores
    hits: np.ndarray  # (N, 3, 14): true positives, false positives, false negatives per observation
    names: tuple[str, ...] = MEANS  # of the columns of `means`


def table(
    references: Sequence[str],
    hypotheses: Sequence[str],
    reference_labels: np.ndarray,
    hypothesis_labels: np.ndarray,
    *,
    meteor: Meteor,
    extras: Mapping[str, Scorer] | None = None,
) -> Table:
    """Of N >= 1 pairs of cleaned reports, one reference with a word at least, and their labels (N, 14) 0/1.

    `extras` are more scores whose mean over studies counts: name -> references, hypotheses -> (N,).

    Raises:
        OSError: METEOR's Java process is missing or died.
    """
    references = [" ".join(text.split()) for text in references]
    hypotheses = [" ".join(text.split()) for text in hypotheses]
    gts, res = ({row: [text] for row, text in enumerate(texts)} for texts in (references, hypotheses))
    _, rouge = Rouge().compute_score(gts, res)
    _, cider = Cider().compute_score(gts, res)
    each = hits(reference_labels, hypothesis_labels)
    more = {name: scorer(references, hypotheses) for name, scorer in (extras or {}).items()}
    return Table(
        bleu=np.array([_bleu_counts(*pair) for pair in zip(references, hypotheses, strict=True)]),
        meteor=_without_whole_chunks(meteor.statistics(references, hypotheses)),
        means=np.stack([rouge, cider, f1(each.sum(axis=2)), *more.values()], axis=1),
        hits=each,
        names=(*MEANS, *more),
    )


def _bleu_counts(reference: str, hypothesis: str) -> list[float]:
    """pycocoevalcap's own counts of a pair."""
    scorer = BleuScorer(hypothesis, [reference])
    counts = scorer.ctest[0]
    return [*counts["correct"], *counts["guess"], counts["testlen"], counts["reflen"][0]]


def scores(table: Table, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Corpus values (W,) of each metric under W weightings (W, N) of the studies; a weight is how often one counts."""
    lexical = {f"BLEU_{n + 1}": value for n, value in enumerate(_bleu(weights @ table.bleu))}
    lexical["METEOR"] = _meteor(weights @ table.meteor)
    total = np.maximum(weights.sum(axis=1), 1e-12)
    means = dict(zip(table.names, (weights @ table.means / total[:, None]).T, strict=True))
    return {**lexical, **means, **f1s(np.tensordot(weights, table.hits, axes=1))}


def _bleu(sums: np.ndarray) -> list[np.ndarray]:
    """BLEU-1 to 4 of summed counts (W, 10), with pycocoevalcap's small constants."""
    matches, guesses, words, wanted = sums[:, :4], sums[:, 4:8], sums[:, 8], sums[:, 9]
    log_precision = np.log((matches + 1e-15) / (guesses + 1e-9)).cumsum(axis=1)
    ratio = (words + 1e-15) / (wanted + 1e-9)
    penalty = np.where(ratio < 1, 1 - 1 / ratio, 0)
    return [np.exp(log_precision[:, n] / (n + 1) + penalty) for n in range(4)]


def _meteor(sums: np.ndarray) -> np.ndarray:
    """METEOR 1.5 for English of summed statistics (W, 23): Denkowski and Lavie (2014), §3, with its default weights."""
    alpha, beta, gamma, delta, matchers = 0.85, 0.2, 0.6, 0.75, np.array([1.0, 0.6, 0.8, 0.6])
    words, functions = sums[:, :2], sums[:, 2:4]  # (W, 2): hypothesis, reference
    matched = sums[:, 4:20].reshape(-1, 4, 2, 2)  # matcher, content or function words, side
    weighted = np.einsum("m,wms->ws", matchers, delta * matched[:, :, 0] + (1 - delta) * matched[:, :, 1])
    lengths = delta * (words - functions) + (1 - delta) * functions
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = (weighted / lengths).T
        mean = 1 / ((1 - alpha) / precision + alpha / recall)
        chunks = sums[:, 20] / (sums[:, 21:23].sum(axis=1) / 2)
        found = mean * (1 - gamma * chunks**beta)
    return np.nan_to_num(found)


def _without_whole_chunks(rows: np.ndarray) -> np.ndarray:
    """The jar counts no chunk for a hypothesis that is its reference: nothing is out of order there."""
    whole = (rows[:, 20] == 1) & (rows[:, 21] == rows[:, 0]) & (rows[:, 22] == rows[:, 1])
    return np.where(whole[:, None] & (np.arange(rows.shape[1]) == 20), 0, rows)


def of_all(table: Table) -> dict[str, float]:
    """Corpus values over all studies."""
    return {name: float(value[0]) for name, value in scores(table, np.ones((1, len(table.means)))).items()}


def intervals(table: Table, *, seed: int, draws: int = DRAWS) -> dict[str, list[float]]:
    """Bootstrap 95 % intervals [low, high]: the 2.5th and 97.5th percentile over resamples of the studies."""
    drawn = scores(table, resamples(len(table.means), seed=seed, draws=draws))
    return {name: [float(end) for end in np.percentile(values, (2.5, 97.5))] for name, values in drawn.items()}


def resamples(studies: int, *, seed: int, draws: int = DRAWS) -> np.ndarray:
    """(draws, studies): how often each study is drawn, with replacement."""
    random = np.random.default_rng(seed)
    return random.multinomial(studies, np.full(studies, 1 / studies), size=draws).astype(np.float64)


def strata(table: Table, groups: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Scores on some studies each: {name: (N,) bool} -> {name: scores and `studies`}; empty groups are left out."""
    named = {name: group for name, group in groups.items() if group.any()}
    found = scores(table, np.stack([group.astype(np.float64) for group in named.values()]))
    return {
        name: {"studies": int(group.sum()), **{metric: float(values[row]) for metric, values in found.items()}}
        for row, (name, group) in enumerate(named.items())
    }


def groups_of(labels: np.ndarray, references: Sequence[str], trained: set[str]) -> dict[str, np.ndarray]:
    """Strata of N studies by their labels (N, 14), and by their cleaned references: unseen in train, and by length."""
    abnormal = np.delete(labels > 0, NO_FINDING, axis=1).any(axis=1)
    unseen = np.array([text not in trained for text in references])
    length = np.array([len(text.split()) for text in references])
    low, high = np.quantile(length, (1 / 3, 2 / 3))
    return {
        "with_findings": abnormal,
        "without_findings": ~abnormal,
        "report_not_in_train": unseen,
        "report_in_train": ~unseen,
        "short": length <= low,
        "middle": (length > low) & (length <= high),
        "long": length > high,
        **{name: labels[:, k] > 0 for k, name in enumerate(CONDITIONS) if k != NO_FINDING},
    }
