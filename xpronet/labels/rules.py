"""A rule-based labeller: 14 CheXpert classes from a report, without any weights.

It stands in for CheXbert (paper §3.2, Eq. 3) where that checkpoint is absent. What is said lies in the tables of
`lexicon`; here is the engine: split into sentences, find mentions and cues, let each cue reach over the mentions of
its clause, keep the strongest class of an observation.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from xpronet.labels.conditions import BLANK, CONDITIONS, NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN
from xpronet.labels.lexicon import ANCHORS, CUES, HINTS, MENTIONS, NORMALS, OPENERS

# A full stop inside a number ("2.5 cm") ends nothing, one after "vs" or "dr" neither; an empty line does.
_SENTENCE_END = re.compile(r"[.;?!](?!(?<=\d\.)\d)(?<!\b(?i:vs|dr)\.)|\n\s*\n")

# Cleaning drops the slash of "scarring/atelectasis": the words that it glues together, and those they meet.
_GLUED = re.compile(r"(atelectasis|scarring|disease|opacities|findings)(?=atelecta|scar|airspace|fibro|infiltra|opaci)")

_TO_SPACE = str.maketrans(dict.fromkeys('()[]":', " "))
_ABNORMAL = tuple(CONDITIONS.index(name) for name in MENTIONS if name != "Support Devices")

# Several mentions of one observation in a report: positive wins, then uncertain, then negative.
_STRENGTH = {BLANK: 0, NEGATIVE: 1, UNCERTAIN: 2, POSITIVE: 3}

Found = tuple[tuple[int, int], ...]  # pairs of (column of CONDITIONS, class)


def label(reports: Sequence[str]) -> np.ndarray:
    """Classes (N, 14) int8 of `reports`, raw or cleaned: BLANK, POSITIVE, NEGATIVE or UNCERTAIN, in order CONDITIONS.

    No Finding is POSITIVE where nothing else is positive or uncertain, Support Devices aside, and BLANK elsewhere: so
    an empty text is a No Finding, as it is for CheXbert.

    Raises:
        ValueError: `reports` is one string instead of a sequence of strings.
    """
    if isinstance(reports, str):
        raise ValueError("label: reports is a single string; pass a list of reports, [text]")
    known: dict[str, Found] = {}  # radiology repeats its sentences, and whole reports
    rows = {report: _label_report(report, known) for report in dict.fromkeys(reports)}
    return np.array([rows[report] for report in reports], np.int8).reshape(-1, len(CONDITIONS))  # (N, 14)


def _label_report(report: str, known: dict[str, Found]) -> list[int]:
    """Classes of one report, one per entry of CONDITIONS; `known` keeps what its sentences say."""
    row = [BLANK] * len(CONDITIONS)
    for sentence in _SENTENCE_END.split(report):
        if (found := known.get(sentence)) is None:
            found = known[sentence] = tuple(_read(_plain(sentence)))
        for column, value in found:
            if _STRENGTH[value] > _STRENGTH[row[column]]:
                row[column] = value
    if not any(row[column] in (POSITIVE, UNCERTAIN) for column in _ABNORMAL):
        row[NO_FINDING] = POSITIVE
    return row


def _plain(sentence: str) -> str:
    """Lower case, single spaces, no brackets, quotes or colons, no glued words."""
    return _GLUED.sub(r"\1/", " ".join(sentence.lower().translate(_TO_SPACE).split()).replace(" ,", ","))


def _read(sentence: str) -> Iterator[tuple[int, int]]:
    """Every mention in one sentence as a pair of column and class."""
    mentions = []
    for column, anchors, pattern in _observations():
        for anchor in anchors:
            if anchor in sentence:
                mentions += [(column, m.lastgroup, *m.span()) for m in pattern.finditer(sentence)]
                break
    cues = []
    if any(kind != "normal" for _, kind, _, _ in mentions):
        cues = [(m.lastgroup, *m.span()) for m in _cues().finditer(sentence)]
    for column, kind, start, end in mentions:
        value = NEGATIVE if kind == "normal" else _judge(sentence, start, end, cues)
        yield column, UNCERTAIN if kind == "hint" and value == POSITIVE else value


def _judge(sentence: str, start: int, end: int, cues: list[tuple[str, int, int]]) -> int:
    """Class of the mention at sentence[start:end]. Denial beats doubt, except "cannot be excluded"."""
    doubt = False
    for kind, cue_start, _ in cues:  # what follows the mention, up to the end of its clause
        if cue_start < end:
            continue
        if kind == "doubt_before":
            return UNCERTAIN
        if kind == "denied_before":
            return NEGATIVE
        if kind != "either":  # another cue opens the next clause
            break
        doubt |= _adjoins(sentence[end:cue_start])
    for kind, _, cue_end in reversed(cues):  # what leads to it, back to the start of its clause
        if cue_end > end:
            continue
        if kind == "denied":
            return NEGATIVE
        if kind == "doubt":
            return UNCERTAIN
        if kind in ("doubt_next", "either"):
            doubt |= _adjoins(sentence[cue_end:start])
        else:
            break
    return UNCERTAIN if doubt else POSITIVE


def _adjoins(between: str) -> bool:
    """True if no list or clause boundary lies in the words between a cue and a mention."""
    return "," not in between and " and " not in between


@cache
def _observations() -> tuple[tuple[int, tuple[str, ...], re.Pattern], ...]:
    """Per observation its column, its anchors and one pattern, whose group says in which table the match stands."""
    tables = {"mention": MENTIONS, "hint": HINTS, "normal": NORMALS}
    return tuple(
        (column, ANCHORS[name], _alternation({kind: table[name] for kind, table in tables.items() if name in table}))
        for column, name in enumerate(CONDITIONS)
        if name in MENTIONS
    )


@cache
def _cues() -> re.Pattern:
    opener = rf"(?:,(?: and)?|and)(?= (?:{'|'.join(OPENERS)})\b)"
    return _alternation({**CUES, "stop": (*CUES["stop"], opener)})


def _alternation(groups: dict[str, tuple[str, ...]]) -> re.Pattern:
    """One pattern of whole words with a named group per entry, tried in order."""
    named = "|".join(f"(?P<{name}>{'|'.join(phrases)})" for name, phrases in groups.items())
    return re.compile(rf"\b(?:{named})(?!\w)")
