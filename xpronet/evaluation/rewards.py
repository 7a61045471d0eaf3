"""What a sampled report is worth while it is being learnt: CIDEr-D and METEOR against the study's own report.

CIDEr-D here has the document frequencies of the train reports, with the end of a report as a word of its own: without
it reports that break off earn as much (Rennie et al., CVPR 2017). `xpronet/evaluation/lexical.py` has the scores of a
corpus.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xpronet.data.reports import Vocabulary
from xpronet.evaluation.meteor import Meteor

LONGEST = 4  # words of an n-gram
SIGMA = 6.0  # of the penalty on another length

Counts = list[Counter]  # of n-grams, n = 1 to LONGEST
Vector = tuple[list[dict[tuple[int, ...], float]], list[float], int]  # weights and norm for each n, length


class Cider:
    """CIDEr-D (Vedantam, Zitnick, Parikh, CVPR 2015) of token ids, a reference per study."""

    def __init__(self, references: Sequence[Sequence[int]]):
        """`references`: N >= 1 reports as ids, whose document frequencies count."""
        counts = [_counts(reference) for reference in references]
        self._frequency: Counter = Counter()
        for of_report in counts:
            self._frequency.update(ngram for each in of_report for ngram in each)
        self._log_count = math.log(max(len(references), 2))  # of one document no word tells anything
        self._references = [self._vector(each) for each in counts]

    def score(self, hypothesis: Sequence[int], reference: int) -> float:
        """0 to 10; `reference`: its place among the references."""
        weights, norms, length = self._vector(_counts(hypothesis))
        own, own_norms, own_length = self._references[reference]
        total = 0.0
        for n in range(LONGEST):
            both = ((value, own[n][ngram]) for ngram, value in weights[n].items() if ngram in own[n])
            if norms[n] and own_norms[n]:
                total += sum(min(mine, theirs) * theirs for mine, theirs in both) / (norms[n] * own_norms[n])
        return 10.0 / LONGEST * total * math.exp(-((length - own_length) ** 2) / (2 * SIGMA**2))

    def _vector(self, counts: Counts) -> Vector:
        weights = [{ngram: count * self._rarity(ngram) for ngram, count in each.items()} for each in counts]
        norms = [math.sqrt(sum(value**2 for value in each.values())) for each in weights]
        return weights, norms, sum(counts[1].values())  # as the published code counts: pairs of words

    def _rarity(self, ngram: tuple[int, ...]) -> float:
        return self._log_count - math.log(max(1, self._frequency[ngram]))


def _counts(ids: Sequence[int]) -> Counts:
    return [Counter(tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)) for n in range(1, LONGEST + 1)]


class Reward:
    """A weighted sum of both for reports of the train split."""

    def __init__(
        self,
        references: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
        *,
        cider: float,
        meteor: float = 0.0,
        jar: Meteor | None = None,
    ):
        """`references`: reports as ids without the start; `cider`, `meteor`: weights; `jar`: where METEOR counts."""
        self._cider, self._references, self._vocabulary = Cider(references), references, vocabulary
        self._weights, self._jar = (cider, meteor), jar

    def __call__(self, studies: Sequence[int], reports: Sequence[Sequence[int]]) -> np.ndarray:
        """(N,) float64 of reports as ids, their end included where they have one; `studies`: the reference of each."""
        cider, meteor = self._weights
        pairs = zip(reports, studies, strict=True)
        found = cider * np.array([self._cider.score(report, study) for report, study in pairs])
        if meteor and reports:  # of several processes one may have none
            texts = [self._vocabulary.decode([*report]) for report in reports]
            own = [self._vocabulary.decode([*self._references[study]]) for study in studies]
            found += meteor * self._jar.score(own, texts)[1]
        return found
