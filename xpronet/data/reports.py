r"""Report text to token ids and back: the published cleaning and vocabulary, character for character.

Rows 24 and 25 of docs/paper-and-code.md. The published character class `[.,?;*!%^&_+():-\[\]{}]` holds a range by
accident, `:` to `[`, so that `:;<=>?@A-Z[` go and the hyphen stays. We keep it: the same string for the same input.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

logger = logging.getLogger(__name__)

Style = Literal["iu_xray", "mimic_cxr"]

END = 0  # one id for start, end and padding (row 25)
PERIOD = "."  # the word that ends a sentence
UNKNOWN = "<unk>"
MANY, MOST = 0.1, 0.5  # unknown words: a warning, an error
MARK = "xxxx"  # what Open-i puts for a removed word

_PUNCTUATION = re.compile(r"[.,?;*!%^&_+():-\[\]{}]")
_DROPPED = str.maketrans("", "", "\"/\\'")
# Enumerations ("1. … 2. …"), in the published order of replacement.
_ENUMERATION = [("1. ", "")] + [(f". {n}. ", ". ") for n in range(2, 6)] + [(f" {n}. ", ". ") for n in range(2, 6)]
_REPLACEMENTS = {
    "iu_xray": [("..", ".")] * 3 + _ENUMERATION,
    "mimic_cxr": [("\n", " ")] + [("__", "_")] * 7 + [("  ", " ")] * 6 + [("..", ".")] * 8 + _ENUMERATION,
}


def clean_report(text: str, style: Style) -> str:
    """Lower-case sentences without punctuation, joined and ended by " ."; equal to the published tokenizer's.

    Raises:
        ValueError: `style` is not "iu_xray" or "mimic_cxr".
    """
    if style not in _REPLACEMENTS:
        raise ValueError(f"style {style!r}: expected one of {', '.join(_REPLACEMENTS)}")
    for old, new in _REPLACEMENTS[style]:
        text = text.replace(old, new)
    sentences = text.strip().lower().split(". ")
    return " . ".join(_clean_sentence(sentence) for sentence in sentences) + " ."


def without_marks(cleaned: str, xxxx: Literal["keep", "drop", "unk"]) -> str:
    """A cleaned report with Open-i's marks of removed words (XXXX, as in x-XXXX) kept, dropped or made `<unk>`."""
    if xxxx == "keep":
        return cleaned
    sentences = [
        [word for word in sentence.split() if xxxx == "unk" or MARK not in word] for sentence in cleaned.split(".")
    ]
    lines = (" ".join(UNKNOWN if MARK in word else word for word in sentence) for sentence in sentences if sentence)
    return "".join(f"{line} . " for line in lines).rstrip()


def _clean_sentence(sentence: str) -> str:
    return _PUNCTUATION.sub("", sentence.translate(_DROPPED).strip().lower())


class Vocabulary:
    """Words and their ids: ids count from 1 in sorted order, 0 is start, end and padding; rare words are `<unk>`."""

    def __init__(self, tokens: Sequence[str]):
        """`tokens` in id order, the first has id 1."""
        if UNKNOWN not in tokens or len(set(tokens)) != len(tokens):
            raise ValueError(f"a vocabulary needs distinct tokens, {UNKNOWN} among them")
        self.tokens = tuple(tokens)
        self._ids = {token: id for id, token in enumerate(self.tokens, start=1)}

    @classmethod
    def build(cls, cleaned_reports: Iterable[str], min_count: int) -> "Vocabulary":
        """Every word that occurs at least `min_count` times in the cleaned reports, and `<unk>`."""
        counts = Counter(word for report in cleaned_reports for word in report.split())
        return cls(sorted({word for word, count in counts.items() if count >= min_count} | {UNKNOWN}))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def period(self) -> int:
        """The id of the word that ends a sentence, `<unk>`'s where none does."""
        return self._ids.get(PERIOD, self._ids[UNKNOWN])

    def encode(self, cleaned: str) -> list[int]:
        """Token ids of a cleaned report with 0 at both ends."""
        unknown = self._ids[UNKNOWN]
        return [END, *(self._ids.get(word, unknown) for word in cleaned.split()), END]  # Eq. 2

    def decode(self, ids: Iterable[int]) -> str:
        """The words up to the first id that is not a word's; a 0 in front, as `encode` puts it, ends it too."""
        text = ""
        for position, id in enumerate(ids):
            if id <= 0:
                break
            text += (" " if position else "") + self.tokens[id - 1]
        return text


def sentences(ids: Sequence[int], period: int) -> list[list[int]]:
    """A report's ids, without the start, cut behind each `.` (id `period`); its end, 0, is a part of its own."""
    parts: list[list[int]] = []
    for place, id in enumerate(ids):
        if place == 0 or id == END or ids[place - 1] == period:
            parts.append([])
        parts[-1].append(id)
    return parts


def unknown_share(cleaned_reports: Sequence[str], vocabulary: Vocabulary) -> float:
    """Share of the words of cleaned reports that a vocabulary lacks; 0 where there are no words."""
    known = set(vocabulary.tokens)
    words = [word for report in cleaned_reports for word in report.split()]
    return sum(word not in known for word in words) / len(words) if words else 0.0


def check_vocabulary(cleaned_reports: Sequence[str], vocabulary: Vocabulary) -> None:
    """Say in the log where many words of the reports that a vocabulary was built of are unknown to it.

    The published settings leave 1.3 % on IU-Xray, ours 0.0 % on the phantom; of 20 studies `min_count` 3 leaves 20 %.

    Raises:
        ValueError: most of them are unknown: a model would learn to write `<unk>`.
    """
    share = unknown_share(cleaned_reports, vocabulary)
    line = f"{share:.1%} of the words in the train reports are unknown to a vocabulary of {len(vocabulary)}"
    if share > MOST:
        raise ValueError(f"{line}: lower reports.min_count")
    if share > MANY:
        logger.warning("%s: lower reports.min_count, or mind what it cannot write", line)


def truncate(ids: Sequence[int], max_length: int) -> list[int]:
    """At most `max_length` ids with the end kept: the published code cuts it off (row 22)."""
    return list(ids) if len(ids) <= max_length else [*ids[: max_length - 1], END]


def as_published(cleaned: str, vocabulary: Vocabulary, max_length: int) -> str:
    """A reference as the published code scores it: cut at `max_length` ids, rare words as `<unk>` (row 23)."""
    return vocabulary.decode(vocabulary.encode(cleaned)[1:max_length])
