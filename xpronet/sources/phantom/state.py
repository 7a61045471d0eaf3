"""The sampled clinical state of one phantom study: what is drawn and what the report says.

A state is a JSON-able dict, the only thing that the pictures and the wording share:

    seed          [seed, index] of the study; every random stream of its drawing starts from it
    look          one of LOOKS: how the machine makes a picture; it decides no word
    observations  names of the true CheXpert observations, in CheXbert's order
    uncertain     those of them that the report words uncertainly: they are drawn faintest
    signs         {observation: parameters}; `grade` in [0, 1] is the drawn and the worded severity
    variants      what is neither disease nor normal: aorta, spine, volume
    geometry      zoom, shift, tilt and body width, in the units of `drawing.Canvas`
"""

import numpy as np

LOOKS = ("plain", "framed", "portable")
LOOK_SHARES = (0.5, 0.35, 0.15)
PORTABLE = "portable"  # one AP view

OBSERVATIONS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)

NORMAL_SHARE = 0.35
DISEASES = (0.25, 0.35, 0.25, 0.15)  # share of one to four of SCENARIOS in a study that is not normal
UNCERTAIN_BELOW = 0.16  # of the grade: the faintest signs are the ones a reader hedges about

# (weight, what is always there, {companion: probability}): the usual company of each disease.
SCENARIOS = (
    (0.24, ("Cardiomegaly",), {"Edema": 0.8, "Pleural Effusion": 0.4, "Enlarged Cardiomediastinum": 0.1}),
    (0.20, ("Pneumonia", "Consolidation"), {"Pleural Effusion": 0.2, "Lung Lesion": 0.05, "Edema": 0.08}),
    (0.10, ("Consolidation",), {"Pleural Effusion": 0.25, "Cardiomegaly": 0.1}),
    (0.16, ("Lung Opacity",), {"Pleural Effusion": 0.15, "Atelectasis": 0.15, "Lung Lesion": 0.15, "Edema": 0.1}),
    (0.14, ("Atelectasis",), {"Pleural Effusion": 0.4, "Pleural Other": 0.12, "Lung Opacity": 0.12}),
    (0.20, ("Pneumothorax",), {"Fracture": 0.25, "Atelectasis": 0.12, "Lung Opacity": 0.1}),
    (0.18, ("Lung Lesion",), {"Pleural Other": 0.2, "Enlarged Cardiomediastinum": 0.2, "Lung Opacity": 0.12}),
    (0.17, ("Pleural Other",), {"Atelectasis": 0.12, "Fracture": 0.15, "Lung Opacity": 0.12}),
    (0.17, ("Enlarged Cardiomediastinum",), {"Cardiomegaly": 0.25, "Pleural Effusion": 0.12}),
    (0.15, ("Fracture",), {"Pleural Effusion": 0.12, "Pneumothorax": 0.2, "Pleural Other": 0.12}),
)
DEVICES = ("pacemaker", "central", "sternotomy", "endotracheal", "nasogastric")  # a chest tube needs a pneumothorax


def sample(seed: int, index: int) -> dict:
    """Sample the state of study `index`; it depends on nothing but the two integers."""
    rng = np.random.default_rng([seed, index])
    look = LOOKS[rng.choice(len(LOOKS), p=LOOK_SHARES)]
    found = _observations(rng)
    signs = _signs(rng, found)
    devices = _devices(rng, signs, look)
    if devices:
        signs["Support Devices"] = {"kinds": devices, "side": _side(rng, left=0.6)}
        found.add("Support Devices")
    if not found - {"Support Devices"}:
        found.add("No Finding")
    return {
        "seed": [int(seed), int(index)],
        "look": look,
        "observations": [name for name in OBSERVATIONS if name in found],
        "uncertain": [n for n in OBSERVATIONS if n in signs and signs[n].get("grade", 1.0) < UNCERTAIN_BELOW],
        "signs": {name: signs[name] for name in OBSERVATIONS if name in signs},
        "variants": _variants(rng, signs),
        "geometry": _geometry(rng, look),
    }


def severity(grade: float) -> int:
    """The worded severity of a grade in [0, 1]: 0 mild or small, 1 moderate, 2 severe or large."""
    return 0 if grade < 0.4 else 1 if grade < 0.75 else 2


def device_side(state: dict, kind: str) -> str:
    """The side of a device: a chest tube drains the pneumothorax, the others stand where the state says."""
    return state["signs"]["Pneumothorax" if kind == "chest" else "Support Devices"]["side"]


