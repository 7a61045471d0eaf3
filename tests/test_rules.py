"""The rule labeller reads negation, doubt and health as a radiologist means them, in raw and in cleaned text."""

import json
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from xpronet.labels import rules
from xpronet.labels.conditions import CONDITIONS, NEGATIVE, POSITIVE, UNCERTAIN, pseudo_labels
from xpronet.labels.rules import label
from xpronet.sources.phantom import source

IU_XRAY = Path(__file__).resolve().parents[2] / "shared" / "iu_xray"

SHORT = {
    "mediastinum": "Enlarged Cardiomediastinum",
    "heart": "Cardiomegaly",
    "opacity": "Lung Opacity",
    "lesion": "Lung Lesion",
    "edema": "Edema",
    "consolidation": "Consolidation",
    "pneumonia": "Pneumonia",
    "atelectasis": "Atelectasis",
    "pneumothorax": "Pneumothorax",
    "effusion": "Pleural Effusion",
    "pleura": "Pleural Other",
    "fracture": "Fracture",
    "device": "Support Devices",
}
SIGN = {"+": POSITIVE, "-": NEGATIVE, "?": UNCERTAIN}


def expected(said: str) -> np.ndarray:
    """Classes (14,) int8 of a line like "heart+ effusion- edema?"; what it leaves out is blank."""
    row = np.zeros(len(CONDITIONS), np.int8)
    for word in said.split():
        row[CONDITIONS.index(SHORT[word[:-1]])] = SIGN[word[-1]]
    disease = np.delete(row, [CONDITIONS.index("Support Devices"), CONDITIONS.index("No Finding")])
    row[CONDITIONS.index("No Finding")] = POSITIVE if not np.isin(disease, [POSITIVE, UNCERTAIN]).any() else 0
    return row


