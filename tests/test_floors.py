"""A floor that is too low flatters every model: it must be the best constant report, scored as the models are."""

import random

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from xpronet.evaluation.floors import (
    best_constant,
    constant_bleu_4,
    image_neighbours,
    label_constants,
    label_neighbours,
)


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


def test_leaving_its_own_out_each_is_scored_against_the_others():
    """Self-BLEU: pycocoevalcap's, for repeated and for empty reports too."""
    texts = [*sentences(15, 3), "heart", "", sentences(1, 3)[0], "the the the the the lungs"]
    expected = [reference_bleu_4(text, texts[:row] + texts[row + 1 :]) for row, text in enumerate(texts)]
    found = constant_bleu_4(texts, texts, leave_own_out=True)
    there = [row for row, text in enumerate(texts) if text]
    assert found[there] == pytest.approx([expected[row] for row in there], abs=1e-6)


def test_references_may_be_shorter_than_four_words():
    candidates, references = ["no change .", "stable ."], ["no change .", "no ."]
    expected = [reference_bleu_4(report, references) for report in candidates]
    assert constant_bleu_4(candidates, references) == pytest.approx(expected, rel=1e-6, abs=0)


def test_a_report_that_occurs_once_can_win():
    """The most frequent reports are short and typical, not the best floor."""
    references = ["the heart is normal . the lungs are clear . no effusion ."] * 3
    candidates = ["no change ."] * 9 + ["the heart is normal . the lungs are clear ."]
    assert best_constant(candidates, references) == candidates[-1]


# Train: three reports of label set {0}, one of {1}, one of {1, 2}.
REPORTS = ["heart large .", "heart is large .", "heart is large . lungs clear .", "effusion .", "effusion and edema ."]
LABELS = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1]], np.float32)


def test_a_label_s_constant_is_the_best_of_its_own_studies():
    wanted = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]], np.float32)
    of_first = best_constant(REPORTS[:3], REPORTS[:3])
    assert label_constants(REPORTS, LABELS, wanted) == [of_first, "effusion .", "effusion and edema .", of_first]


def test_labels_that_no_train_study_has_take_the_nearest_and_most_frequent():
    """{} differs by one label from {0} and from {1}; three studies have {0}. {0, 1, 2} is nearest to {1, 2}."""
    wanted = np.array([[0, 0, 0], [1, 1, 1]], np.float32)
    found = label_neighbours(REPORTS, LABELS, wanted, seed=1)
    assert found[0] in REPORTS[:3] and found[1] == REPORTS[4]


def test_label_neighbours_are_drawn_by_the_seed():
    wanted = np.tile(LABELS[:1], (20, 1))
    found = label_neighbours(REPORTS, LABELS, wanted, seed=1)
    assert (
        found == label_neighbours(REPORTS, LABELS, wanted, seed=1) != label_neighbours(REPORTS, LABELS, wanted, seed=2)
    )
    assert set(found) == set(REPORTS[:3])


def test_image_neighbours_are_scikit_learn_s():
    """In 25,000 rows, more than are compared at a time."""
    from sklearn.metrics.pairwise import cosine_similarity

    random = np.random.default_rng(0)
    train, held_out = random.random((25_000, 8), np.float32), random.random((7, 8), np.float32)
    train[24_000] = 3 * held_out[2]
    found = image_neighbours(train, held_out)
    assert found.tolist() == cosine_similarity(held_out, train).argmax(axis=1).tolist()
    assert found[2] == 24_000


def test_the_constant_of_iu_xray_is_as_good_as_measured_elsewhere(shared):
    """One report scores about 0.172 on the published test split, above all but one row of the paper's Table 2."""
    from xpronet.data.reports import clean_report
    from xpronet.data.studies import SPLITS, of_split, read_annotation

    studies = read_annotation(shared / "iu_xray/annotation.json")
    reports = {split: [clean_report(s.report, "iu_xray") for s in of_split(studies, split)] for split in SPLITS}
    constant = best_constant(reports["train"], reports["val"])
    assert reference_bleu_4(constant, reports["test"]) == pytest.approx(0.172, abs=0.005)
