"""Labels arrive as the published files have them, or with a reason why not; nothing in a pickle is run."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpronet.classifier.calibration import auroc, macro_auroc, quality, reliability
from xpronet.classifier.thresholds import choose_thresholds, decide
from xpronet.data.studies import Study
from xpronet.labels.conditions import (
    ALPHABETICAL,
    BLANK,
    CONDITIONS,
    NEGATIVE,
    NO_FINDING,
    POSITIVE,
    SUPPORT_DEVICES,
    UNCERTAIN,
    pseudo_labels,
    true_labels,
)
from xpronet.labels.plausible import oddities
from xpronet.labels.published import import_classes
from xpronet.labels.rules import label
from xpronet.labels.table import read_labels, write_labels
from xpronet.sources.openi import read_reports
from xpronet.sources.phantom import source
from xpronet.sources.phantom.state import OBSERVATIONS

STUDIES = [Study(id, "train", "x", ("a.png",)) for id in ("CXR1_IM-0001", "CXR2_IM-0002-1001")]
A = Study("A", "train", "x", ("a.png",))
ROWS = {"CXR1_IM-0001": [0, 1] + [0] * 12, "CXR2_IM-0002": [0] * 13 + [1]}
EXPECTED = np.array(list(ROWS.values()), np.float32)


def write_row(path, cells, id="A"):
    path.write_text(f"{','.join(['id', *CONDITIONS])}\n{','.join([id, *cells])}\n")


def test_csv_round_trip(tmp_path):
    values = np.array([[0.123456789] * 14, [0, 1] * 7], np.float32)
    write_labels(tmp_path / "l.csv", STUDIES, values)
    np.testing.assert_allclose(read_labels(tmp_path / "l.csv", STUDIES), values, atol=5e-7)
    assert "0,1,0,1" in (tmp_path / "l.csv").read_text()


def test_a_study_has_one_row(tmp_path):
    """Of two rows that differ the last would win, unseen."""
    header = ",".join(["id", *CONDITIONS])
    zeros, ones = ",".join("0" * 14), ",".join("1" * 14)
    (tmp_path / "l.csv").write_text(f"{header}\nA,{zeros}\nB,{ones}\nA,{zeros}\n")
    assert not read_labels(tmp_path / "l.csv", [A]).any()
    (tmp_path / "l.csv").write_text(f"{header}\nA,{zeros}\nB,{ones}\nA,{ones}\n")
    with pytest.raises(ValueError, match="l.csv: A stands in lines 2 and 4, with different values"):
        read_labels(tmp_path / "l.csv", [A])
    (tmp_path / "l.json").write_text(f'{{"conditions": [], "labels": {{"A": [{zeros}],\n"A": [{ones}]}}}}')
    with pytest.raises(ValueError, match="l.json: 'A' stands twice in lines 1 and 2"):
        import_classes(tmp_path / "l.json", [A])


def test_json_is_found_by_the_first_two_parts_of_an_id_and_permuted(tmp_path):
    shuffled = {"conditions": CONDITIONS[::-1], "labels": {id: row[::-1] for id, row in ROWS.items()}}
    (tmp_path / "l.json").write_text(json.dumps(shuffled))
    np.testing.assert_array_equal(import_classes(tmp_path / "l.json", STUDIES) == POSITIVE, EXPECTED)


@pytest.mark.parametrize("kind", [list, np.array, lambda row: np.array(row, np.float32), tuple])
@pytest.mark.parametrize("protocol", [2, 4])
def test_published_pickles(tmp_path, kind, protocol):
    (tmp_path / "l.pickle").write_bytes(pickle.dumps({id: kind(row) for id, row in ROWS.items()}, protocol=protocol))
    np.testing.assert_array_equal(import_classes(tmp_path / "l.pickle", STUDIES) == POSITIVE, EXPECTED)


def test_pickles_of_mimic_cxr_have_their_own_order(tmp_path):
    row = [float(name == "Cardiomegaly") for name in ALPHABETICAL]
    (tmp_path / "l.pickle").write_bytes(pickle.dumps({study.id: row for study in STUDIES}))
    found = import_classes(tmp_path / "l.pickle", STUDIES, order="alphabetical")
    assert [CONDITIONS[k] for k in np.flatnonzero(found[0] == POSITIVE)] == ["Cardiomegaly"]


VALUES = [("1", POSITIVE), ("0", NEGATIVE), ("-1", UNCERTAIN), ("", BLANK), ("1.0", POSITIVE), (" -1.0 ", UNCERTAIN)]


@pytest.mark.parametrize(("cell", "meaning"), VALUES)
def test_a_file_has_chexpert_s_values(tmp_path, cell, meaning):
    write_row(tmp_path / "l.csv", ["0", cell, *["0"] * 12])
    assert import_classes(tmp_path / "l.csv", [A])[0].tolist() == [NEGATIVE, meaning, *[NEGATIVE] * 12]
    row = [0, float(cell) if cell else None, *[0] * 12]
    (tmp_path / "l.json").write_text(json.dumps({"conditions": CONDITIONS, "labels": {"A": row}}))
    (tmp_path / "l.pickle").write_bytes(pickle.dumps({"A": np.array(row, float)}))  # None is NaN there
    for name in ("l.json", "l.pickle"):
        assert import_classes(tmp_path / name, [A])[0, :3].tolist() == [NEGATIVE, meaning, NEGATIVE]


def test_a_probability_is_no_label_unless_a_threshold_says_so(tmp_path):
    """Above 0 alone, a classifier's fourteen 0.01 would be fourteen observations."""
    write_row(tmp_path / "l.csv", ["0.01", "0.7", "0.69", *["0"] * 10, "1"])
    with pytest.raises(ValueError) as error:
        import_classes(tmp_path / "l.csv", [A])
    assert str(error.value) == (
        f"{tmp_path}/l.csv: 0.01 (Enlarged Cardiomediastinum of study A) is not 1, 0, -1 or blank,"
        " nor are 2 more: if they are probabilities, set labels.threshold"
    )
    found = import_classes(tmp_path / "l.csv", [A], threshold=0.7)[0]
    assert np.flatnonzero(found == POSITIVE).tolist() == [1, 13]
    write_row(tmp_path / "l.csv", ["0.01", "-1", "", *["0"] * 11])
    with pytest.raises(ValueError, match=r"-1 \(Cardiomegaly of study A\) is not a probability, nor are 1 more"):
        import_classes(tmp_path / "l.csv", [A], threshold=0.7)