# fmt: off
SENTENCES = [
    # affirmed
    ("Mild cardiomegaly.", "heart+"),
    ("The heart is mildly enlarged.", "heart+"),
    ("There is enlargement of the cardiac silhouette.", "heart+"),
    ("Large right pleural effusion.", "effusion+"),
    ("Tiny left apical pneumothorax measuring 2.5 cm, unchanged.", "pneumothorax+"),
    ("Healing fractures of the left sixth and seventh ribs.", "fracture+"),
    ("Widened superior mediastinum.", "mediastinum+"),
    ("Biapical pleural thickening.", "pleura+"),
    ("A calcified pleural plaque lies on the left.", "pleura+"),
    ("Hazy density at the right base with linear atelectasis.", "opacity+ atelectasis+"),
    ("8 mm nodule in the left upper lobe.", "lesion+"),
    ("Rounded density behind the heart.", "lesion+"),
    ("Nodular opacity at the right apex.", "lesion+"),
    ("Bibasilar scarring and streaky opacities.", "opacity+"),
    ("Interstitial pulmonary edema.", "edema+"),
    ("Congestive heart failure.", "heart+ edema+"),
    ("Right lower lobe pneumonia with dense consolidation.", "pneumonia+ consolidation+"),
    ("Collapse of the left lower lobe.", "atelectasis+"),
    ("Left hydropneumothorax.", "pneumothorax+ effusion+"),
    ("Endotracheal tube tip 4 cm above the carina.", "device+"),
    ("Dual-lead pacemaker and right PICC in place.", "device+"),
    ("Median sternotomy wires are intact.", "device+"),
    ("Prosthetic aortic valve.", "device+"),
    # denied ahead of the mention
    ("No pneumothorax.", "pneumothorax-"),
    ("No focal consolidation, pleural effusion, or pneumothorax.", "consolidation- effusion- pneumothorax-"),
    ("There is no evidence of pneumonia or edema.", "pneumonia- edema-"),
    ("Lungs are free of infiltrates.", "opacity-"),
    ("Both lungs are clear of consolidation.", "consolidation-"),
    ("Negative for pneumothorax.", "pneumothorax-"),
    ("No opacity to suggest pneumonia.", "opacity- pneumonia-"),
    ("Absence of pleural fluid.", "effusion-"),
    ("No rib fracture is seen.", "fracture-"),
    ("Interval resolution of pulmonary edema.", "edema-"),
    ("Removal of the chest tube.", "device-"),
    ("No large or small effusion.", "effusion-"),
    ("Neither nodules nor masses.", "lesion-"),
    ("No definite pneumonia.", "pneumonia-"),
    # denied after it
    ("A pneumothorax is not seen.", "pneumothorax-"),
    ("Consolidation and effusion are not identified.", "consolidation- effusion-"),
    ("The left pneumothorax has resolved.", "pneumothorax-"),
    ("The previously seen effusion is no longer visible.", "effusion-"),
    ("Pulmonary edema is absent.", "edema-"),
    # where a denial ends
    ("No pneumothorax but a small effusion.", "pneumothorax- effusion+"),
    ("Cardiomegaly without edema.", "heart+ edema-"),
    ("Cardiomegaly without effusion or edema.", "heart+ effusion- edema-"),
    ("No acute disease, however there is cardiomegaly.", "heart+"),
    ("No effusion, stable cardiomegaly.", "effusion- heart+"),
    ("No consolidation, and the heart is enlarged.", "consolidation- heart+"),
    ("No pneumothorax although the effusion persists.", "pneumothorax- effusion+"),
    ("No pneumothorax\nCardiomegaly; no effusion", "pneumothorax- heart- effusion-"),  # no full stop: one sentence
    ("Effusion is not seen, cardiomegaly is.", "effusion- heart+"),
    ("Small effusion. No pneumothorax. Pneumonia.", "effusion+ pneumothorax- pneumonia+"),
    # "no" that denies nothing
    ("No change in the left pneumothorax.", "pneumothorax+"),
    ("No significant interval change of bilateral effusions.", "effusion+"),
    ("Effusion not significantly changed.", "effusion+"),
    ("Not only edema.", "edema+"),
    ("No pneumothorax or change.", "pneumothorax-"),
    ("No effusion, no change in the pneumothorax.", "effusion- pneumothorax+"),
    # doubt ahead of the mention
    ("Possible pneumonia.", "pneumonia?"),
    ("Probable small effusion, cardiomegaly.", "effusion? heart+"),
    ("Suspected rib fracture.", "fracture?"),
    ("Basilar opacity which may represent atelectasis.", "opacity+ atelectasis?"),
    ("Opacity may reflect pneumonia or aspiration.", "opacity+ pneumonia?"),
    ("Consolidation suspicious for pneumonia.", "consolidation+ pneumonia?"),
    ("Opacity concerning for infection.", "opacity+ pneumonia?"),
    ("Cannot exclude a small effusion.", "effusion?"),
    ("Opacity likely representing pneumonia.", "opacity+ pneumonia+"),
    ("Opacity consistent with pneumonia.", "opacity+ pneumonia+"),
    ("Oblique views are suggested to exclude a nodule.", "lesion?"),
    # doubt after it
    ("A small effusion cannot be excluded.", "effusion?"),
    ("Pneumothorax is not excluded.", "pneumothorax?"),
    ("Pneumonia is in the differential.", "pneumonia?"),
    ("Early pneumonia is possible.", "pneumonia?"),
    ("The sixth rib is suspected of a fracture.", "fracture?"),
    # doubt between two
    ("Atelectasis versus consolidation.", "atelectasis? consolidation?"),
    ("Atelectasis vs. pneumonia at the base.", "atelectasis? pneumonia?"),
    ("Bibasilar atelectasis or scarring.", "atelectasis? opacity?"),
    ("Cardiomegaly, atelectasis or scarring.", "heart+ atelectasis? opacity?"),
    # hints
    ("Borderline heart size.", "heart?"),
    ("Pulmonary vascular congestion.", "edema?"),
    ("Blunting of the left costophrenic angle.", "effusion?"),
    ("Perihilar haze with Kerley lines.", "edema?"),
    ("No vascular congestion.", "edema-"),
    # health
    ("Heart size is normal.", "heart-"),
    ("Normal heart size and mediastinal contours.", "heart- mediastinum-"),
    ("The heart and mediastinum are unremarkable.", "heart- mediastinum-"),
    ("Heart size within normal limits.", "heart-"),
    ("The cardiomediastinal silhouette is normal.", "mediastinum-"),
    ("Mediastinal contours are within normal limits.", "mediastinum-"),
    ("The heart is not enlarged.", "heart-"),
    ("Heart of ordinary size.", "heart-"),
    ("No mediastinal widening.", "mediastinum-"),
    ("The lungs are clear.", "opacity-"),
    ("Clear lungs.", "opacity-"),
    ("The costophrenic angles are sharp.", "effusion-"),
    ("The lungs are not clear.", ""),
    ("The lungs show a patchy opacity, otherwise clear.", "opacity+"),
    ("The heart is normal in size, the mediastinum is widened.", "heart- mediastinum+"),
    ("Normal heart, widened mediastinum.", "heart- mediastinum+"),
    # other words for the same, as CheXbert takes them
    ("Left chest wall cardiac generator.", "device+"),
    ("Vagal nerve stimulator.", "device+"),
    ("There is fluid within the fissure.", "effusion+"),
    ("Fluid in the right minor fissure.", "effusion+"),
    ("Prominence of the pulmonary interstitium.", ""),
    ("Thickening of the interstitium.", "opacity+"),
    ("Pulmonary metastatic disease.", "lesion+"),
    ("No evidence of metastatic disease.", "lesion-"),
    ("Metastatic disease is possible.", ""),
    ("Borderline cardiac enlargement.", "heart?"),
    ("Stable borderline cardiomegaly.", "heart?"),
    ("Borderline enlargement of the cardiac silhouette.", "heart?"),
    # other ways to deny
    ("There isn't a pneumothorax.", "pneumothorax-"),
    ("the heart isnt enlarged and there arent effusions .", "heart- effusion-"),  # the apostrophe is cleaned away
    ("Can't exclude a small effusion.", "effusion?"),
    ("Absent pneumothorax.", "pneumothorax-"),
    ("Effusion: none.", "effusion-"),
    ("Effusion: none, pneumothorax: absent.", "effusion- pneumothorax-"),
    ("Pneumothorax: no", "pneumothorax-"),
    ("Pneumothorax: negative.", "pneumothorax-"),
    ("Pneumothorax can be excluded.", "pneumothorax-"),
    ("A pneumothorax can not be excluded.", "pneumothorax?"),
    ("This rules out pneumothorax.", "pneumothorax-"),
    ("Nothing to suggest pneumonia.", "pneumonia-"),
    ("The lungs are devoid of infiltrates.", "opacity-"),
    ("The study fails to demonstrate a pneumothorax.", "pneumothorax-"),
    ("No longer seen is the right effusion.", "effusion-"),
    ("Not identified is a fracture.", "fracture-"),
    ("The pneumothorax has disappeared.", "pneumothorax-"),
    ("Near-complete resolution of the effusion with residual atelectasis.", "effusion- atelectasis+"),
    # what has not gone
    ("The left pneumothorax has not resolved.", "pneumothorax+"),
    ("The effusion hasn't completely cleared.", "effusion+"),
    ("The effusion has partially resolved.", "effusion+"),
    ("Incomplete resolution of edema.", "edema+"),
    ("No resolution of the edema.", "edema+"),
    ("No improvement in the effusion.", "effusion+"),
    ("The chest tube has not been removed.", "device+"),
    ("None of the effusions has changed.", "effusion+"),
    # several mentions of one observation: positive, then uncertain, then negative
    ("No effusion on the left. Small right effusion.", "effusion+"),
    ("Possible effusion. No effusion on the right.", "effusion?"),
    ("Possible pneumonia. Right upper lobe pneumonia.", "pneumonia+"),
    # what only looks like a mention
    ("Small pericardial effusion.", ""),
    ("Normal chest.", ""),
    ("Tortuous aorta and degenerative spine.", ""),
    ("", ""),
    (" . ", ""),
    # cleaned text, as the model reads and writes it
    ("the heart is normal in size . no pleural effusion .", "heart- effusion-"),
    ("no pneumothorax . cardiomegaly is stable . 5 mm nodule in the right apex .", "pneumothorax- heart+ lesion+"),
    ("no focal consolidation pleural effusion or pneumothorax .", "consolidation- effusion- pneumothorax-"),
    ("the lungs are clear without evidence of infiltrate .", "opacity-"),
    ("mild scarringatelectasis at the left base .", "opacity+ atelectasis+"),  # the slash is cleaned away
    ("effusion andor consolidation .", "effusion? consolidation?"),
    # raw text with its layout
    ("1. NO PNEUMOTHORAX.\n2. MODERATE CARDIOMEGALY.", "pneumothorax- heart+"),
    ("IMPRESSION: no evidence\n  of pneumothorax.2. Cardiomegaly", "pneumothorax- heart+"),
    ("No effusion\n \nCardiomegaly", "effusion- heart+"),
    ("No nodule larger than 2.5 cm or mass.", "lesion-"),
    ("Pleura: no effusion; heart: enlarged!", "effusion- heart+"),
]
# fmt: on


