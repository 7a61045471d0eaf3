"""Reports from states: a small grammar with a house style per site.

A report is a sequence of slots (heart, mediastinum, lungs, ...) in the order of the site; each slot gives statements,
each statement one sentence. Wording follows from what is drawn: the site's own sentence, except that a visiting
reader's (another site's) stands in its place now and then.
"""

import numpy as np

from xpronet.sources.phantom import phrases_normal, phrases_signs
from xpronet.sources.phantom.drawing import stream
from xpronet.sources.phantom.state import PORTABLE, SITES, device_side, severity

ORDERS = {
    "harbor": ("heart", "mediastinum", "lungs", "vessels", "pleura", "bones", "rest", "devices"),
    "summit": ("devices", "lungs", "vessels", "pleura", "heart", "mediastinum", "bones", "rest"),
    "bedside": ("technique", "devices", "rest", "pleura", "lungs", "heart", "mediastinum", "vessels", "bones"),
    "valley": ("bones", "rest", "mediastinum", "heart", "pleura", "lungs", "devices"),
    "coast": ("lungs", "heart", "bones", "pleura", "rest", "mediastinum", "devices"),
}
DISEASE_FIRST = ("summit", "valley", "coast")  # sites that begin with what is wrong, when anything is
SPARING = ("summit", "bedside", "coast")  # sites that then leave out part of the healthy anatomy
SPARED = ("mediastinum", "bones", "vessels")
VISITOR = 0.13  # share of sentences in the words of another site; of those with two views, as bedside's name one
SWAP = 0.08  # share of reports with two neighbouring slots exchanged
LONGEST = 8  # sentences
DISEASE, VARIANT, NORMAL = range(3)  # ranks of statements: the highest goes first when a report grows too long

LUNG_SIGNS = ("Pneumonia", "Consolidation", "Lung Opacity", "Lung Lesion", "Edema", "Atelectasis")


def report(state: dict) -> tuple[str, str]:
    """Findings (2 to 8 sentences) and impression of a state; the same state gives the same words."""
    rng = stream(state, "wording")
    order = list(ORDERS[state["site"]])
    if rng.random() < SWAP:
        at = int(rng.integers(len(order) - 1))
        order[at], order[at + 1] = order[at + 1], order[at]
    slots = _slots(state)
    if state["signs"].keys() - {"Support Devices"}:
        if state["site"] in DISEASE_FIRST:
            order.sort(key=lambda slot: not any(rank == DISEASE for rank, *_ in slots[slot]))
        if state["site"] in SPARING:
            for slot in SPARED:
                slots[slot] = [statement for statement in slots[slot] if statement[0] != NORMAL]
    sentences = [(rank, _sentence(state, key, fields, rng)) for slot in order for rank, key, fields in slots[slot]]
    sentences = [(rank, text) for rank, text in sentences if text]
    while len(sentences) > LONGEST:  # what matters least goes first: normal anatomy, then variants, never disease
        sentences.remove(max(sentences, key=lambda sentence: sentence[0]))
    return " ".join(text for _, text in sentences), _impression(state)


def _slots(state: dict) -> dict[str, list[tuple[int, str, dict]]]:
    """slot -> statements (rank, key of a phrase table, fields)."""
    signs, variants = state["signs"], state["variants"]
    slots: dict[str, list] = {name: [] for order in ORDERS.values() for name in order}

    def say(slot: str, rank: int, key: str, **fields: str) -> None:
        slots[slot].append((rank, key, fields))

    def disease(slot: str, name: str) -> None:
        say(slot, DISEASE, _key(state, name), name=name)

    def either(slot: str, name: str, healthy: str) -> None:
        if name in signs:
            disease(slot, name)
        else:
            say(slot, NORMAL, healthy)

    say("technique", NORMAL, "technique")
    either("heart", "Cardiomegaly", "heart")
    if variants["aorta"] == "normal":
        either("mediastinum", "Enlarged Cardiomediastinum", "mediastinum")
    else:  # never beside a widened mediastinum, see `state`
        say("mediastinum", VARIANT, f"{variants['aorta']} aorta")

    if variants["volume"] != "normal":
        say("lungs", VARIANT, f"{variants['volume']} volume")
    found = [name for name in LUNG_SIGNS if name in signs and not _told_by_pneumonia(signs, name)]
    for name in found:
        disease("lungs", name)
    if not found:
        say("lungs", NORMAL, "lungs")
        say("vessels", NORMAL, "vessels")
    elif "Edema" not in found:
        say("lungs", NORMAL, "rest of lungs")

    if signs.keys() & {"Pleural Effusion", "Pneumothorax"}:
        either("pleura", "Pleural Effusion", "no effusion")
        either("pleura", "Pneumothorax", "no pneumothorax")
    else:
        say("pleura", NORMAL, "pleura")
    if "Pleural Other" in signs:
        disease("pleura", "Pleural Other")

    if variants["spine"] == "normal":
        either("bones", "Fracture", "bones")
    else:
        if "Fracture" in signs:
            disease("bones", "Fracture")
        say("bones", VARIANT, f"{variants['spine']} spine")

    if variants["diaphragm"] != "normal":
        say("rest", VARIANT, "raised diaphragm", side=variants["diaphragm"])
    for name in ("rotated", "gas", "breasts"):
        if variants[name]:
            say("rest", VARIANT, name)
    for kind in signs.get("Support Devices", {}).get("kinds", ()):
        say("devices", DISEASE, kind, name="Support Devices", kind=kind)
    return slots


