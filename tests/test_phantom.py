"""The phantom dataset: reproducible, learnable pictures and reports whose words and labels agree."""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from xpronet.labels.conditions import CONDITIONS
from xpronet.sources.phantom import phrases
from xpronet.sources.phantom.source import PhantomStudy, draw, studies

# A reader's own list of the words that stand for each observation, written down apart from the phrase tables.
NAMED_BY = {
    "Enlarged Cardiomediastinum": r"mediastin\w+",
    "Cardiomegaly": r"cardiomegaly|enlarge\w* (of the heart|to a|accentuated)|cardiac (silhouette|enlargement)",
    "Lung Opacity": r"opacit(y|ies)",
    "Lung Lesion": r"nodules?|mass",
    "Edema": r"edema",
    "Consolidation": r"consolidation",
    "Pneumonia": r"pneumonia|bronchopneumonia",
    "Atelectasis": r"atelectasis",
    "Pneumothorax": r"pneumothorax",
    "Pleural Effusion": r"effusions?|pleural fluid",
    "Pleural Other": r"pleural thickening",
    "Fracture": r"fractures?",
    "Support Devices": r"pacemaker|pacer|tube|catheter|line|valve",
}
DENIED = r"\b(no|not|without|negative|absent|free of|neither|unbroken)\b"


@pytest.fixture(scope="module")
def cohort() -> list[PhantomStudy]:
    return studies(train=1000, val=150, test=250, seed=11)


@functools.cache
def normal_study() -> PhantomStudy:
    """A healthy study with two views, without variants."""
    for study in studies(train=400, val=0, test=0, seed=2):
        if study.state["look"] == "plain" and not study.state["signs"]:
            variants = {"volume": "normal", "aorta": "normal", "spine": "normal"}
            geometry = {"zoom": 1.0, "shift": [0.0, 0.0], "tilt": 0.0, "width": 1.0}
            state = study.state | {"variants": variants, "geometry": geometry}
            return dataclasses.replace(study, state=state)
    raise AssertionError("no healthy study among 400")


def with_sign(study: PhantomStudy, name: str, **parameters) -> PhantomStudy:
    signs = study.state["signs"] | {name: parameters}
    return dataclasses.replace(study, state=study.state | {"signs": signs})


def change(name: str, view: str = "frontal", **parameters) -> np.ndarray:
    """Picture with the sign minus the same picture without it, (128, 128) float."""
    study = normal_study()
    after = draw(with_sign(study, name, **parameters), view, size=128)
    return after.astype(float) - draw(study, view, size=128)


def box(picture: np.ndarray, x: tuple[float, float], y: tuple[float, float]) -> np.ndarray:
    """The part of a picture between anatomical coordinates; the patient's right is at negative x."""
    rows, columns = ([round((v + 1) / 2 * 128) for v in pair] for pair in (y, x))
    return picture[rows[0] : rows[1], columns[0] : columns[1]]


def test_same_seed_same_bytes_other_seed_other_bytes():
    """Lost otherwise: two people who run the default dataset compare different pictures."""
    first, again, other = (studies(train=5, val=0, test=0, seed=s) for s in (3, 3, 4))
    assert first == again and first != other
    for study, twin, stranger in zip(first, again, other, strict=True):
        picture = draw(study, "frontal", size=96)
        assert picture.tobytes() == draw(twin, "frontal", size=96).tobytes()
        assert picture.tobytes() != draw(stranger, "frontal", size=96).tobytes()


def test_a_study_survives_json():
    """Lost otherwise: a state that was written to annotation.json draws another picture when read back."""
    study = studies(train=1, val=0, test=0, seed=3)[0]
    back = dataclasses.replace(study, state=json.loads(json.dumps(study.state)))
    assert draw(back, "frontal", size=96).tobytes() == draw(study, "frontal", size=96).tobytes()


def test_another_process_samples_the_same_studies():
    """Lost otherwise: reports that change with Python's hash seed, from one run of the pipeline to the next."""
    code = (
        "from xpronet.sources.phantom.source import studies; import json; "
        "print(json.dumps([[s.state, s.findings, s.impression] for s in studies(train=40, val=0, test=0, seed=6)]))"
    )
    runs = []
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        runs.append(process.stdout)
    here = json.dumps([[s.state, s.findings, s.impression] for s in studies(train=40, val=0, test=0, seed=6)])
    assert runs[0] == runs[1] == here.encode() + b"\n"


def test_a_study_does_not_depend_on_how_many_there_are():
    """Lost otherwise: a larger training split would silently change the patients one has looked at."""
    few, many = studies(train=3, val=2, test=1, seed=5), studies(train=30, val=2, test=4, seed=5)
    for small, large in zip(few, many, strict=False):
        assert dataclasses.replace(small, split="") == dataclasses.replace(large, split="")
    assert [study.split for study in few] == ["train"] * 3 + ["val"] * 2 + ["test"]
    assert len({study.id for study in many}) == 36


