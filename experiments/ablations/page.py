"""The study in Markdown, beside the paper's numbers."""

from collections.abc import Mapping
from typing import Any

from experiments.ablations.analysis import LOOKS
from experiments.ablations.runs import FULL, ROWS
from experiments.floors import FLOORS
from experiments.markdown import spread, table_header, table_row
from experiments.results import SHOWN

TITLES = {FULL: "XProNet", "wo-pi": "w/o PI", "wo-imlcs": "w/o IMLCS", "wo-cmpnet": "w/o CMPNet"}
LEXICAL = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L", "METEOR")  # in the order of the paper's table
GOALS = ("BLEU_4", "CIDEr", "micro_F1_14", "macro_F1_14")  # in which a model is held against the floors
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


def tables(result: Mapping[str, Any]) -> str:
    """The study in Markdown."""
    lines = [
        f"Phantom, test split, {result['studies']} studies; seeds of training: {', '.join(map(str, result['seeds']))};"
        f" {result['steps']:,} steps. Predicted labels; F1 by labeller `{result['labeller']}`. Mean ± standard"
        " deviation over the seeds.",
        "",
        table_header("", SHOWN),
    ]
    for row, scores in result["rows"].items():
        lines.append(table_row(TITLES[row], [spread(scores[metric]) for metric in SHOWN]))
    for floor, scores in result["floors"].items():
        lines.append(table_row(f"*{FLOORS[floor]}* (floor)", [spread(scores[metric]) for metric in SHOWN]))
    lines += [
        "",
        "Differences from XProNet: mean (seed by seed, where there are several); *p* over the studies of all seeds,"
        " with Holm's correction for the rows of the table / *p* over the seeds.",
        "",
        table_header("", DIFFERENCES),
    ]
    for row, found in result["against_full"].items():
        lines.append(table_row(TITLES[row], [_difference(found[metric]) for metric in DIFFERENCES]))
    lines += [
        "",
        "Behind the scores: cross-entropy per token by teacher forcing on the test reports, how many different reports"
        " a row writes (seed by seed), and scores of studies without and with findings.",
        "",
        table_header("", list(LOOKS.values())),
    ]
    for row, looks in result["looks"].items():
        counts = ", ".join(f"{count:g}" for count in looks["distinct_reports"]["seeds"])
        lines.append(table_row(TITLES[row], [counts if n == "distinct_reports" else spread(looks[n]) for n in LOOKS]))
    leak = [f"{metric} {spread(result['leak_delta'][metric], sign='+')}" for metric in ("BLEU_4", "micro_F1_14")]
    lines += [
        "",
        f"What labels of the test reports would add to the predicted ones' scores of XProNet: {', '.join(leak)}.",
        "",
        *["### Beside the paper", "", "BLEU-4 of Table 2, and the change from the full model:", ""],
        table_header("", ("phantom", *PAPER)),
    ]
    phantom = {row: scores["BLEU_4"]["mean"] for row, scores in result["rows"].items()}
    columns = [phantom, *({row: scores[BLEU_4] for row, scores in of.items()} for of in PAPER.values())]
    for row in ROWS:
        pairs = [(of[row], of[FULL]) for of in columns]
        cells = [f"{value:.3f}" + f" ({value / full - 1:+.1%})" * (row != FULL) for value, full in pairs]
        lines.append(table_row(TITLES[row], cells))
    for key, sweep in result["sweeps"].items():
        lines += ["", *_sweep(key, sweep)]
    if result["whole"]:
        lines += ["", *_whole(result["whole"])]
    return "\n".join(lines) + "\n"


def _sweep(key: str, sweep: Mapping[str, Any]) -> list[str]:
    symbol = {"gamma": "γ", "theta": "θ"}[key]
    lines = [
        f"{symbol} (the preset has {sweep['full']:g}), seeds {', '.join(map(str, sweep['seeds']))}:",
        "",
        table_header(symbol, ("BLEU_4", "difference", "ROUGE_L", "micro_F1_14", "difference")),
    ]
    named = {name: float(sweep["full"] if name == FULL else name) for name in sweep["values"]}
    for name, value in sorted(named.items(), key=lambda item: item[1]):
        scores, cells = sweep["values"][name], []
        for metric, compared in (("BLEU_4", True), ("ROUGE_L", False), ("micro_F1_14", True)):
            cells.append(spread(scores[metric]))
            if compared:
                cells.append("–" if name == FULL else _difference(sweep["against_full"][name][metric]))
        lines.append(table_row(f"{value:g}", cells))
    return [*lines, "", f"The paper: {PAPER_SWEEPS[key]}."]


def _whole(result: Mapping[str, Any]) -> list[str]:
    full, other = result["rows"].values()
    lines = [
        "### With the preset's own length",
        "",
        f"{result['steps']:,} steps; 95 % intervals over the test studies; bold: a whole one is above the floor.",
        "",
        table_header("", GOALS),
    ]
    by_seed = zip(result["seeds"], result["intervals"], result["best_floors"], strict=True)
    for place, (seed, intervals, floors) in enumerate(by_seed):
        cells = []
        for metric in GOALS:
            low, high = intervals[metric]
            mark = "**" * (low > floors[metric])
            cells.append(f"{mark}{full[metric]['seeds'][place]:.3f}{mark} [{low:.3f}, {high:.3f}]")
        lines.append(table_row(f"XProNet, seed {seed}", cells))
        lines.append(table_row("*its best floor*", [f"{floors[metric]:.3f}" for metric in GOALS]))
        lines.append(table_row("w/o CMPNet", [f"{other[metric]['seeds'][place]:.3f}" for metric in GOALS]))
    (found,) = result["against_full"].values()
    lines.append(table_row("w/o CMPNet − XProNet", [_difference(found[metric]) for metric in GOALS]))
    return lines


def _difference(found: Mapping[str, Any]) -> str:
    text = f"{found['mean']:+.3f}"
    if found["p_seeds"] is None:
        return f"{text}; {found['p_studies_holm']:.4f}"
    by_seed = ", ".join(f"{value:+.3f}" for value in found["seeds"])
    p_seeds = f"{found['p_seeds']:.2f}" if found["p_seeds"] >= 0.005 else "< 0.01"
    return f"{text} ({by_seed}); {found['p_studies_holm']:.4f} / {p_seeds}"
