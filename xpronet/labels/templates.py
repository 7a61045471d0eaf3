"""Sentences that many train reports share, in groups that say the same: what template systems choose from (HRGR, KERP).

HRGR's authors counted sentences and grouped them by hand; here the same is said where the rule labeller reads the same
classes, the same sides are named and most content words are common. Closeness alone would put a sentence beside its
negation.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from xpronet.data.reports import PERIOD

SIDES = {"left", "right", "bilateral", "bilaterally", "both", "upper", "lower"}
LITTLE = {
    *("a", "an", "the", "there", "this", "that", "than", "it", "is", "are", "was", "were", "be", "been", "has", "have"),
    *("and", "or", "no", "not", "of", "on", "in", "at", "by", "for", "from", "to", "with", "within", "seen", PERIOD),
}


class Template(NamedTuple):
    wordings: tuple[str, ...]  # cleaned sentences with their `.`, the commonest first
    studies: int  # whose report has one of them
    classes: tuple[int, ...]  # (14,) of the labeller


def sentences(cleaned: str) -> list[str]:
    """Of a cleaned report, each with its `.`; words without one at the end are a sentence that was cut."""
    found, words = [], []
    for word in cleaned.split():
        words.append(word)
        if word == PERIOD:
            found.append(" ".join(words))
            words = []
    return [*found, " ".join(words)] if words else found


def mine(
    cleaned: Sequence[str], label: Callable[[Sequence[str]], np.ndarray], *, min_share: float, min_overlap: float
) -> list[Template]:
    """Templates of cleaned train reports, the commonest first.

    Args:
        label: texts -> classes (N, 14), as `rules.label`.
        min_share: of the reports, that a sentence must be in.
        min_overlap: of the content words of two sentences (Jaccard), from which on they may say the same.
    """
    written = [set(sentences(report)) for report in cleaned]
    counts = Counter(sentence for each in written for sentence in each if sentence != PERIOD)
    common = [sentence for sentence, count in counts.items() if count >= min_share * len(cleaned)]
    common.sort(key=lambda sentence: (-counts[sentence], sentence))
    groups: list[list[str]] = []
    classes = dict(zip(common, map(tuple, label(common).tolist()), strict=True)) if common else {}
    for sentence in common:
        for group in groups:
            head = group[0]
            if classes[head] == classes[sentence] and _say_the_same(head, sentence, min_overlap):
                group.append(sentence)
                break
        else:
            groups.append([sentence])
    found = [
        Template(tuple(group), sum(not each.isdisjoint(group) for each in written), classes[group[0]])
        for group in groups
    ]
    return sorted(found, key=lambda template: -template.studies)


def coverage(cleaned: Sequence[str], templates: Sequence[Template]) -> float:
    """Share of the sentences of cleaned reports that are a template's wording."""
    known = {wording for template in templates for wording in template.wordings}
    written = [sentence for report in cleaned for sentence in sentences(report)]
    return sum(sentence in known for sentence in written) / len(written) if written else 0.0


def _say_the_same(a: str, b: str, min_overlap: float) -> bool:
    a, b = set(a.split()), set(b.split())
    if a & SIDES != b & SIDES:
        return False
    a, b = a - LITTLE, b - LITTLE
    return len(a & b) >= min_overlap * len(a | b)