def test_views_and_shapes(cohort):
    """Lost otherwise: the packer meets pictures of an unknown size, type or view."""
    single = sum(len(study.views) == 1 for study in cohort) / len(cohort)
    assert 0.1 < single < 0.22
    study = next(study for study in cohort if len(study.views) == 2)
    for view in study.views:
        for size in (64, 112):
            picture = draw(study, view, size=size)
            assert picture.shape == (size, size) and picture.dtype == np.uint8 and picture.std() > 25


def test_mistakes_are_named(cohort):
    """Lost otherwise: a typo in a view or a negative count gives an obscure error far away."""
    single = next(study for study in cohort if study.views == ("frontal",))
    with pytest.raises(ValueError, match="no view 'lateral': choose one of frontal"):
        draw(single, "lateral", size=64)
    with pytest.raises(ValueError, match="size is 8"):
        draw(single, "frontal", size=8)
    with pytest.raises(ValueError, match="val is -1"):
        studies(train=1, val=-1, test=0, seed=0)


def test_prevalences(cohort):
    """Lost otherwise: a class too rare to learn or to score, or hardly a normal study."""
    share = Counter(name for study in cohort for name in study.state["observations"])
    share = {name: share[name] / len(cohort) for name in CONDITIONS}
    assert 0.3 < share["No Finding"] < 0.5
    assert min(share.values()) >= 0.04, share


def test_observations_agree_with_each_other(cohort):
    """Lost otherwise: labels that contradict themselves, such as No Finding beside a disease."""
    for study in cohort:
        found = study.state["observations"]
        assert found == [name for name in CONDITIONS if name in found] and found
        assert ("No Finding" in found) == (set(found) <= {"No Finding", "Support Devices"})
        assert "Pneumonia" not in found or "Consolidation" in found
        assert set(study.state["uncertain"]) <= set(found) - {"No Finding", "Support Devices"}


def test_reports_have_sentences_and_an_impression(cohort):
    """Lost otherwise: reports longer than the decoder's limit, or an empty reference."""
    for study in cohort:
        assert 3 <= study.findings.count(".") <= 13, study.findings
        assert study.findings.endswith(".") and study.impression.endswith(".")
        assert "{" not in study.findings + study.impression


def test_vocabulary(cohort):
    """Lost otherwise: a toy vocabulary on which every language model looks perfect."""
    words = Counter(w for s in cohort if s.split == "train" for w in re.findall(r"[a-z]+", s.findings.lower()))
    assert sum(count >= 3 for count in words.values()) >= 200


def test_every_true_observation_is_named(cohort):
    """Lost otherwise: a labeller cannot recover from the report what the picture shows."""
    for study in cohort:
        sentences = [s for s in study.findings.lower().split(".") if not re.search(DENIED, s.replace("cannot be ", ""))]
        for name in set(study.state["observations"]) - {"No Finding"}:
            assert any(re.search(rf"\b({NAMED_BY[name]})\b", s) for s in sentences), (name, study.findings)


def test_no_false_observation_is_affirmed(cohort):
    """Lost otherwise: labels from the report that are not in the picture."""
    words = NAMED_BY | {  # the organs themselves are named when they are normal
        "Enlarged Cardiomediastinum": r"widen\w*|broaden\w*|full(ness)?",
        "Cardiomegaly": r"cardiomegaly|enlarge\w* (of the heart|to a|accentuated)|cardiac enlargement",
    }
    for study in cohort:
        for name in words.keys() - set(study.state["observations"]):
            for sentence in study.findings.lower().split("."):
                if re.search(rf"\b({words[name]})\b", sentence):
                    assert name != "Lung Opacity" and re.search(DENIED, sentence), (name, sentence)


def test_uncertain_wording_hedges():
    """Lost otherwise: uncertain observations worded as certain ones."""
    hedges = r"possibl[ey]|may|suspect\w*|cannot be (excluded|ruled out)|question\w*|likely|probable|could|suspicious"
    for key, row in phrases.SIGNS.items():
        for text in row:
            assert bool(re.search(rf"\b({hedges})\b", text)) == key.endswith("?"), (key, text)


def test_variants_and_normal_anatomy_name_no_disease():
    """Lost otherwise: an incidental remark that a labeller takes for a disease."""
    disease = "|".join(NAMED_BY[n] for n in NAMED_BY.keys() - {"Enlarged Cardiomediastinum", "Cardiomegaly"})
    for key, row in phrases.HEALTHY.items():
        for text in row:
            assert not re.search(rf"\b({disease})\b", text) or re.search(DENIED, text), (key, text)


def test_looks_differ():
    """Lost otherwise: pictures of one machine, on which a model learns nothing that it must ignore."""
    means = {}
    for look in ("plain", "framed", "portable"):
        study = next(s for s in studies(train=200, val=0, test=0, seed=1) if s.state["look"] == look)
        corner = draw(study, "frontal", size=128)
        means[look] = tuple(round(float(p.mean())) for p in (corner[:30, :50], corner[:30, 90:], corner[90:, 95:]))
    assert len(set(means.values())) == 3


