"""`make ablations`: the paper's Table 2 and Figures 5 and 6 as DVC experiments over several seeds, and what they show.

Every run is an experiment by a name of its own (`wo-pi-2`: w/o PI, seed 2). A study that was interrupted goes on where
it stopped: what an experiment has of this commit is not run again. The sweeps are of short runs, with the four rows
trained as short beside them: what is too early to see shows there.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import dvc.api
import typer
from dvc.api import DVCFileSystem

from xpronet.app.compare import ANNOTATION, Side, read_side, score
from xpronet.app.settings import read_keys
from xpronet.data.files import replacing, write_json
from xpronet.data.reports import cleaned_reports
from xpronet.evaluation import study
from xpronet.evaluation.house_style import share_in_style
from xpronet.evaluation.statistics import Table
from xpronet.figures.ablations import draw

FULL = "full"
ROWS = {FULL: [], "wo-pi": ["prototype_init=random"], "wo-imlcs": ["imlcs=false"], "wo-cmpnet": ["cmpnet=false"]}
SWEEPS = {"gamma": (1, 5, 15), "theta": (1.25, 1.75, 2.0)}  # beside the preset's own 10 and 1.5
SHORT = ["train.batch_size=16", "train.epochs=6", "train.lr_step=4"]  # a third of the preset's steps
TITLES = {FULL: "XProNet", "wo-pi": "w/o PI", "wo-imlcs": "w/o IMLCS", "wo-cmpnet": "w/o CMPNet"}
METRICS, SCORES = "metrics/test.json", "data/scores/test.json"
LEXICAL = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L", "METEOR")
SHOWN = (*LEXICAL, "CIDEr", "micro_F1_14", "macro_F1_14")
# What stands behind the scores, and its column.
LOOKS = {
    "cross_entropy": "cross-entropy",
    "distinct_reports": "different reports",
    "in_style": "in style",
    "without_findings BLEU_4": "BLEU_4 without",
    "without_findings CIDEr": "CIDEr without",
    "with_findings BLEU_4": "BLEU_4 with",
    "with_findings CIDEr": "CIDEr with",
}
DIFFERENCES = ("BLEU_4", "ROUGE_L", "CIDEr", "micro_F1_14", "macro_F1_14")
# Table 2 of the paper, in the order of LEXICAL; its test labels were made from the test reports (row 20).
PAPER = {
    "IU-Xray": {
        FULL: (0.525, 0.357, 0.262, 0.199, 0.411, 0.220),
        "wo-pi": (0.476, 0.307, 0.218, 0.160, 0.371, 0.196),
        "wo-imlcs": (0.471, 0.307, 0.215, 0.159, 0.377, 0.196),
        "wo-cmpnet": (0.467, 0.303, 0.210, 0.155, 0.367, 0.197),
    },
    "MIMIC-CXR": {
        FULL: (0.344, 0.215, 0.146, 0.105, 0.279, 0.138),
        "wo-pi": (0.329, 0.205, 0.139, 0.100, 0.275, 0.133),
        "wo-imlcs": (0.336, 0.204, 0.137, 0.098, 0.269, 0.135),
        "wo-cmpnet": (0.321, 0.198, 0.133, 0.095, 0.273, 0.131),
    },
}
BLEU_4 = LEXICAL.index("BLEU_4")
# What the paper's text says of BLEU-4 in its sweeps; the curves themselves have no numbers.
PAPER_SWEEPS = {
    "gamma": "Figure 5, IU-Xray: best at 15 (0.199), 0.171 at 17",
    "theta": "Figure 6, MIMIC-CXR: best at 1.75, worse elsewhere",
}
# What one report, chosen on validation, gets for all test studies (measured on the published annotation).
PAPER_CONSTANT = {"IU-Xray": 0.172}


@dataclass(frozen=True)
class Run:
    """One experiment of the study."""

    row: str
    seed: int
    changes: Sequence[str]

    @property
    def name(self) -> str:
        return f"{self.row}-{self.seed}"


def plan(seeds: Sequence[int], short_seeds: Sequence[int]) -> list[Run]:
    """Every run, seed by seed, so that an interrupted study has whole seeds."""
    runs = [Run(row, seed, changes) for seed in seeds for row, changes in ROWS.items()]
    for seed in short_seeds:
        runs += [Run(f"short-{row}", seed, [*SHORT, *changes]) for row, changes in ROWS.items()]
        runs += [
            Run(f"{key}-{value}", seed, [*SHORT, f"{key}={value}"])
            for key, values in SWEEPS.items()
            for value in values
        ]
    return runs


def run_all(runs: Sequence[Run]) -> None:
    """Run what is missing; ValueError when DVC fails, which has said why."""
    todo = [run for run in runs if not is_done(run.name)]
    typer.echo(f"{len(runs)} experiments, {len(runs) - len(todo)} of them done")
    started = time.monotonic()
    for number, run in enumerate(todo):
        left = ""
        if number:
            minutes = (time.monotonic() - started) / number * (len(todo) - number) / 60
            left = f"; about {minutes:.0f} min left"
        changes = [f"seed={run.seed}", *run.changes]
        typer.echo(f"[{number + 1}/{len(todo)}] {run.name}: {' '.join(changes)}{left}")
        # Not --force for a name that is taken: it would run every stage again instead of what the change touches.
        subprocess.run(["dvc", "exp", "remove", run.name], capture_output=True)
        command = ["dvc", "exp", "run", "--temp", "--name", run.name]
        for change in changes:
            command += ["--set-param", change]
        if subprocess.run(command).returncode:
            raise ValueError(f"experiment {run.name} failed: {' '.join(command)}")


def is_done(name: str) -> bool:
    """Whether an experiment of this name began at this commit; only docs, where the study writes, may differ since."""
    head = _git("rev-parse", "HEAD").strip()
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!docs").strip()
    return not changed and bool(_git("for-each-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}").strip())


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def analyse(seeds: Sequence[int], short_seeds: Sequence[int], params: Path) -> dict[str, Any]:
    """What finished runs show: `preset` and `short`, the four rows at either length of training, and `sweeps`."""
    sides = [read_side(run.name, "test", "predicted") for run in plan(seeds, short_seeds)]
    labeller, _, tables = score(sides, params)
    found = {side.name: (side, table) for side, table in zip(sides, tables, strict=True)}
    result = {"labeller": labeller, "preset": _four_rows(found, "", seeds), "short": None, "sweeps": {}}
    if not short_seeds:
        return result
    result["short"] = _four_rows(found, "short-", short_seeds)
    for key, values in SWEEPS.items():
        rows = {FULL: f"short-{FULL}", **{str(value): f"{key}-{value}" for value in values}}
        swept = {name: [found[f"{row}-{seed}"][1] for seed in short_seeds] for name, row in rows.items()}
        result["sweeps"][key] = {
            "full": dvc.api.params_show(rev=f"short-{FULL}-{short_seeds[0]}")[key],
            "seeds": list(short_seeds),
            "values": {name: study.scores_of(each) for name, each in swept.items()},
            "against_full": study.against(swept, FULL, seed=1),
        }
    return result


def _four_rows(found: Mapping[str, tuple[Side, Table]], prefix: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Scores, differences from the full model and floors of the rows of Table 2 at one length of training."""
    of_row = {row: [found[f"{prefix}{row}-{seed}"] for seed in seeds] for row in ROWS}
    rows = {row: [table for _, table in each] for row, each in of_row.items()}
    looks = {row: [_look_at(side) for side, _ in each] for row, each in of_row.items()}
    full = [side.name for side, _ in of_row[FULL]]
    metrics, params = [dvc.api.metrics_show(METRICS, rev=name) for name in full], dvc.api.params_show(rev=full[0])
    return {
        "seeds": list(seeds),
        "studies": len(rows[FULL][0].means),
        "steps": math.ceil(params["phantom"]["train"] / params["train"]["batch_size"]) * params["train"]["epochs"],
        "rows": {row: study.scores_of(each) for row, each in rows.items()},
        "looks": {
            row: {look: study.summary([run[look] for run in each]) for look in LOOKS} for row, each in looks.items()
        },
        "against_full": study.against(rows, FULL, seed=1),
        "floors": {
            floor: {metric: study.summary([each["floors"][floor][metric] for each in metrics]) for metric in SHOWN}
            for floor in metrics[0]["floors"]
        },
        "leak_delta": {metric: study.summary([each["leak_delta"][metric] for each in metrics]) for metric in SHOWN},
    }


