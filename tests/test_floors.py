"""A floor that is too low flatters every model: it must be the best constant report, scored as the models are."""

import random

import pytest
from pycocoevalcap.bleu.bleu import Bleu

from xpronet.evaluation.floors import best_constant, constant_bleu_4


def reference_bleu_4(report, references):
    pairs = {i: [text] for i, text in enumerate(references)}, {i: [report] for i in range(len(references))}
    return Bleu(4).compute_score(*pairs, verbose=0)[0][3]


def sentences(count, seed):
    words, source = ["the", "heart", "lungs", "are", "clear", "clear", "no", "effusion", ".", "."], random.Random(seed)
    return [" ".join(source.choices(words, k=source.randint(4, 25))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_pycocoevalcap_s(seed):
    candidates, references = sentences(40, seed), sentences(30, seed + 100)
    candidates += ["the the the the the", "heart"]  # clipped counts; shorter than an n-gram
    expected = [reference_bleu_4(report, references) for report in candidates]
    assert constant_bleu_4(candidates, references) == pytest.approx(expected, abs=1e-6)


def test_a_report_that_occurs_once_can_win():
    """The most frequent reports are short and typical, not the best floor."""
    references = ["the heart is normal . the lungs are clear . no effusion ."] * 3
    candidates = ["no change ."] * 9 + ["the heart is normal . the lungs are clear ."]
    assert best_constant(candidates, references) == candidates[-1]


def test_the_constant_of_iu_xray_is_as_good_as_measured_elsewhere(shared):
    """One report scores about 0.172 on the published test split, above all but one row of the paper's Table 2."""
    from xpronet.data.reports import clean_report
    from xpronet.data.studies import SPLITS, of_split, read_annotation

    studies = read_annotation(shared / "iu_xray/annotation.json")
    reports = {split: [clean_report(s.report, "iu_xray") for s in of_split(studies, split)] for split in SPLITS}
    constant = best_constant(reports["train"], reports["val"])
    assert reference_bleu_4(constant, reports["test"]) == pytest.approx(0.172, abs=0.005)