@pytest.mark.parametrize(("text", "said"), SENTENCES)
def test_a_sentence_gets_the_class_of_every_observation(text, said):
    """A wrong class here is a wrong prototype or a wrong clinical score later."""
    row = label([text])[0]
    found = {name: int(value) for name, value in zip(CONDITIONS, row, strict=True) if value}
    assert found == {name: int(value) for name, value in zip(CONDITIONS, expected(said), strict=True) if value}


def test_labels_do_not_depend_on_the_other_reports():
    """Sentences are remembered within a call; a report must not inherit what its neighbours say."""
    texts = [text for text, _ in SENTENCES]
    together = label(texts)
    assert together.dtype == np.int8 and together.shape == (len(texts), 14)
    assert (together == np.concatenate([label([text]) for text in texts])).all()
    assert (label([" ".join(texts[:4]), "Normal chest."])[1] == expected("")).all()


def test_case_and_line_breaks_do_not_matter():
    texts = [" ".join(text.split()) for text, _ in SENTENCES]
    assert (label([text.upper().replace(" ", "\n") for text in texts]) == label(texts)).all()


def test_the_quick_word_test_loses_no_mention(monkeypatch):
    """ANCHORS only save time: a phrase added without its anchor would never be found."""
    texts = [text for text, _ in SENTENCES]
    texts += [" ".join(words) for words in zip(texts, texts[1:], strict=False)]
    quick = label(texts)
    monkeypatch.setattr(rules, "ANCHORS", dict.fromkeys(rules.ANCHORS, ("",)))
    rules._observations_named.cache_clear()
    try:
        assert (label(texts) == quick).all()
    finally:
        monkeypatch.undo()
        rules._observations_named.cache_clear()


