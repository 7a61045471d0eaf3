"""Whether labels make sense, before hours of training hang on them: shares that no dataset of radiographs has.

For comparison, by the rules: of IU-Xray's splits 67 to 76 % are No Finding by their findings, 76 to 83 % by their
impressions; up to 1 % of the findings and 70 to 77 % of the impressions mention nothing ("No acute disease."). The
phantom has 34 % and none. Of the words of IU-Xray's impressions 6 % are among ENGLISH, of the others more.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from xpronet.labels.conditions import BLANK, NO_FINDING, POSITIVE, UNCERTAIN

NOTHING_TO_LEARN, HEALTHY = 0.99, 0.95  # studies without any observation: an error, a warning
SILENT = 0.9  # reports that mention nothing
EMPTY = 0.5  # rows of a file without a label
ENGLISH = frozenset(("the", "and", "are", "with", "without", "there", "has", "which"))  # in few other languages a word
FOREIGN = 0.01  # share of these among all words


def healthy_share(labels: np.ndarray) -> float:
    """Share of labels (N, 14) 0/1 that have no observation but No Finding."""
    return float((~np.delete(labels > 0, NO_FINDING, axis=1).any(axis=1)).mean())


def english_share(texts: Sequence[str]) -> float:
    """Share of the words of texts that are among the commonest of English; 1 where there are no words."""
    words = [word for text in texts for word in text.lower().split()]
    return sum(word in ENGLISH for word in words) / len(words) if words else 1.0


def oddities(classes: np.ndarray, labels: np.ndarray, texts: Sequence[str] = ()) -> Iterator[str]:
    """What is odd about labeller classes (N, 14) and the labels (N, 14) 0/1 made of them, a line each.

    Args:
        texts: what the labeller has read; none where the labels come from a file.

    Raises:
        ValueError: next to no study has an observation, so that there is nothing to learn.
    """
    count, healthy, english = len(labels), healthy_share(labels), english_share(texts)
    if healthy > NOTHING_TO_LEARN:
        look = (
            "labels.section, and whether the reports are English: labellers read no other" if texts else "labels.file"
        )
        raise ValueError(f"{healthy:.1%} of {count} studies have no observation: nothing can be learnt; look at {look}")
    if healthy > HEALTHY:
        yield f"{healthy:.1%} of {count} studies have no observation: look at the labels"
    if texts and english < FOREIGN:
        yield f"{english:.1%} of the words are among {', '.join(sorted(ENGLISH))}: labellers read English only"
    silent = float((np.delete(classes, NO_FINDING, axis=1) == BLANK).all(axis=1).mean())
    if texts and silent > SILENT:
        yield f"{silent:.1%} of {count} reports say nothing of any observation: look at labels.section"
    empty = float((~np.isin(classes, (POSITIVE, UNCERTAIN)).any(axis=1)).mean())
    if empty > EMPTY:
        yield f"{empty:.1%} of {count} studies have no label and count as No Finding: is it the right file?"
