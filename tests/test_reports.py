"""Without these, checkpoints and scores of the published code would not carry over: another text, other ids."""

import hashlib
import json

import pytest

from xpronet.data.reports import (
    UNKNOWN,
    Vocabulary,
    as_published,
    check_vocabulary,
    clean_report,
    truncate,
    without_marks,
)


@pytest.fixture(params=["iu_xray", "mimic_cxr"])
def golden(request, shared):
    return request.param, json.loads((shared / "golden/tokenizer" / f"{request.param}.json").read_text())


@pytest.fixture(scope="session")
def annotation(shared):
    return json.loads((shared / "iu_xray/annotation.json").read_text())


def test_cleaning_is_the_published_one(golden):
    style, expected = golden
    for row in expected["rows"]:
        assert clean_report(row["report"], style) == row["cleaned"]


def test_vocabulary_ids_and_decoding_are_the_published_ones(golden, annotation):
    style, expected = golden
    cleaned = {split: [clean_report(study["report"], style) for study in annotation[split]] for split in annotation}
    vocabulary = Vocabulary.build(cleaned["train"], min_count=3)
    assert list(vocabulary.tokens) == expected["vocab"]
    assert vocabulary.tokens[expected["unk_idx"] - 1] == UNKNOWN
    for row in expected["rows"]:
        ids = vocabulary.encode(row["cleaned"])
        assert ids == row["ids"]
        assert vocabulary.decode(ids[1:]) == row["decoded"]
    for case in expected["decode"]:
        assert vocabulary.decode(case["ids"]) == case["text"]
    for split, reports in cleaned.items():
        ids = json.dumps([vocabulary.encode(report) for report in reports])
        assert hashlib.sha256(ids.encode()).hexdigest() == expected["all_ids_json_sha256_by_split"][split]


def test_enumerations_and_punctuation_go():
    assert clean_report("1. Heart size: normal. 2. No effusion.", "iu_xray") == "heart size normal . no effusion ."


def test_unknown_style_is_named():
    with pytest.raises(ValueError, match="'iu-xray': expected one of iu_xray, mimic_cxr"):
        clean_report("x", "iu-xray")


def test_vocabulary_round_trip_and_threshold():
    vocabulary = Vocabulary.build(["the heart is normal .", "the lungs are clear ."], min_count=2)
    assert vocabulary.tokens == (".", UNKNOWN, "the")
    assert vocabulary.encode("the heart .") == [0, 3, 2, 1, 0]
    assert vocabulary.decode([3, 2, 1, 0, 3]) == "the <unk> ."


def test_truncation_keeps_the_end():
    assert truncate([0, 5, 6, 7, 0], 4) == [0, 5, 6, 0]
    assert truncate([0, 5, 0], 4) == [0, 5, 0]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("keep", "the xxxx are clear . x-xxxx ."),
        ("drop", "the are clear ."),
        ("unk", "the <unk> are clear . <unk> ."),
    ],
)
def test_marks_of_removed_words(how, expected):
    """Open-i's reports have them in the place of names and dates, and of many ordinary words."""
    assert without_marks(clean_report("The XXXX are clear. x-XXXX.", "iu_xray"), how) == expected
    vocabulary = Vocabulary.build(["the are clear ."], 1)
    ids = vocabulary.encode(without_marks("xxxx are .", how))
    assert ids == {"drop": vocabulary.encode("are .")}.get(how, vocabulary.encode("never-seen are ."))


def test_references_as_the_published_code_scores_them(shared):
    """Counted elsewhere on the real test split: 33 of 590 are cut, and 199 words are unknown (row 23)."""
    annotation = json.loads((shared / "iu_xray/annotation.json").read_text())
    cleaned = {split: [clean_report(study["report"], "iu_xray") for study in annotation[split]] for split in annotation}
    vocabulary = Vocabulary.build(cleaned["train"], 3)
    cut = [as_published(text, vocabulary, 60) for text in cleaned["test"]]
    assert sum(len(vocabulary.encode(text)) > 60 for text in cleaned["test"]) == 33
    assert sum(found.split().count(UNKNOWN) for found in cut) == 199
    for text, found in zip(cleaned["test"], cut, strict=True):
        words = text.split()[:59]  # of 60 ids the first is the start
        assert [word if word in vocabulary.tokens else UNKNOWN for word in words] == found.split()


def test_a_vocabulary_of_unknown_words_stops_and_a_poor_one_is_said(caplog):
    """With reports.min_count=1000 a model would learn to write `<unk>`, for hours."""
    cleaned = ["the heart is normal .", "the heart is large .", "the lungs are clear ."]
    with pytest.raises(ValueError, match=r"^60\.0% of the words .* vocabulary of 3: lower reports.min_count$"):
        check_vocabulary(cleaned, Vocabulary.build(cleaned, 3))
    check_vocabulary(cleaned, Vocabulary.build(cleaned, 2))
    assert "33.3% of the words in the train reports are unknown to a vocabulary of 5" in caplog.text
    caplog.clear()
    check_vocabulary(cleaned, Vocabulary.build(cleaned, 1))
    assert not caplog.text


def test_the_published_vocabulary_passes_unsaid(shared, caplog):
    studies = json.loads((shared / "iu_xray/annotation.json").read_text())["train"]
    cleaned = [clean_report(study["report"], "iu_xray") for study in studies]
    check_vocabulary(cleaned, Vocabulary.build(cleaned, 3))
    assert not caplog.text
