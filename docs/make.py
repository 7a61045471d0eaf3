"""`make docs`: docs/parameters.md, and the tables of docs/library.md and README.md, from what they are about."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from experiments.floors import FLOORS
from experiments.results import SHOWN
from stages.check import Params

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("phantom", "iu_xray", "mimic_cxr")
SCORES = (*SHOWN, "same_side")
LABELS = {"predicted": "predicted labels", "reference": "reference labels", "none": "no labels"}
SYSTEM = re.compile(r"^systems\.\w+\..*")  # a key of one system

PARAMETERS = """# Which parameters are there?

All of them stand in `params.yaml`; `presets/` has a whole file for each dataset. `dvc exp run -S KEY=VALUE` changes one
for a run. No key may be missing or unknown: the first stage, `check`, names mistakes with their values and the rule
before any work starts.

*Reruns* names the stages that read a key and run again when it changes; those after them follow where what they read
came out different ([pipeline.md](pipeline.md)). "Row 17" is a row of [paper-and-code.md](paper-and-code.md).

*This page is written by `make docs` from `stages/check.py`, what it imports, `dvc.yaml` and `presets/`.*
"""


class Line(NamedTuple):
    """Where an equation is computed: `text` stands in one line of the file, whose comment says `Eq. N`."""

    equation: int
    what: str
    file: str
    text: str


EQUATIONS = [
    Line(1, "image to patch features", "xpronet/model/visual.py", "return features.flatten(2)"),
    Line(2, "a report as words", "xpronet/data/reports.py", "for word in cleaned.split()), END]"),
    Line(3, "what a labeller found as 0/1 pseudo labels", "xpronet/labels/conditions.py", "labels.astype(np.float32)"),
    Line(4, "the studies of an observation", "xpronet/prototypes/kmeans.py", "np.flatnonzero(labels[:, k])"),
    Line(5, "visual beside textual features", "xpronet/prototypes/kmeans.py", "visual.shape[1] :] ="),
    Line(6, "K-means of an observation's features", "xpronet/prototypes/kmeans.py", "random_state=random).fit(every)"),
    Line(7, "cluster means as prototypes", "xpronet/prototypes/kmeans.py", "fitted.inertia_  #"),
    Line(8, "projection of the prototypes", "xpronet/model/xpronet.py", "self.prototype_projection(self.prototypes)"),
    Line(9, "queries, of patches and of words", "xpronet/model/memory.py", "self.query(x)"),
    Line(9, "keys, of prototypes", "xpronet/model/memory.py", "self.key(prototypes)"),
    Line(10, "similarities", "xpronet/model/memory.py", "queries @ keys"),
    Line(11, "weights of the top γ", "xpronet/model/memory.py", "weights = self._weights("),
    Line(12, "prototypes in the queries' space", "xpronet/model/memory.py", "values = self.value("),
    Line(13, "responses", "xpronet/model/memory.py", "spread.flatten(1, 2) @ values"),
    Line(14, "fusion, of patches and of words", "xpronet/model/xpronet.py", "return fusion(torch.cat("),
    Line(15, "encoder", "xpronet/model/xpronet.py", "return self.encoder("),
    Line(16, "decoder", "xpronet/model/xpronet.py", "hidden = self.decoder(words,"),
    Line(17, "multi-label contrastive loss", "xpronet/model/losses.py", "gap = torch.addcmul("),
    Line(18, "labels of a pair, h_t", "xpronet/model/losses.py", "of_both = counts[:, None]"),
    Line(18, "labels that differ, h_d", "xpronet/model/losses.py", "exponent = torch.addcdiv("),
    Line(19, "cross-entropy", "xpronet/model/losses.py", "added(nats.sum() / "),
    Line(20, "the objective", "xpronet/model/losses.py", "whole = ce + "),
]


def parameters() -> str:
    """The page of all parameters."""
    schema = Params.model_json_schema()
    groups = {
        name: schema["$defs"][it["$ref"].rpartition("/")[2]]
        for name, it in schema["properties"].items()
        if "$ref" in it
    }
    own = groups["systems"]["properties"]  # the only group of groups
    groups["systems"]["properties"] = {
        f"{name}.{key}": found
        for name, it in own.items()
        for key, found in schema["$defs"][it["$ref"].rpartition("/")[2]].get("properties", {}).items()
    }
    presets = [yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8")) for name in PRESETS]
    order = list(presets[0])
    top = {key: schema["properties"][key] for key in sorted(set(order) - set(groups), key=order.index)}
    sections = ["## Top level\n\nThe dataset, the paper's symbols and its ablations.\n", *_table("", top, presets)]
    for name in sorted(groups, key=order.index):
        about = groups[name]["description"].removeprefix(f"Group `{name}`: ")
        sections.append(f"\n## `{name}`\n\n{about[0].upper()}{about[1:]}\n")
        sections += _table(f"{name}.", groups[name]["properties"], [preset[name] for preset in presets])
    return "\n".join([PARAMETERS, *sections, ""])


def _table(prefix: str, properties: dict[str, dict], presets: list[dict]) -> Iterator[str]:
    yield f"| key | value | {' | '.join(PRESETS)} | meaning | reruns |"
    yield "|---|---|" + "---|" * len(PRESETS) + "---|---|"
    for key, schema in properties.items():
        values = " | ".join(f"`{_shown(reduce(getitem, key.split('.'), preset))}`" for preset in presets)
        reruns = ", ".join(f"`{stage}`" for stage in readers(f"{prefix}{key}")) or "–"
        yield f"| `{prefix}{key}` | {_kind(schema)} | {values} | {schema['description']} | {reruns} |"


def readers(key: str) -> list[str]:
    """The stages that DVC runs again when a parameter changes; `check` does every time, in a second."""
    return [
        name
        for name, stage in _stages().items()
        if {key, key.partition(".")[0], SYSTEM.sub("systems.${system}", key)} & set(stage.get("params", ()))
        or f"${{{key}}}" in stage["deps"]
    ]


@cache
def _stages() -> dict[str, dict]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def _kind(schema: dict) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        *first, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(first)} or {last}"
    name = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true` or `false`",
        "string": "text",
        "null": "`null`",
        "array": "two texts" if schema.get("maxItems") == 2 else "list of texts",
    }[schema["type"]]
    signs = {"minimum": "≥", "ge": "≥", "gt": ">", "exclusiveMaximum": "<", "lt": "<", "maximum": "≤", "le": "≤"}
    bounds = " and ".join(f"{sign} {schema[bound]}" for bound, sign in signs.items() if bound in schema)
    return f"{name} {bounds}".strip()


def equations() -> str:
    """The table: equation, what it is, and the line that computes it.

    Raises:
        ValueError: a line is gone, stands twice, or does not say which equation it is.
    """
    rows = ["| Eq. | what | where |", "|---|---|---|"]
    for equation, what, file, text in EQUATIONS:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        found = [(number, line) for number, line in enumerate(lines, start=1) if text in line]
        if len(found) != 1:
            raise ValueError(
                f"Eq. {equation}: {len(found)} lines of {file} have {text!r}: see EQUATIONS in docs/make.py"
            )
        number, line = found[0]
        if not re.search(rf"#.*Eq\. {equation}\b", line):
            raise ValueError(f"Eq. {equation}: {file}:{number} does not say so in a comment")
        rows.append(f"| {equation} | {what} | [{file.removeprefix('xpronet/')}:{number}](../{file}#L{number}) |")
    return "\n".join(rows)


def results() -> str:
    """The scores on the test split under each kind of labels, and the floors, as the last run in git has them."""
    scores = json.loads((ROOT / "metrics/details/test.json").read_text(encoding="utf-8"))
    rows = ["| | " + " | ".join(SCORES) + " |", "|---" * (len(SCORES) + 1) + "|"]

    def add(name: str, values: Iterable[float | None]) -> None:
        rows.append(f"| {name} | " + " | ".join("–" if v is None else f"{v:.3f}" for v in values) + " |")

    for key, name in LABELS.items():
        add(name, (scores[key][score] for score in SCORES))
        if key == "predicted":
            ends = (scores[key]["intervals"].get(score) for score in SCORES)
            cells = (f"{each[0]:.2f}–{each[1]:.2f}" if each else "–" for each in ends)
            rows.append("| 95 % interval | " + " | ".join(cells) + " |")
    for key, name in FLOORS.items():
        add(f"floor: {name}", (scores["floors"][key][score] for score in SCORES))
    return "\n".join(rows)


def _between(page: Path, what: str, text: str) -> str:
    """The page with the text between its two marks."""
    begin, end = f"<!-- {what}: begin, written by make docs -->", f"<!-- {what}: end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def pages() -> dict[Path, str]:
    """What `make docs` writes, by file."""
    library, readme = ROOT / "docs/library.md", ROOT / "README.md"
    return {
        ROOT / "docs/parameters.md": parameters(),
        library: _between(library, "equations", equations()),
        readme: _between(readme, "results", results()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