def _look_at(side: Side) -> dict[str, float]:
    """What the corpus scores of a run do not tell: likelihood, diversity, house style, and scores by stratum."""
    files, reports = DVCFileSystem(rev=side.name), dvc.api.params_show(rev=side.name)["reports"]
    predicted = dvc.api.metrics_show(METRICS, rev=side.name)["predicted"]
    strata = json.loads(files.read_text(SCORES, encoding="utf-8"))["strata"]
    studies = json.loads(files.read_text(str(ANNOTATION), encoding="utf-8"))
    site_of = {each["id"]: each["state"]["site"] for split in ("train", "test") for each in studies[split]}
    return {
        "cross_entropy": predicted["cross_entropy"],
        "distinct_reports": predicted["distinct_reports"],
        "in_style": share_in_style(
            cleaned_reports([each["report"] for each in studies["train"]], reports["style"], reports["xxxx"]),
            [site_of[each["id"]] for each in studies["train"]],
            side.written,
            [site_of[id] for id in side.ids],
        ),
        **{f"{stratum} {metric}": value for stratum, scores in strata.items() for metric, value in scores.items()},
    }


def tables(result: Mapping[str, Any]) -> str:
    """The study in Markdown."""
    preset, short = result["preset"], result["short"]
    lines = ["### The preset", "", *_table_2(preset, result["labeller"])]
    if short:
        lines += ["", "### Trained a third as long", "", *_table_2(short, result["labeller"])]
    lines += ["", "### Beside the paper", "", "BLEU-4 of Table 2, and the change from the full model:", ""]
    lines.append(_header("", ("phantom", *["phantom, short"] * bool(short), *PAPER)))
    phantom = [
        {row: scores["BLEU_4"]["mean"] for row, scores in part["rows"].items()} for part in (preset, short) if part
    ]
    columns = [*phantom, *({row: scores[BLEU_4] for row, scores in of.items()} for of in PAPER.values())]
    for row in ROWS:
        pairs = [(of[row], of[FULL]) for of in columns]
        cells = [f"{value:.3f}" + f" ({value / full - 1:+.1%})" * (row != FULL) for value, full in pairs]
        lines.append(_row(TITLES[row], cells))
    for key, sweep in result["sweeps"].items():
        symbol = {"gamma": "γ", "theta": "θ"}[key]
        named = {name: float(sweep["full"] if name == FULL else name) for name in sweep["values"]}
        seeds = ", ".join(map(str, sweep["seeds"]))
        lines += [
            "",
            f"{symbol} (the preset has {sweep['full']:g}), {short['steps']} steps, seeds {seeds}:",
            "",
            _header(symbol, ("BLEU_4", "difference", "ROUGE_L", "micro_F1_14", "difference")),
        ]
        for name, value in sorted(named.items(), key=lambda item: item[1]):
            scores, cells = sweep["values"][name], []
            for metric, compared in (("BLEU_4", True), ("ROUGE_L", False), ("micro_F1_14", True)):
                cells.append(_spread(scores[metric]))
                if compared:
                    cells.append("–" if name == FULL else _difference(sweep["against_full"][name][metric]))
            lines.append(_row(f"{value:g}", cells))
        lines += ["", f"The paper: {PAPER_SWEEPS[key]}."]
    return "\n".join(lines) + "\n"


