"""Templates come from train reports alone, and none stands beside its negation."""

import json
from pathlib import Path

from xpronet.labels import rules
from xpronet.labels.templates import coverage, mine, sentences

CLEAR, NO, SOME = "the lungs are clear .", "there is no pleural effusion .", "there is a pleural effusion ."
LEFT, RIGHT = "there is a small left pleural effusion .", "there is a small right pleural effusion ."


def found(*reports, min_share=0.2, min_overlap=0.7):
    templates = mine(reports, rules.label, min_share=min_share, min_overlap=min_overlap)
    return {template.wordings: template.studies for template in templates}


def test_a_report_falls_into_its_sentences():
    assert sentences(f"{CLEAR} {NO}") == [CLEAR, NO]
    assert sentences("cut in a") == ["cut in a"] and sentences("") == [] and sentences(". .") == [".", "."]


def test_a_template_is_in_many_reports_and_each_counts_once():
    assert found(f"{CLEAR} {CLEAR}", CLEAR, NO, "x .", "y .", min_share=0.4) == {(CLEAR,): 2}
    assert found("x .", "y .", "z .", min_share=0.4) == {}


def test_a_sentence_and_its_negation_and_the_other_side_are_apart():
    assert set(found(NO, SOME, LEFT, RIGHT, min_overlap=0.1)) == {(NO,), (SOME,), (LEFT,), (RIGHT,)}


def test_wordings_of_one_meaning_are_together_the_commonest_first():
    other = "no pleural effusion is seen ."
    assert found(NO, other, other, f"{other} {NO}") == {(other, NO): 4}


def test_coverage_counts_sentences():
    templates = mine([CLEAR, NO], rules.label, min_share=0.5, min_overlap=0.7)
    assert coverage([f"{CLEAR} {CLEAR} x .", NO], templates) == 3 / 4 and coverage([], templates) == 0


def test_no_template_comes_from_another_split_than_train(made):
    """And the stage says what of each split they cover."""
    made.run("templates", templates={"min_share": 0.01, "min_overlap": 1.0})
    wordings = {
        wording for group in json.loads(Path("data/templates.json").read_text()) for wording in group["wordings"]
    }
    of = {
        split: [each for id in made.ids(split) for each in sentences(made.text[id])]
        for split in ("train", "val", "test")
    }
    assert wordings == set(of["train"])
    metrics = json.loads(Path("metrics/details/templates.json").read_text())
    for split, written in of.items():
        assert metrics[f"{split}_coverage"] == sum(each in wordings for each in written) / len(written)
    assert metrics["wordings"] == len(wordings) and metrics["train_coverage"] == 1
