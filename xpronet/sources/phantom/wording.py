"""Reports from states: one sentence per statement, in the order of the anatomy, each in its usual or its other wording.

What is found decides what is said, as in a real report: where anything is wrong, part of the healthy anatomy goes
without mention.
"""

import numpy as np

from xpronet.sources.phantom import phrases
from xpronet.sources.phantom.drawing import stream
from xpronet.sources.phantom.state import device_side, severity

OTHER = 0.15  # share of sentences in their other wording, which nothing in the picture explains
LUNG_SIGNS = ("Pneumonia", "Consolidation", "Lung Opacity", "Lung Lesion", "Edema", "Atelectasis")


def report(state: dict) -> tuple[str, str]:
    """Findings and impression of a state; the same state gives the same words."""
    rng = stream(state, "wording")
    return " ".join(_sentence(state, key, rng) for key in _statements(state)), _impression(state)


def _statements(state: dict) -> list[str]:
    """Keys of the sentences, in their order."""
    signs, variants = state["signs"], state["variants"]
    healthy = not signs.keys() - {"Support Devices"}
    said = []

    def either(name: str, otherwise: str, *, always: bool = True) -> None:
        if name in signs:
            said.append(name)
        elif healthy or always:
            said.append(otherwise)

    either("Cardiomegaly", "heart")
    if variants["aorta"] == "normal":
        either("Enlarged Cardiomediastinum", "mediastinum", always=False)
    else:  # never beside a widened mediastinum, see `state`
        said.append(f"{variants['aorta']} aorta")

    if variants["volume"] != "normal":
        said.append(f"{variants['volume']} volume")
    found = [name for name in LUNG_SIGNS if name in signs and not _told_by_pneumonia(signs, name)]
    said += found or ["lungs"]
    if healthy:
        said.append("vessels")

    if signs.keys() & {"Pleural Effusion", "Pneumothorax"}:
        either("Pleural Effusion", "no effusion")
        either("Pneumothorax", "no pneumothorax")
    else:
        said.append("pleura")
    said += [name for name in ("Pleural Other", "Fracture") if name in signs]

    if variants["spine"] != "normal":
        said.append(f"{variants['spine']} spine")
    elif healthy:
        said.append("bones")
    return said + signs.get("Support Devices", {}).get("kinds", [])


def _told_by_pneumonia(signs: dict, name: str) -> bool:
    """The sentence about a pneumonia names its consolidation, too."""
    return name == "Consolidation" and "Pneumonia" in signs


def _sentence(state: dict, key: str, rng: np.random.Generator) -> str:
    other = rng.random() < OTHER
    if key in state["signs"]:
        text = phrases.SIGNS[_row(state, key)][other].format(**_fields(state["signs"][key]))
    elif key in phrases.DEVICES:
        text = phrases.DEVICES[key][other].format(side=device_side(state, key))
    else:
        text = phrases.HEALTHY[key][other]
    return text[0].upper() + text[1:] + "."


def _row(state: dict, name: str) -> str:
    """The row of `phrases.SIGNS` for a true observation."""
    sign = state["signs"][name]
    if name in state["uncertain"]:
        return name + "?"
    if name == "Fracture":
        return "Fracture single" if severity(sign["grade"]) == 0 else "Fracture several"
    return f"{name} {sign['kind']}" if "kind" in sign else name


def _fields(sign: dict) -> dict[str, str]:
    """The words of a sign's parameters."""
    level, several = severity(sign["grade"]), sign.get("side") == "both"
    words = {
        "grade": phrases.GRADES[level],
        "size": phrases.SIZES[level],
        "lesion": phrases.LESIONS[level],
        "count": phrases.COUNTS[level],
        "side": "bilateral" if several else sign.get("side", ""),
        "s": "s" if several else "",
        "be": "are" if several else "is",
        "a": "" if several else "a ",
    }
    return words | ({"lobe": phrases.LOBES[sign["side"], sign["zone"]]} if "zone" in sign else {})


def _impression(state: dict) -> str:
    """The positives in short, most urgent first, or that there is nothing."""
    signs, parts = state["signs"], []
    for name in ("Pneumothorax", *LUNG_SIGNS, "Pleural Effusion", "Cardiomegaly", "Enlarged Cardiomediastinum",
                 "Pleural Other", "Fracture"):  # fmt: skip
        if name not in signs or _told_by_pneumonia(signs, name):
            continue
        row = f"{name} {signs[name]['kind']}" if name == "Lung Lesion" else name
        parts.append(phrases.SUMMARIES[row][name in state["uncertain"]].format(**_fields(signs[name])))
    parts = parts or [phrases.NOTHING]
    if "Support Devices" in signs:
        parts.append(phrases.DEVICES_PRESENT)
    return " ".join(text[0].upper() + text[1:] + "." for text in parts)
