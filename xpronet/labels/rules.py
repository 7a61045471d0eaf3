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
from xpronet.labels.lexicon import ANCHORS, CUES, HINTS, MENTIONS, NORMALS, OPENERS, STATED

# A full stop inside a number ("2.5 cm") ends nothing, one after "vs" or "dr" neither; an empty line does.
_SENTENCE_END = re.compile(r"[.;?!](?!(?<=\d\.)\d)(?<!\b(?i:vs|dr)\.)|\n\s*\n")

# Cleaning drops the slash of "scarring/atelectasis": the words that it glues together, and those they meet.
_FIRST_GLUED = ("atelectasis", "scarring", "disease", "opacities", "findings")
_GLUED = re.compile(rf"({'|'.join(_FIRST_GLUED)})(?=atelecta|scar|airspace|fibro|infiltra|opaci)")

# "isn't", and "isnt" as cleaning leaves it.
_CONTRACTED = re.compile(r"\b(is|are|was|were|has|have|had|does|do|did|could|would|should|ca)n['’]?t\b")

_TO_SPACE = str.maketrans(dict.fromkeys('()[]":', " "))
_ABNORMAL = [CONDITIONS.index(name) for name in MENTIONS if name != "Support Devices"]

# Several mentions of one observation in a report: the last of these that is among them wins.
_WEAK_TO_STRONG = (BLANK, NEGATIVE, UNCERTAIN, POSITIVE)
_STRENGTH = {value: strength for strength, value in enumerate(_WEAK_TO_STRONG)}

Found = tuple[tuple[int, int], ...]  # pairs of (column of CONDITIONS, strength)


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
    place = {report: row for row, report in enumerate(dict.fromkeys(reports))}
    strengths = [_label_report(report, known) for report in place]
    classes = np.array(_WEAK_TO_STRONG, np.int8)[np.array(strengths, np.int8).reshape(-1, len(CONDITIONS))]
    sick = np.isin(classes[:, _ABNORMAL], (POSITIVE, UNCERTAIN)).any(axis=1)
    classes[~sick, NO_FINDING] = POSITIVE
    return classes[[place[report] for report in reports]]  # (N, 14)


def _label_report(report: str, known: dict[str, Found]) -> list[int]:
    """Strengths of one report, one per entry of CONDITIONS; `known` keeps what its sentences say."""
    row = [0] * len(CONDITIONS)
    for sentence in _SENTENCE_END.split(report):
        if (found := known.get(sentence)) is None:
            found = known[sentence] = tuple((k, _STRENGTH[value]) for k, value in _read(_plain(sentence)))
        for column, strength in found:
            if strength > row[column]:
                row[column] = strength
    return row


def _plain(sentence: str) -> str:
    """Lower case, single spaces, no brackets, quotes or colons, no glued words, no contracted "not"."""
    plain = " ".join(sentence.lower().translate(_TO_SPACE).split()).replace(" ,", ",")
    if "nt" in plain or "n'" in plain or "n’" in plain:
        plain = _CONTRACTED.sub(lambda match: f"{'can' if match[1] == 'ca' else match[1]} not", plain)
    return _GLUED.sub(r"\1/", plain) if any(word in plain for word in _FIRST_GLUED) else plain


def _read(sentence: str) -> Iterator[tuple[int, int]]:
    """Every mention in one sentence as a pair of column and class."""
    suspects = set().union(*map(_observations_named, sentence.split()))
    mentions = []
    for column in sorted(suspects):
        mentions += [(column, m.lastgroup, *m.span()) for m in _mentions(column).finditer(sentence)]
    cues = []
    if any(kind != "normal" for _, kind, _, _ in mentions):
        cues = [(m.lastgroup, *m.span()) for m in _cues().finditer(sentence)]
    for column, kind, start, end in mentions:
        value = NEGATIVE if kind == "normal" else _judge(sentence, start, end, cues)
        if kind == "stated" and value == UNCERTAIN:
            continue
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
def _observations_named(word: str) -> tuple[int, ...]:
    """Columns of the observations that a word's letters make worth a search: the anchors have no spaces."""
    return tuple(
        CONDITIONS.index(name) for name, anchors in ANCHORS.items() if any(anchor in word for anchor in anchors)
    )


@cache
def _mentions(column: int) -> re.Pattern:
    """What names an observation; the group of a match says in which table it stands."""
    name = CONDITIONS[column]
    tables = {"mention": MENTIONS, "stated": STATED, "hint": HINTS, "normal": NORMALS}
    return _alternation({kind: table[name] for kind, table in tables.items() if name in table})


@cache
def _cues() -> re.Pattern:
    opener = rf"(?:,(?: and)?|and)(?= (?:{'|'.join(OPENERS)})\b)"
    return _alternation({**CUES, "stop": (*CUES["stop"], opener)})


def _alternation(groups: dict[str, tuple[str, ...]]) -> re.Pattern:
    """One pattern of whole words with a named group per entry, tried in order."""
    named = "|".join(f"(?P<{name}>{'|'.join(phrases)})" for name, phrases in groups.items())
    return re.compile(rf"\b(?:{named})(?!\w)")
