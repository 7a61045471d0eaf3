"""MIMIC-CXR's findings and impressions come out as MIT-LCP's extraction has them; all reports here are invented."""

import json

import pytest

from xpronet.sources.mimic import SECTIONS, section_of, sections

REPORT = "\n ".join(
    [
        "                                 FINAL REPORT",
        "EXAMINATION:  CHEST (PA AND LAT)",
        "",
        "COMPARISON:  ___.",
        "",
        "FINDINGS: ",
        "",
        "The lungs are clear.",
        "The heart is normal.",
        "",
        "IMPRESSION: ",
        "",
        "No acute process.",
        "",
    ]
)


def test_an_ordinary_report():
    assert sections(REPORT) == {
        "findings": "The lungs are clear.\n The heart is normal.",
        "impression": "No acute process.",
        "last_paragraph": "",
        "comparison": "___.",
    }


def body(*parts):
    return "FINAL REPORT\n " + "\n \n ".join(parts) + "\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (body("", "FINDINGS AND IMPRESSION: Clear."), {"impression": "Clear."}),
        (body("", "CHEST, TWO VIEWS: Clear."), {"findings": "Clear."}),
        (body("", "PORTABLE UPRIGHT RADIOGRAPH: Clear."), {"findings": "Clear."}),
        (body("", "IMPRESSION: Old.", "IMPRESSION: New."), {"impression": "New."}),  # the last of a name
        (body("", "FINDINGS: Clear.", "IMPRESSION: "), {"findings": "Clear."}),  # an empty one is none
        (body("", "INDICATION: Cough.", "The lungs are clear."), {"last_paragraph": "The lungs are clear."}),
        ("IMPRESSION: Clear.\n", {}),  # the first line is never a header
        ("FINAL REPORT\n \n Clear.\n", {"last_paragraph": "Clear."}),  # no header at all
        ("", {}),
        # What follows on a header's line is passed over, so that a header on the next line is swallowed.
        ("X\n FINDINGS:\n IMPRESSION: Clear.\n", {"findings": "IMPRESSION: Clear."}),
        (body("", "IMPRESSION: Clear.", "ADDENDUM  by phone"), {"impression": "Clear.\n \n ADDENDUM  by phone"}),
        (body("", "Findings: Clear."), {"last_paragraph": "Findings: Clear."}),  # capitals only
    ],
)
def test_the_rules(text, expected):
    assert {name: found for name, found in sections(text).items() if found} == expected


def test_all_published_cases(shared):
    """172 invented reports and 50 headers, through the official extraction."""
    golden = json.loads((shared / "golden/mimic_sections/sections.json").read_text())
    assert len(golden["reports"]) == 172 and len(golden["normalised_names"]) == 50
    for report in golden["reports"]:
        assert sections(report["text"]) == {name: report[name] or "" for name in SECTIONS}, report["tag"]
    asked = {"findings", "impression", "comparison"}
    for header, official in golden["normalised_names"]:
        ours = section_of(header)
        assert ours == official if {ours, official} & asked else True, header
