"""Sides and lobes: which findings of two reports are compared, and when they are placed alike."""

import pytest

from xpronet.evaluation.places import places

EFFUSION = "there is a small {} pleural effusion ."
MASS = "there is a mass in the {} lobe ."


@pytest.mark.parametrize(
    ("own", "written", "side", "lobe"),
    [
        ([EFFUSION.format("left")], [EFFUSION.format("left")], (1, 1), (0, 0)),
        ([EFFUSION.format("left")], [EFFUSION.format("right")], (0, 1), (0, 0)),
        ([EFFUSION.format("left")], ["the left lung is clear ."], (0, 0), (0, 0)),
        ([EFFUSION.format("left")], ["there is no left pleural effusion ."], (0, 0), (0, 0)),
        ([MASS.format("left upper")], [MASS.format("left lower")], (1, 1), (0, 1)),
        ([MASS.format("left upper")], [MASS.format("upper")], (0, 0), (1, 1)),
        (
            [f"{EFFUSION.format('left')} {EFFUSION.format('right')}"],  # both sides, one after the other
            [f"{EFFUSION.format('right')} {EFFUSION.format('left')}"],
            (1, 1),
            (0, 0),
        ),
        (["there are bilateral pleural effusions ."], [EFFUSION.format("left")], (0, 1), (0, 0)),
        (
            ["there are bilateral pleural effusions ."],
            [f"{EFFUSION.format('right')} {EFFUSION.format('left')}"],
            (1, 1),
            (0, 0),
        ),
        (["a left-sided pleural effusion ."], [EFFUSION.format("left")], (1, 1), (0, 0)),
        (["left-lower-lobe mass ."], [MASS.format("left lower")], (1, 1), (1, 1)),
        (["bibasilar atelectasis ."], ["bilateral atelectasis ."], (1, 1), (0, 0)),
        (["bibasal atelectasis ."], ["left atelectasis ."], (0, 1), (0, 0)),
        (["biapical pneumothorax ."], ["right pneumothorax . left pneumothorax ."], (1, 1), (0, 0)),
        (["there is a mass in the lingula ."], [MASS.format("left upper")], (1, 1), (0, 1)),
        (["there is a lingular mass ."], [MASS.format("right middle")], (0, 1), (1, 1)),
        # What is upper or lower but no part of a lung is no lobe.
        (["fracture of a lower thoracic vertebra ."], ["fracture of an upper thoracic vertebra ."], (0, 0), (0, 0)),
        (["right picc with tip in lower svc ."], ["right picc with tip in upper svc ."], (1, 1), (0, 0)),
        # A sentence's places are those of all its findings.
        (
            ["left atelectasis with right pleural effusion ."],
            ["left atelectasis . " + EFFUSION.format("right")],
            (0, 2),
            (0, 0),
        ),
        # Each study by itself, each finding by itself.
        ([EFFUSION.format("left"), EFFUSION.format("right")], [EFFUSION.format("right")] * 2, (1, 2), (0, 0)),
        (
            [f"{EFFUSION.format('left')} {MASS.format('right upper')}"],
            [f"{EFFUSION.format('left')} {MASS.format('left upper')}"],
            (1, 2),
            (1, 1),
        ),
    ],
)
def test_a_finding_that_both_reports_place_counts(own, written, side, lobe):
    found = places(own, written)
    for kind, (same, of) in {"side": side, "lobe": lobe}.items():
        assert found[f"{kind}s"] == of
        assert found[f"same_{kind}"] == (same / of if of else None)


def test_of_nothing_there_is_no_share():
    nothing = {"same_side": None, "same_lobe": None, "sides": 0, "lobes": 0}
    assert places([], []) == places([""], [EFFUSION.format("left")]) == nothing