def test_a_prefix_of_an_id_counts_in_published_files_only_and_is_said(tmp_path, caplog):
    """In a table of one's own another image of the study would take its labels, unseen."""
    caplog.set_level("INFO")
    study = Study("p1-s1-img7", "train", "x", ("a.png",))
    write_row(tmp_path / "l.csv", ["0"] * 14, "p1-s1")
    for read in (read_labels, import_classes):
        with pytest.raises(ValueError, match="no labels for study p1-s1-img7"):
            read(tmp_path / "l.csv", [study])
    (tmp_path / "l.json").write_text(json.dumps({"conditions": CONDITIONS, "labels": {"p1-s1": [0] * 14}}))
    assert not caplog.messages
    import_classes(tmp_path / "l.json", [study])
    assert "1 of 1 studies take the labels of the first two parts of their id, p1-s1-img7 first" in caplog.text


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


def test_a_pickle_runs_no_code(tmp_path, capsys):
    (tmp_path / "l.pickle").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(ValueError, match=r"l.pickle: not a label pickle: it wants builtins.print"):
        import_classes(tmp_path / "l.pickle", STUDIES)
    assert "owned" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"\x80", b"garbage", pickle.dumps([1, 2]), b"\x80\x04\x8e" + b"\xff" * 8])
def test_what_is_no_label_pickle_is_one_line(tmp_path, content):
    (tmp_path / "l.pickle").write_bytes(content)
    with pytest.raises(ValueError, match="l.pickle"):
        import_classes(tmp_path / "l.pickle", STUDIES)


