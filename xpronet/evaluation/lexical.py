"""BLEU, METEOR, ROUGE-L and CIDEr of generated reports (paper §4, Tables 1 and 2), equal to pycocoevalcap 1.2.

Texts are cleaned reports (lower case, words separated by spaces): they are not tokenised again. CIDEr is CIDEr-D with
document frequencies from the references being scored (row 32 of docs/paper-and-code.md), so a study's CIDEr depends on
the other studies. Corpus BLEU and METEOR sum statistics over studies; they are not means of the studies' scores.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from xpronet.evaluation.meteor import Meteor, running_meteor

METRICS = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "METEOR", "ROUGE_L", "CIDEr")


def score(references: Sequence[str], hypotheses: Sequence[str], *, meteor: Meteor | None = None) -> dict[str, float]:
    """Corpus value of each of `METRICS`; CIDEr in 0..10, the others in 0..1. Arguments and errors as `score_all`."""
    return score_all(references, hypotheses, meteor=meteor)[0]


def score_all(
    references: Sequence[str], hypotheses: Sequence[str], *, meteor: Meteor | None = None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Corpus values and values per study in one pass.

    Parameters
    ----------
    references, hypotheses : N >= 1 texts each, in the same order of studies; a text may be empty
    meteor : a process of `running_meteor` to use; None starts one for this call

    Returns
    -------
    corpus : {metric: float}
    per_study : {metric: (N,) float64}

    Raises
    ------
    ValueError
        No pairs, unequal lengths, or references that are all empty.
    OSError
        METEOR's Java process is missing or died.
    """
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} references and {len(hypotheses)} hypotheses: give one hypothesis per reference"
        )
    # ROUGE-L splits at single spaces: other white space would glue words together.
    references = [" ".join(text.split()) for text in references]
    hypotheses = [" ".join(text.split()) for text in hypotheses]
    if not any(references):
        raise ValueError(f"{len(references)} references, none with a word: give at least one reference with text")

    gts = {i: [text] for i, text in enumerate(references)}
    res = {i: [text] for i, text in enumerate(hypotheses)}
    with nullcontext(meteor) if meteor else running_meteor() as jar:  # Java starts up while the others are computed
        bleu, bleu_per_study = Bleu(4).compute_score(gts, res, verbose=0)
        rouge, rouge_per_study = Rouge().compute_score(gts, res)
        cider, cider_per_study = Cider().compute_score(gts, res)
        meteor_corpus, meteor_per_study = jar.score(references, hypotheses)

    corpus = (*bleu, meteor_corpus, rouge, cider)
    per_study = (*bleu_per_study, meteor_per_study, rouge_per_study, cider_per_study)
    return (
        {metric: float(value) for metric, value in zip(METRICS, corpus, strict=True)},
        {metric: np.asarray(values, dtype=np.float64) for metric, values in zip(METRICS, per_study, strict=True)},
    )
