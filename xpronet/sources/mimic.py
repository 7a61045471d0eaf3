r"""MIMIC-CXR reports: findings and impression out of free text, as MIT-LCP's section extraction finds them.

A header is a newline, a space, capitals, a colon and white space. The quirks of that are part of the published data and
stay: the first line is never a header; what follows a header on its line is passed over in the search for the next, so
that a header on the very next line is swallowed; unheaded addenda and signatures belong to the section before them.
"""

import re

SECTIONS = ("findings", "impression", "last_paragraph", "comparison")

_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")

# Headers that mean a section whatever words are in them, misspellings as they occur.
_HEADERS = {
    "findings": """findings | chest, two views | reference findings
        finding | findins | findindgs | findgings | findngs | findnings | finidngs""",
    "impression": """impression | conclusion | findings and impression | findings/impression | findings/ impression
        impresson | imprression | imoression | impressoin | imprssion | impresion | imperssion | mpression | impession
        ndication""",
    "comparison": """comparison | comparisons | comparison exam | comparison film | reference exam
        comparision | comparsion | comparrison | comparisions""",
    "other": """clinical history | clinical indication | history | patient history | addendum""",
}
_NAMES = {name.strip(): section for section, names in _HEADERS.items() for name in re.split(r"[|\n]", names)}
# Otherwise the first of these that a header contains; history and addendum are sections that nobody asks for.
_CONTAINED = ("impression", "findings", "history", "comparison", "addendum")
# Otherwise a view: what stands below it are findings.
_VIEWS = (
    "chest",
    "portable",
    "pa and lateral",
    "lateral and pa",
    "ap and lateral",
    "lateral and ap",
    "frontal and",
    "two views",
    "frontal view",
    "pa view",
    "ap view",
    "one view",
    "lateral view",
    "bone window",
    "frontal upright",
    "frontal semi-upright",
    "ribs",
    "pa and lat",
)


def sections(text: str) -> dict[str, str]:
    """The sections of one report, stripped: `findings`, `impression`, `last_paragraph`, `comparison`.

    What is absent is an empty string; of several sections of a name the last counts. Where neither findings nor an
    impression has text, what follows the first blank line of the last section is the `last_paragraph`.
    """
    parts = [(section_of(name), body) for name, body in _split(text)]
    parts = [(name, body) for name, body in parts if body.strip() or name not in ("findings", "impression")]
    found = dict(parts)
    if not {"findings", "impression"} & set(found):
        name, body = parts[-1]
        first, blank, rest = body.partition("\n \n")
        if blank:
            found |= {name: first, "last_paragraph": rest}
    return {name: found.get(name, "").strip() for name in SECTIONS}


def section_of(header: str) -> str:
    """`findings`, `impression`, `comparison`, or the header itself where it is none of them."""
    name = header.lower().strip()
    if name in _NAMES:
        return _NAMES[name]
    for part in _CONTAINED:
        if part in name:
            return part
    return "findings" if any(view in name for view in _VIEWS) else name


def _split(text: str) -> list[tuple[str, str]]:
    """(header, body) in order; what stands before the first header is the preamble."""
    header = _HEADER.search(text)
    parts = [("preamble", text[: header.start(1)] if header else text)]
    while header:
        start = header.end()
        line = text.find("\n", start)
        following = _HEADER.search(text, max(line, start))
        parts.append((header.group(1), text[start : following.start() if following else len(text)]))
        header = following
    return parts