def test_missing_studies_and_bad_rows_are_all_named(tmp_path):
    studies = [*STUDIES, Study("C3", "val", "x", ("a.png",)), Study("C4", "val", "x", ("a.png",))]
    rows = {**ROWS, "C4": [2] * 14, "CXR1_IM-0001": [0, 1], "CXR2_IM-0002": 1}
    (tmp_path / "l.json").write_text(json.dumps({"conditions": CONDITIONS, "labels": rows}))
    with pytest.raises(ValueError) as error:
        import_classes(tmp_path / "l.json", studies)
    for line in (
        "3 problems",
        "no labels for study C3",
        "study CXR1_IM-0001: expected 14",
        "2-1001: expected 14",
    ):
        assert line in str(error.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"conditions": None, "labels": {}}, "conditions: expected a list of the 14 names"),
        ({"conditions": [*CONDITIONS[1:], 1], "labels": {}}, "conditions: expected a list of the 14 names"),
        ({"conditions": CONDITIONS, "labels": [[0] * 14]}, "labels: expected an object of id -> 14 numbers, got list"),
        ({"conditions": CONDITIONS, "labels": None}, "labels: expected an object of id -> 14 numbers, got NoneType"),
        (
            {"conditions": CONDITIONS, "labels": {**ROWS, "CXR1_IM-0001": [10**400] * 14}},
            "study CXR1_IM-0001: expected 14 numbers",
        ),
    ],
)
def test_json_of_another_form_is_one_line(tmp_path, content, line):
    (tmp_path / "l.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"l.json: {line}"):
        import_classes(tmp_path / "l.json", STUDIES)


def test_labels_of_another_dataset_are_one_line(tmp_path):
    """Not a line for each of 200,000 studies."""
    (tmp_path / "l.json").write_text(json.dumps({"conditions": CONDITIONS, "labels": {"other": [0] * 14}}))
    with pytest.raises(ValueError, match=r"l.json: no labels for any of 2 studies, CXR1_IM-0001 first: .*dataset\?$"):
        import_classes(tmp_path / "l.json", STUDIES)


@pytest.mark.parametrize(
    "row", [1, [0, 1], [[1] + [0] * 13], np.zeros((1, 14)), dict.fromkeys(CONDITIONS, 0), "01010101010101", None]
)
@pytest.mark.parametrize("order", ["chexbert", "alphabetical"])
def test_a_row_of_another_form_is_refused(tmp_path, row, order):
    """Taken as it comes it would be labels of other observations."""
    (tmp_path / "l.pickle").write_bytes(pickle.dumps({**ROWS, "CXR1_IM-0001": row}))
    with pytest.raises(ValueError, match=r"l.pickle: (study CXR1_IM-0001: expected 14 numbers|no labels for study)"):
        import_classes(tmp_path / "l.pickle", STUDIES, order=order)


def test_uncertain_and_no_finding():
    classes = np.zeros((3, 14), int)
    classes[0, 1], classes[1, 4] = 3, 2
    positive, negative = pseudo_labels(classes), pseudo_labels(classes, uncertain="negative")
    assert positive[0].nonzero()[0].tolist() == [1]
    assert negative[0].nonzero()[0].tolist() == [NO_FINDING]
    assert positive[1:].sum(axis=1).tolist() == [1, 1]  # none is without a label


def test_support_devices_leave_no_finding_as_the_labeller_gave_it():
    """Rows 18, 35: a pacemaker in a healthy chest has both, as in CheXbert; alone it forces nothing."""
    devices = CONDITIONS.index("Support Devices")
    classes = np.zeros((3, 14), int)
    classes[:, devices] = POSITIVE
    classes[0, NO_FINDING], classes[2, devices] = POSITIVE, UNCERTAIN
    labels = pseudo_labels(classes)
    assert [row.nonzero()[0].tolist() for row in labels] == [[devices, NO_FINDING], [devices], [devices]]
    assert pseudo_labels(classes, uncertain="negative")[2].nonzero()[0].tolist() == [NO_FINDING]
    assert labels.dtype == np.float32


def test_phantom_and_labels_name_the_same_observations_in_the_same_order():
    """The data room cannot import the labels', so the list stands twice."""
    assert OBSERVATIONS == CONDITIONS


def test_true_labels_only_of_phantoms():
    assert true_labels([{"observations": ["Edema"]}, None]) is None
    assert true_labels([{"observations": ["Edema"]}])[0].nonzero()[0].tolist() == [CONDITIONS.index("Edema")]


def test_thresholds_and_auroc_by_hand():
    labels, probabilities = np.zeros((4, 14)), np.zeros((4, 14))
    labels[:, 0] = [0, 0, 1, 1]
    probabilities[:, 0] = [0.1, 0.4, 0.35, 0.8]
    assert auroc(labels, probabilities) == {CONDITIONS[0]: 0.75}
    assert macro_auroc(labels, probabilities) == 0.75
    thresholds = choose_thresholds(labels, probabilities, kind="each")
    assert thresholds[0] == pytest.approx(0.35)  # F1 0.8 there, 0.67 at 0.8
    assert (thresholds[1:] == 0.5).all()
    decided = decide(probabilities, thresholds)
    assert decided[:, 0].tolist() == [0, 1, 1, 1]
    assert decided[:, NO_FINDING].tolist() == [1, 0, 0, 0]


def test_a_shared_threshold_is_best_for_all_decisions_together():
    """One study of an observation does not decide where its threshold lies."""
    labels, probabilities = np.zeros((4, 14)), np.full((4, 14), 0.1)
    labels[:, 0], probabilities[:, 0] = [0, 0, 1, 1], [0.1, 0.4, 0.5, 0.8]
    labels[:, 1], probabilities[:, 1] = [0, 0, 0, 1], [0.3, 0.3, 0.2, 0.2]
    assert choose_thresholds(labels, probabilities, kind="each")[:2] == pytest.approx([0.5, 0.2])
    thresholds = choose_thresholds(labels, probabilities, kind="shared")  # of 0.5: F1 4 / 5, of 0.2: 6 / 9
    assert thresholds == pytest.approx(np.full(14, 0.5))
    assert (choose_thresholds(np.zeros((4, 14)), probabilities, kind="shared") == 0.5).all()


def test_a_predicted_pacemaker_leaves_the_classifier_s_own_no_finding():
    """A pair that training has; a disease beside No Finding it has not, and a study without a label neither."""
    above = np.zeros((4, 14))
    above[:3, NO_FINDING] = above[0, SUPPORT_DEVICES] = above[1, 4] = above[2, SUPPORT_DEVICES] = above[2, 4] = 1
    decided = [row.nonzero()[0].tolist() for row in decide(above, np.full(14, 0.5))]
    assert decided == [[SUPPORT_DEVICES, NO_FINDING], [4], [4, SUPPORT_DEVICES], [NO_FINDING]]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=14, max_size=14), min_size=1, max_size=5))