def _observations(rng: np.random.Generator) -> set[str]:
    if rng.random() < NORMAL_SHARE:
        return set()
    weights = np.array([scenario[0] for scenario in SCENARIOS])
    count = 1 + rng.choice(len(DISEASES), p=DISEASES)
    found: set[str] = set()
    for scenario in rng.choice(len(SCENARIOS), size=count, replace=False, p=weights / weights.sum()):
        _, core, companions = SCENARIOS[scenario]
        found |= set(core) | {name for name, probability in companions.items() if rng.random() < probability}
    return found


def _side(rng: np.random.Generator, left: float = 0.5) -> str:
    return "left" if rng.random() < left else "right"


def _signs(rng: np.random.Generator, found: set[str]) -> dict:
    """Parameters of each observation; no sign hides another one."""
    grade = {name: round(float(rng.random()), 3) for name in OBSERVATIONS}
    side = {name: _side(rng) for name in OBSERVATIONS}
    both = rng.random(len(OBSERVATIONS)) < 0.35
    kind = {
        "Lung Lesion": str(rng.choice(["single", "multiple"], p=[0.6, 0.4])),
        "Pleural Other": str(rng.choice(["apical", "plaque"])),
    }
    rib = int(rng.integers(4, 8))
    spots = [(side, zone) for side in ("left", "right") for zone in ("upper", "middle", "lower")]
    spots = [spots[n] for n in rng.permutation(len(spots))]

    if {"Pneumothorax", "Fracture"} <= found:
        side["Pneumothorax"] = side["Fracture"]
    if "Pneumothorax" in found:  # what lies in the collapsed lung would hide the pleural line
        other = "left" if side["Pneumothorax"] == "right" else "right"
        spots = [spot for spot in spots if spot[0] == other]
        side["Pleural Other"] = side["Pleural Effusion"] = other
    if {"Pleural Effusion", "Atelectasis"} <= found:  # fluid would cover the plates
        side["Atelectasis"] = "left" if side["Pleural Effusion"] == "right" else "right"
        both[:] = False

    signs = {name: {"grade": grade[name]} for name in found}
    for name, spot in zip(("Lung Opacity", "Lung Lesion", "Consolidation"), spots, strict=False):
        if name in found:
            signs[name] |= dict(zip(("side", "zone"), spot, strict=True))
    for name in found & {"Atelectasis", "Pleural Effusion"}:
        signs[name]["side"] = "both" if both[OBSERVATIONS.index(name)] else side[name]
    for name in found & {"Pneumothorax", "Pleural Other", "Fracture"}:
        signs[name]["side"] = side[name]
    for name in found & kind.keys():
        signs[name]["kind"] = kind[name]
    if "Fracture" in found:
        signs["Fracture"]["rib"] = rib
    if "Pneumonia" in found:  # one disease, two observations: the consolidation is the pneumonia's
        signs["Pneumonia"] = dict(signs["Consolidation"])
    return signs


def _devices(rng: np.random.Generator, signs: dict, look: str) -> list[str]:
    """Kinds of devices, at most two; the draws do not depend on what else is there."""
    any_device, second, chest = rng.random(3)
    weights = [0.1, 0.3, 0.1, 0.3, 0.2] if look == PORTABLE else [0.3, 0.2, 0.22, 0.14, 0.14]
    kinds = [str(kind) for kind in rng.choice(DEVICES, size=2, replace=False, p=weights)]
    share = (0.28 if signs else 0.1) + (0.25 if look == PORTABLE else 0.0)
    found = kinds[: 2 if second < 0.3 else 1] if any_device < share else []
    if "Pneumothorax" in signs and chest < 0.4:
        found = ["chest", *found[:1]]
    return found


def _variants(rng: np.random.Generator, signs: dict) -> dict:
    """Incidental facts, drawn and worded."""
    volume = rng.choice(["normal", "low", "high"], p=[0.8, 0.1, 0.1])
    aorta = rng.choice(["normal", "tortuous", "calcified"], p=[0.8, 0.1, 0.1])
    spine = rng.choice(["normal", "degenerative", "scoliosis"], p=[0.75, 0.14, 0.11])
    return {
        "volume": str(volume),
        "aorta": "normal" if "Enlarged Cardiomediastinum" in signs else str(aorta),
        "spine": str(spine),
    }


def _geometry(rng: np.random.Generator, look: str) -> dict:
    """Zoom (1 fits the chest), shift (fractions of half the picture), tilt (radians) and body width (factor)."""
    loose = 1.6 if look == PORTABLE else 1.0
    return {
        "zoom": round(float(rng.uniform(0.9, 1.04)), 4),
        "shift": [round(float(v), 4) for v in rng.normal(0, 0.022, 2) * loose],
        "tilt": round(float(rng.normal(0, 0.02) * loose), 4),
        "width": round(float(rng.uniform(0.93, 1.07)), 4),
    }