def _told_by_pneumonia(signs: dict, name: str) -> bool:
    """The sentence about a pneumonia names its consolidation, too."""
    return name == "Consolidation" and "Pneumonia" in signs


def _key(state: dict, name: str) -> str:
    """The row of `phrases_signs.SIGNS` for a true observation."""
    sign = state["signs"][name]
    if name in state["uncertain"]:
        return name + "?"
    if name == "Fracture":
        return "Fracture single" if severity(sign["grade"]) == 0 else "Fracture several"
    return f"{name} {sign['kind']}" if "kind" in sign else name


def _sentence(state: dict, key: str, fields: dict, rng: np.random.Generator) -> str | None:
    visit, other = rng.random(), int(rng.choice(_VISITORS))
    house = SITES.index(state["site"])
    row = _TABLE[key]
    if row[house] is None:
        return None
    site = other if visit < VISITOR and row[other] is not None and key != "technique" else house
    text = row[site].format(**{**_fields(state, fields, site), **fields})
    return text[0].upper() + text[1:] + "."


def _fields(state: dict, fields: dict, site: int) -> dict[str, str]:
    """The words of a sign's parameters in a site's vocabulary."""
    name = fields.get("name")
    if name is None:
        return {}
    sign = state["signs"][name]
    if name == "Support Devices":
        return {"side": device_side(state, fields["kind"])}
    level = severity(sign["grade"])
    several = sign.get("side") == "both"
    words = {
        "grade": phrases_signs.GRADES[site][level],
        "size": phrases_signs.SIZES[site][level],
        "lesion": phrases_signs.LESIONS[level],
        "count": phrases_signs.COUNTS[level],
        "side": "bilateral" if several else sign.get("side", ""),
        "s": "s" if several else "",
        "be": "are" if several else "is",
        "a": "" if several else "a ",
    }
    if "zone" in sign:
        words["lobe"] = phrases_signs.LOBES[sign["side"], sign["zone"]]
    return words


def _impression(state: dict) -> str:
    """The positives in short, most urgent first, or that there is nothing."""
    house = SITES.index(state["site"])
    parts = []
    for name in ("Pneumothorax", *LUNG_SIGNS, "Pleural Effusion", "Cardiomegaly", "Enlarged Cardiomediastinum",
                 "Pleural Other", "Fracture"):  # fmt: skip
        if name not in state["signs"] or _told_by_pneumonia(state["signs"], name):
            continue
        row = f"{name} {state['signs'][name]['kind']}" if name == "Lung Lesion" else name
        text = phrases_signs.SUMMARIES[row][name in state["uncertain"]]
        parts.append(text.format(**_fields(state, {"name": name}, house)))
    if not parts:
        parts.append(phrases_signs.NOTHING[house])
    if "Support Devices" in state["signs"]:
        parts.append(phrases_signs.DEVICES_PRESENT[house])
    return " ".join(text[0].upper() + text[1:] + "." for text in parts)


_VISITORS = [n for n, site in enumerate(SITES) if site != PORTABLE]
_TABLE = {**phrases_normal.NORMAL, **phrases_normal.VARIANTS, **phrases_normal.DEVICES, **phrases_signs.SIGNS}