def _table_2(part: Mapping[str, Any], labeller: str) -> list[str]:
    """The four rows of one length of training: scores and floors, then differences."""
    lines = [
        f"Phantom, test split, {part['studies']} studies a seed; seeds: {', '.join(map(str, part['seeds']))};"
        f" {part['steps']:,} steps. Predicted labels; F1 by labeller `{labeller}`. Mean ± standard deviation over the"
        " seeds.",
        "",
        _header("", SHOWN),
    ]
    for row, scores in part["rows"].items():
        lines.append(_row(TITLES[row], [_spread(scores[metric]) for metric in SHOWN]))
    for floor, scores in part["floors"].items():
        name = f"*{floor.replace('_', ' ')}* (floor)"
        lines.append(_row(name, [_spread(scores[metric]) for metric in SHOWN]))
    lines += [
        "",
        "Differences from XProNet: mean (seed by seed, where there are several); *p* over the studies of all seeds,"
        " with Holm's correction for the rows of the table / *p* over the seeds.",
        "",
        _header("", DIFFERENCES),
    ]
    for row, found in part["against_full"].items():
        lines.append(_row(TITLES[row], [_difference(found[metric]) for metric in DIFFERENCES]))
    lines += [
        "",
        "Behind the scores: cross-entropy per token by teacher forcing on the test reports, how many different reports"
        " a row writes (seed by seed), the share of reports in the house style of their study's site, and scores of"
        " studies without and with findings.",
        "",
        _header("", list(LOOKS.values())),
    ]
    for row, looks in part["looks"].items():
        counts = ", ".join(f"{count:g}" for count in looks["distinct_reports"]["seeds"])
        lines.append(_row(TITLES[row], [counts if n == "distinct_reports" else _spread(looks[n]) for n in LOOKS]))
    leak = ", ".join(
        f"{metric} {_spread(part['leak_delta'][metric], sign='+')}" for metric in ("BLEU_4", "micro_F1_14")
    )
    return [*lines, "", f"What labels of the test reports would add to the predicted ones' scores of XProNet: {leak}."]


