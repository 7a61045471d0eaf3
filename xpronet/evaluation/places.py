"""Where findings are said to be: the side and the lobe, of which F1 of observations knows nothing."""

from collections.abc import Mapping, Sequence

import numpy as np

from xpronet.labels import rules
from xpronet.labels.conditions import NO_FINDING, POSITIVE
from xpronet.labels.templates import sentences

BOTH = {"left", "right"}
LINGULA = ("lingula", "lingular")  # of the left lung, where the right one has a middle lobe
WORDS = {
    "side": {
        "left": {"left"},
        "right": {"right"},
        **dict.fromkeys(LINGULA, {"left"}),
        **dict.fromkeys(("bilateral", "bilaterally", "both", "bibasilar", "bibasal", "biapical"), BOTH),
    },
    "lobe": {"upper": {"upper"}, "middle": {"middle"}, "lower": {"lower"}, **dict.fromkeys(LINGULA, {"middle"})},
}
LUNG = {"lobe", "lobes", "lung", "lungs", "zone", "zones", *LINGULA}  # ribs and veins have an upper part too

Named = dict[tuple[int, str], set[str]]  # observation and kind of place -> the places


def places(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float | int | None]:
    """How often a finding that both reports place is placed alike.

    A finding is an observation that the rule labeller finds in a sentence; its places are the sides, or lobes, which
    its sentences name, for whichever of their findings. What only one of the reports names, or places, counts for
    nothing.

    Args:
        references, hypotheses: N cleaned reports each.

    Returns:
        `same_side`, `same_lobe`: shares, None where there is nothing to compare; `sides`, `lobes`: of how many.
    """
    split = [[sentences(report) for report in reports] for reports in (references, hypotheses)]
    distinct = list(dict.fromkeys(sentence for reports in split for report in reports for sentence in report))
    found = dict(zip(distinct, rules.label(distinct) == POSITIVE, strict=True))
    compared: dict[str, list[bool]] = {kind: [] for kind in WORDS}
    for own, written in zip(*split, strict=True):
        ours, theirs = (_named(report, found) for report in (own, written))
        for key in ours.keys() & theirs.keys():
            compared[key[1]].append(ours[key] == theirs[key])
    shares = {f"same_{kind}": sum(same) / len(same) if same else None for kind, same in compared.items()}
    return {**shares, **{f"{kind}s": len(same) for kind, same in compared.items()}}


def _named(report: Sequence[str], found: Mapping[str, np.ndarray]) -> Named:
    """Of a report's sentences, and of each sentence which observations (14,) bool it finds."""
    named: Named = {}
    for sentence in report:
        written = sentence.replace("-", " ").split()
        for kind, words in WORDS.items():
            if kind == "lobe" and LUNG.isdisjoint(written):
                continue
            said = set().union(*(words.get(word, ()) for word in written))
            for observation in found[sentence].nonzero()[0] if said else ():
                if observation != NO_FINDING:
                    named.setdefault((observation, kind), set()).update(said)
    return named
