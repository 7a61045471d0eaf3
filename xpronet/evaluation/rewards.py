"""What a sampled report is worth while it is being learnt, against the study's own report, and what each word adds.

CIDEr-D here has the document frequencies of the train reports, with the end of a report as a word of its own: without
it reports that break off earn as much (Rennie et al., CVPR 2017). That of pycocoevalcap is no help: its CiderScorer
counts the document frequencies of the pairs that it is given to score, here those of a batch. METEOR is of whole
reports; BLEU-4 of the normal sentences, and of the abnormal ones, is CMAS-RL's (Jing, Wang, Xing, ACL 2019).
`xpronet/evaluation/lexical.py` has the scores of a corpus.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xpronet.data.reports import END, Vocabulary, sentences
from xpronet.data.sentence_kinds import normal_words
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

    def prefixes(self, hypothesis: Sequence[int], reference: int) -> list[float]:
        """The score of its first word, of its first two, and so on: (T,)."""
        own, own_norms, own_length = self._references[reference]
        counts: Counter = Counter()
        common, squares = [0.0] * LONGEST, [0.0] * LONGEST  # for each n: of both vectors, of the hypothesis's own
        scores = []
        for place in range(len(hypothesis)):
            for n, ngram in enumerate(_ending(hypothesis, place + 1)):
                count, rarity = counts[ngram], self._rarity(ngram)
                counts[ngram] = count + 1
                squares[n] += (2 * count + 1) * rarity**2
                if theirs := own[n].get(ngram):
                    common[n] += (min((count + 1) * rarity, theirs) - min(count * rarity, theirs)) * theirs
            total = sum(
                both / (math.sqrt(square) * norm)
                for both, square, norm in zip(common, squares, own_norms, strict=True)
                if square and norm
            )
            scores.append(10.0 / LONGEST * total * math.exp(-((place - own_length) ** 2) / (2 * SIGMA**2)))
        return scores

    def _vector(self, counts: Counts) -> Vector:
        weights = [{ngram: count * self._rarity(ngram) for ngram, count in each.items()} for each in counts]
        norms = [math.sqrt(sum(value**2 for value in each.values())) for each in weights]
        return weights, norms, sum(counts[1].values())  # as the published code counts: pairs of words

    def _rarity(self, ngram: tuple[int, ...]) -> float:
        return self._log_count - math.log(max(1, self._frequency[ngram]))


def _counts(ids: Sequence[int]) -> Counts:
    return [Counter(tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)) for n in range(1, LONGEST + 1)]


def _ending(ids: Sequence[int], end: int) -> list[tuple[int, ...]]:
    """The n-grams at the end of the first `end` words, n = 1 to LONGEST."""
    last = tuple(ids[max(end - LONGEST, 0) : end])
    return [last[-n:] for n in range(1, len(last) + 1)]


class Kinds:
    """BLEU-4 of the normal sentences of a report against those of a reference, and of the abnormal ones (CMAS-RL)."""

    def __init__(self, references: Sequence[Sequence[int]], vocabulary: Vocabulary):
        self._normal, self._period = normal_words(vocabulary).tolist(), vocabulary.period
        self._references = []
        for reference in references:
            own: tuple[list[int], list[int]] = ([], [])
            for sentence, kind in self._sentences(reference):
                own[kind].extend(sentence)
            self._references.append(own)

    def gains(self, hypothesis: Sequence[int], reference: int) -> list[float]:
        """What each word adds to the sum of both, 0 to 2: all of it with the last of a sentence, whose kind shows then.

        A sentence adds BLEU-4 of the sentences of its kind up to it, as one text, less that of those before it.
        """
        texts, gains, last = [Bleu(own) for own in self._references[reference]], [0.0] * len(hypothesis), -1
        for sentence, kind in self._sentences(hypothesis):
            before = texts[kind].score()
            texts[kind].add(sentence)
            last += len(sentence)
            gains[last] = texts[kind].score() - before
        return gains

    def _sentences(self, ids: Sequence[int]) -> list[tuple[list[int], bool]]:
        """With their kind: whether they are normal. The end of a report is none."""
        parts = (part for part in sentences(ids, self._period) if part != [END])
        return [(part, any(self._normal[id] for id in part)) for part in parts]


class Bleu:
    """BLEU-4 of a text that grows, with one added to matches and n-grams of n > 1 (Lin and Och, COLING 2004)."""

    def __init__(self, reference: Sequence[int]):
        self._left: Counter = sum(_counts(reference), Counter())  # n-grams that are not matched yet
        self._length, self._matches = len(reference), [0] * LONGEST
        self._said: list[int] = []

    def add(self, words: Sequence[int]) -> None:
        for word in words:
            self._said.append(word)
            for n, ngram in enumerate(_ending(self._said, len(self._said))):
                if self._left[ngram] > 0:
                    self._left[ngram] -= 1
                    self._matches[n] += 1

    def score(self) -> float:
        """0 to 1; 0 where no word is common."""
        length, (words, *longer) = len(self._said), self._matches
        if not words:
            return 0.0
        product = words / length
        for n, matches in enumerate(longer, start=1):
            product *= (matches + 1) / (max(length - n, 0) + 1)
        return product ** (1 / LONGEST) * min(1.0, math.exp(1 - self._length / length))


class Reward:
    """A weighted sum of these for reports of the train split."""

    def __init__(
        self,
        references: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
        *,
        cider: float,
        meteor: float = 0.0,
        kinds: float = 0.0,
        jar: Meteor | None = None,
    ):
        """`references`: reports as ids without the start; `cider`, `meteor`, `kinds`: weights; `jar`: for METEOR."""
        self._cider, self._references, self._vocabulary = Cider(references), references, vocabulary
        self._kinds = Kinds(references, vocabulary) if kinds else None
        self._weights, self._jar = (cider, meteor, kinds), jar

    def __call__(self, studies: Sequence[int], reports: Sequence[Sequence[int]]) -> np.ndarray:
        """(N,) float64 of reports as ids, their end included where they have one; `studies`: the reference of each."""
        cider, meteor, kinds = self._weights
        pairs = list(zip(reports, studies, strict=True))
        found = cider * np.array([self._cider.score(*pair) for pair in pairs])
        if kinds:
            found += kinds * np.array([sum(self._kinds.gains(*pair)) for pair in pairs])
        if meteor and reports:  # of several processes one may have none
            texts = [self._vocabulary.decode([*report]) for report in reports]
            own = [self._vocabulary.decode([*self._references[study]]) for study in studies]
            found += meteor * self._jar.score(own, texts)[1]
        return found

    def gains(self, studies: Sequence[int], reports: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """What each word of a report adds to what those before it earn: (T,) float64 each, METEOR left out."""
        cider, _, kinds = self._weights
        found = []
        for report, study in zip(reports, studies, strict=True):
            added = np.zeros(len(report))
            if cider:
                added += cider * np.diff(self._cider.prefixes(report, study), prepend=0.0)
            if kinds:
                added += kinds * np.array(self._kinds.gains(report, study))
            found.append(added)
        return found