def test_labels_are_decided_as_reports_could_give_them(probabilities):
    """The prototypes that a study queries under test are a choice that training had: none is undone or added."""
    decided = decide(np.array(probabilities), np.full(14, 0.5))
    np.testing.assert_array_equal(pseudo_labels(np.where(decided, POSITIVE, 0)), decided)
    diseases = np.delete(decided, [NO_FINDING, SUPPORT_DEVICES], axis=1).any(axis=1)
    assert not decided[diseases, NO_FINDING].any()
    own = np.array(probabilities) >= 0.5
    np.testing.assert_array_equal(decided[:, :NO_FINDING], own[:, :NO_FINDING])
    assert decided[~diseases & own[:, NO_FINDING], NO_FINDING].all()


def test_calibration_by_hand():
    """Of four studies given about 0.25 a quarter has it; of two given 0.9 and 0.7 one each bin has all or none."""
    labels, given = np.array([0, 0, 0, 1, 1, 0]), np.array([0.2, 0.22, 0.28, 0.28, 0.9, 0.7])
    found = reliability(labels, given)
    assert found.studies.tolist() == [4, 1, 1]
    assert found.predicted == pytest.approx([0.245, 0.7, 0.9]) and found.observed.tolist() == [0.25, 0, 1]
    assert found.error == pytest.approx((4 * 0.005 + 0.7 + 0.1) / 6)