def _header(first: str, columns: Sequence[str]) -> str:
    return _row(first, columns) + "\n" + "|---" * (len(columns) + 1) + "|"


def _row(first: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join((first, *cells)) + " |"


def _spread(found: Mapping[str, Any], *, sign: str = "") -> str:
    return f"{found['mean']:{sign}.3f}" + (f" ± {found['deviation']:.3f}" if found["deviation"] is not None else "")


def _difference(found: Mapping[str, Any]) -> str:
    text = f"{found['mean']:+.3f}"
    if found["p_seeds"] is None:
        return f"{text}; {found['p_studies_holm']:.4f}"
    by_seed = ", ".join(f"{value:+.3f}" for value in found["seeds"])
    return f"{text} ({by_seed}); {found['p_studies_holm']:.4f} / {found['p_seeds']:.2f}"


BEGIN, END = "<!-- study: begin, written by make ablations -->", "<!-- study: end -->"


def put_between(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a Markdown page."""
    content = page.read_text(encoding="utf-8")
    if BEGIN not in content or END not in content:
        raise ValueError(f"{page}: no lines {BEGIN} and {END} to write the tables between")
    before, rest = content.split(BEGIN, 1)
    with replacing(page) as beside:
        beside.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main(
    seeds: Annotated[str, typer.Option(help="Of the four rows of Table 2.")] = "1,2,3",
    short_seeds: Annotated[
        str, typer.Option(help="Of the short runs: the rows again, and sweeps over gamma and theta; empty for none.")
    ] = "1,2,3",
    page: Annotated[Path, typer.Option(help="Markdown page to write the tables into.")] = Path("docs/ablations.md"),
    params: Annotated[Path, typer.Option(help="Parameter file: cleaning, labeller.")] = Path("params.yaml"),
) -> None:
    """Run the ablations and sweeps as DVC experiments, test the differences, and write tables and a picture."""
    try:
        long, short = ([int(seed) for seed in text.split(",") if seed.strip()] for text in (seeds, short_seeds))
        if not long:
            raise ValueError(f"--seeds {seeds!r} names no seed")
        (dataset,) = read_keys(params, {"dataset": str})
        if dataset != "phantom":
            raise ValueError(
                f"{params}: dataset {dataset}: this study is of the phantom; run a row by `dvc exp run -S cmpnet=false`"
                " (README, Experiments) and hold it against another by `xpronet compare`"
            )
        run_all(plan(long, short))
        result = analyse(long, short, params)
        write_json(page.with_suffix(".json"), result)
        put_between(page, tables(result))
        bleu_4 = {dataset: {row: scores[BLEU_4] for row, scores in rows.items()} for dataset, rows in PAPER.items()}
        draw(page.with_suffix(".png"), result, bleu_4, PAPER_SWEEPS, PAPER_CONSTANT, TITLES)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    typer.echo(tables(result))
    typer.echo(f"{page}, and beside it .json and .png")


if __name__ == "__main__":
    typer.run(main)
