"""What any model must beat: reports that need no image."""

from collections import Counter
from collections.abc import Sequence

from pycocoevalcap.bleu.bleu import Bleu


def best_constant(candidates: Sequence[str], references: Sequence[str], *, limit: int) -> str:
    """The one report that, given to every study, has the best BLEU-4 on `references` (validation's).

    Args:
        candidates: cleaned train reports; the `limit` most frequent distinct ones compete, the first seen where tied.
    """
    frequent = [report for report, _ in Counter(candidates).most_common(limit)]
    return max(frequent, key=lambda report: bleu_4(references, [report] * len(references)))


def bleu_4(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    pairs = ({i: [text] for i, text in enumerate(texts)} for texts in (references, hypotheses))
    return Bleu(4).compute_score(*pairs, verbose=0)[0][3]