def test_a_single_string_is_refused():
    """Otherwise each letter would be labelled as a report."""
    with pytest.raises(ValueError, match="list of reports"):
        label("no effusion")


def test_no_reports_no_rows():
    assert label([]).shape == (0, 14)


def _f1(true: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Macro- and micro-averaged F1 of 0/1 labels (N, C)."""
    hits, all_ = (true * predicted).sum(0), true.sum(0) + predicted.sum(0)
    return float(np.mean(2 * hits / np.maximum(all_, 1))), float(2 * hits.sum() / all_.sum())


@pytest.fixture(scope="module")
def impressions() -> tuple[list[str], np.ndarray]:
    """Impressions of the IU-Xray test split and CheXbert's labels (N, 14) of them."""
    if not IU_XRAY.is_dir():
        pytest.skip("needs the IU-Xray texts in ../shared/iu_xray")
    labels = json.loads((IU_XRAY / "labels_chexbert.json").read_text())["labels"]
    texts = {}
    with tarfile.open(IU_XRAY / "raw" / "NLMCXR_reports.tgz") as archive:
        for member in archive:
            if member.name.endswith(".xml"):
                parts = ElementTree.parse(archive.extractfile(member)).iter("AbstractText")
                text = " ".join(part.text or "" for part in parts if part.get("Label") == "IMPRESSION")
                texts["CXR" + Path(member.name).stem] = text
    ids = [study["id"] for study in json.loads((IU_XRAY / "annotation.json").read_text())["test"]]
    keys = ["-".join(name.split("-")[:2]) for name in ids]
    return [texts[name.split("_")[0]] for name in ids], np.array([labels[key] for key in keys])


def test_agrees_with_chexbert_on_real_impressions(impressions):
    """Without the CheXbert checkpoint these labels stand in for its own: they must be nearly the same."""
    texts, chexbert = impressions
    macro, micro = _f1(chexbert, pseudo_labels(label(texts)))
    assert macro >= 0.84
    assert micro >= 0.96


def test_recovers_the_true_states_of_the_phantom():
    """The embedded dataset is labelled by these rules: its prototypes are only as good as they are."""
    studies = source.studies(train=1000, val=0, test=0, seed=1)
    true = np.array([[name in study.state["observations"] for name in CONDITIONS] for study in studies], int)
    macro, _ = _f1(true, pseudo_labels(label([study.findings for study in studies])))
    assert macro >= 0.95