def test_no_sign_hides_another(cohort):
    """Lost otherwise: a report of something that another sign covers in the picture."""
    for study in cohort:
        signs = study.state["signs"]
        spots = [(signs[name]["side"], signs[name]["zone"]) for name in signs if "zone" in signs[name]]
        assert len(set(spots)) == len(spots) - ("Pneumonia" in signs)  # drawn with its consolidation
        side = {name: sign.get("side") for name, sign in signs.items()}
        if "Pneumothorax" in side:
            inside = {"Lung Opacity", "Lung Lesion", "Consolidation", "Pleural Other"} & side.keys()
            assert side["Pneumothorax"] not in {side[name] for name in inside}
        if {"Pleural Effusion", "Atelectasis"} <= side.keys():
            assert {side["Pleural Effusion"], side["Atelectasis"]} == {"left", "right"}


def test_cardiomegaly_widens_the_heart():
    difference = change("Cardiomegaly", grade=0.5)
    assert box(difference, (0.4, 0.5), (0.2, 0.35)).mean() > 25
    assert abs(box(difference, (0.2, 0.5), (-0.6, -0.4)).mean()) < 3


def test_enlarged_mediastinum_is_wider_above_the_heart():
    difference = change("Enlarged Cardiomediastinum", grade=0.5)
    assert box(difference, (0.15, 0.2), (-0.6, -0.3)).mean() > 15
    assert abs(box(difference, (0.4, 0.6), (-0.2, 0.2)).mean()) < 3


def test_effusion_whitens_the_base_in_both_views():
    difference = change("Pleural Effusion", grade=0.5, side="left")
    assert box(difference, (0.5, 0.65), (0.3, 0.45)).mean() > 30
    assert abs(box(difference, (-0.65, -0.5), (0.2, 0.45)).mean()) < 3
    assert box(change("Pleural Effusion", "lateral", grade=0.5, side="left"), (0.4, 0.55), (0.35, 0.5)).mean() > 20


def test_pneumothorax_darkens_the_rim_and_draws_a_line():
    difference = change("Pneumothorax", grade=0.5, side="right")
    rim = box(difference, (-0.6, -0.4), (-0.6, -0.3))
    assert np.median(rim) < -8 and rim.max() > 30
    assert abs(box(difference, (0.4, 0.6), (-0.6, -0.3)).mean()) < 3


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Lung Opacity", {"zone": "upper"}),
        ("Lung Lesion", {"zone": "upper", "kind": "single"}),
        ("Consolidation", {"zone": "upper"}),
        ("Pneumonia", {"zone": "upper"}),
        ("Pleural Other", {"kind": "apical"}),
        ("Fracture", {"rib": 4}),
    ],
)
@pytest.mark.parametrize("grade", [0.1, 0.9])
def test_focal_signs_are_bright_on_their_side(name, parameters, grade):
    """Lost otherwise: a sign on the wrong side, or too faint to survive 112 pixels."""
    difference = change(name, grade=grade, side="left", **parameters)
    there, opposite = box(difference, (0.1, 0.8), (-0.85, -0.1)), box(difference, (-0.8, -0.1), (-0.85, -0.1))
    assert np.sort(there.ravel())[-50:].mean() > 30
    assert name == "Pneumonia" or np.abs(opposite).mean() < 2  # pneumonia has satellites


def test_grade_is_visible():
    """Lost otherwise: severity words that nothing in the picture explains."""
    for name, parameters in (
        ("Cardiomegaly", {}),
        ("Edema", {}),
        ("Pleural Effusion", {"side": "right"}),
        ("Pneumothorax", {"side": "right"}),
        ("Atelectasis", {"side": "right"}),
    ):
        mild, severe = (np.abs(change(name, grade=grade, **parameters)).sum() for grade in (0.2, 0.9))
        assert severe > 1.25 * mild, name


@pytest.mark.parametrize("kind", ["pacemaker", "endotracheal", "central", "nasogastric", "sternotomy"])
def test_devices_are_the_brightest_things(kind):
    difference = change("Support Devices", kinds=[kind], side="left")
    assert (difference > 25).sum() > 60


@pytest.mark.parametrize(
    "variant",
    [
        *({"aorta": "calcified"}, {"aorta": "tortuous"}, {"spine": "degenerative"}, {"spine": "scoliosis"}),
        *({"volume": "low"}, {"volume": "high"}),
    ],
    ids=str,
)
def test_variants_are_drawn_on_the_frontal_view(variant):
    """Lost otherwise: remarks in healthy reports that nothing in a portable picture explains."""
    study = normal_study()
    other = dataclasses.replace(study, state=study.state | {"variants": study.state["variants"] | variant})
    difference = draw(other, "frontal", size=128).astype(float) - draw(study, "frontal", size=128)
    assert (np.abs(difference) > 10).sum() > 40