def test_honest_probabilities_are_calibrated_and_certain_ones_count_in_the_last_bin():
    random = np.random.default_rng(0)
    given = random.random(100_000)
    assert reliability((random.random(100_000) < given).astype(int), given).error < 0.01
    assert reliability(np.ones(3), np.ones(3)).error == 0


def test_the_quality_of_each_observation_stands_beside_its_chance_level():
    labels, probabilities = np.zeros((4, 14)), np.full((4, 14), 0.5)
    labels[:, 0], labels[:, 1] = [0, 0, 1, 1], [0, 1, 0, 0]
    probabilities[:, 0] = [0.1, 0.4, 0.35, 0.8]
    found = quality(labels, probabilities, probabilities > 0.38)
    first, second = CONDITIONS[:2]
    assert set(found["AUROC"]) == {first, second}  # nothing can be ranked where all studies are alike
    assert found["AUROC"] == {first: 0.75, second: 0.5} and found["prevalence"] == {first: 0.5, second: 0.25}
    assert found["AUPRC"][first] == pytest.approx((1 + 2 / 3) / 2) and found["AUPRC"][second] == 0.25
    assert found["F1"] == {first: 0.5, second: 0.4}
    assert found["ECE"][second] == 0.25 and found["macro_AUROC"] == 0.625


SPANISH = ["No hay derrame pleural ni neumotórax.", "Silueta cardiaca de tamaño normal.", "Sin consolidaciones."]
GERMAN = ["Kein Pneumothorax. Kein Erguss.", "Pneumothorax rechts, kleiner Erguss.", "Herz normal groß."]
HEALTHY = ["The heart is normal.", "There is no effusion and no pneumothorax.", "The lungs are clear."]
SICK = ["Cardiomegaly.", "There is a small effusion.", "Left base atelectasis with effusion."]


def odd(texts, *, file=False) -> list[str]:
    classes = label(texts)
    return list(oddities(classes, pseudo_labels(classes), () if file else texts))


@pytest.mark.parametrize("texts", [SPANISH, HEALTHY])
def test_labels_of_which_nothing_can_be_learnt_stop(texts):
    """Reports in another language are all No Finding, and prototypes of nothing but noise would follow."""
    with pytest.raises(ValueError, match=r"100\.0% of 3 studies have no observation: .*labels.section, .* English"):
        odd(texts)
    with pytest.raises(ValueError, match=r"100\.0% of 3 studies .*look at labels.file"):
        odd(texts, file=True)


def test_labels_that_make_little_sense_are_said():
    assert ["English" in line for line in odd(GERMAN)] == [True]  # a negation that rules do not know
    assert odd([*HEALTHY * 30, *SICK])[0].startswith("96.8% of 93 studies have no observation")
    assert odd(SICK + HEALTHY) == odd(SICK, file=True) == []
    silent = odd(["Normal and unchanged.", *["Unremarkable and unchanged study."] * 30, *SICK])
    assert silent == ["91.2% of 34 reports say nothing of any observation: look at labels.section"]
    classes = np.zeros((4, 14), int)
    classes[0, 4] = POSITIVE
    assert list(oddities(classes, pseudo_labels(classes)))[0].startswith("75.0% of 4 studies have no label")


def test_phantom_and_real_labels_pass_unsaid(shared):
    studies = source.studies(train=200, val=1, test=1, seed=1)
    assert odd([study.findings for study in studies]) == []
    reports = read_reports(shared / "iu_xray/raw/NLMCXR_reports.tgz")
    for section in ("findings", "impression"):
        assert odd([getattr(report, section) for report in reports]) == []
