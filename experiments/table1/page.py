"""Table 1 in Markdown and as a picture, beside the paper's numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.floors import FLOORS, draw_floors
from experiments.markdown import spread, table_header, table_row
from experiments.results import SHOWN
from xpronet.figures.drawing import BLACK, BLUE, SKY, picture

TITLES = {
    "st": "ST",
    "att2in": "ATT2IN",
    "adaatt": "ADAATT",
    "topdown": "TopDown",
    "sentsat_kg": "SentSAT+KG",
    "hrgr": "HRGR (first phase)",
    "hrgr-rl": "HRGR",
    "coat": "CoAT",
    "cmas_rl": "CMAS-IL",
    "cmas-rl": "CMAS-RL",
    "kerp": "KERP-style",
    "ratchet": "RATCHET",
    "r2gencmn": "R2GenCMN",
    "xpronet": "XProNet",
}
NOTES = {
    "sentsat_kg": "SentSAT+KG's ROUGE_L is the paper's CIDEr once more, as it stands there.",
    "kerp": "KERP-style is not KERP: of that paper the method could not be read (docs/systems.md).",
}
# BLEU-1, BLEU-4, ROUGE-L, METEOR of the paper's Table 1; CIDEr stands there for some of IU-Xray's rows only.
PAPER = {
    "IU-Xray": {
        "st": (0.216, 0.066, 0.306, None),
        "adaatt": (0.220, 0.068, 0.308, None),
        "att2in": (0.224, 0.068, 0.308, None),
        "cmas-rl": (0.464, 0.154, 0.362, None),
        "sentsat_kg": (0.441, 0.147, 0.304, None),  # of which ROUGE_L repeats the paper's CIDEr
        "hrgr-rl": (0.438, 0.151, 0.322, None),
        "coat": (0.455, 0.154, 0.369, None),
        "kerp": (0.482, 0.162, 0.339, None),
        "r2gencmn": (0.474, 0.168, 0.370, 0.198),
        "xpronet": (0.525, 0.199, 0.411, 0.220),
    },
    "MIMIC-CXR": {
        "ratchet": (0.232, None, 0.240, 0.101),
        "st": (0.299, 0.084, 0.263, 0.124),
        "adaatt": (0.299, 0.088, 0.266, 0.118),
        "att2in": (0.325, 0.096, 0.276, 0.134),
        "topdown": (0.317, 0.092, 0.267, 0.128),
        "r2gencmn": (0.354, 0.097, 0.271, 0.137),
        "xpronet": (0.344, 0.105, 0.279, 0.138),
    },
}
PUBLISHED = ("BLEU_1", "BLEU_4", "ROUGE_L", "METEOR")
TESTED = ("BLEU_4", "CIDEr", "micro_F1_14", "macro_F1_14")


def tables(result: Mapping[str, Any]) -> str:
    """The study in Markdown."""
    systems = {name: result["systems"][name] for name in TITLES if name in result["systems"]}
    seeds = ", ".join(map(str, result["seeds"]))
    lines = [
        f"Phantom, test split, {result['studies']} studies; seeds of training: {seeds}; {result['steps']:,} steps each,"
        f" and of HRGR and CMAS-RL {result['rewarded_steps']:,} by rewards after them. Predicted labels; F1 by labeller"
        f" `{result['labeller']}`. Mean ± standard deviation over the seeds, and the 95 % interval over other test"
        " studies of BLEU_4 and micro F1.",
        "",
        table_header("", (*SHOWN, "interval of BLEU_4", "interval of micro F1")),
    ]
    for name, found in systems.items():
        ends = [f"{low:.3f}–{high:.3f}" for low, high in (found["intervals"][m] for m in ("BLEU_4", "micro_F1_14"))]
        lines.append(table_row(TITLES[name], [*(spread(found["scores"][metric]) for metric in SHOWN), *ends]))
    for floor, scores in result["floors"].items():
        lines.append(table_row(f"*{FLOORS[floor]}* (floor)", [*(spread(scores[metric]) for metric in SHOWN), "–", "–"]))
    columns = ("weights beside the extractor's", "a step", "different reports", "same side", "BLEU_4 with findings")
    lines += ["", table_header("", columns)]
    for name, found in systems.items():
        looks = found["looks"]
        seconds = found["seconds_per_step"]
        cells = [f"{found['parameters'] / 1e6:.2f} M", "–" if seconds is None else f"{1000 * seconds:.0f} ms"]
        cells += [", ".join(f"{count:g}" for count in looks["distinct_reports"]["seeds"])]
        cells += [spread(looks[look]) for look in ("same_side", "with_findings BLEU_4")]
        lines.append(table_row(TITLES[name], cells))
    lines += ["", "Differences from XProNet; *p* over the studies, with Holm's correction for the rows:", ""]
    lines.append(table_header("", TESTED))
    for name, found in systems.items():
        if found["against_xpronet"]:
            each = [found["against_xpronet"][metric] for metric in TESTED]
            lines.append(table_row(TITLES[name], [f"{it['mean']:+.3f}; {it['p_studies_holm']:.4f}" for it in each]))
    lines += ["", "The paper's, under labels of the test reports, one run each:", ""]
    lines.append(table_header("", [f"{metric}, {dataset}" for dataset in PAPER for metric in PUBLISHED]))
    for name in systems:
        cells = [PAPER[dataset].get(name, (None,) * len(PUBLISHED)) for dataset in PAPER]
        lines.append(table_row(TITLES[name], ["–" if v is None else f"{v:.3f}" for values in cells for v in values]))
    lines += ["", *(f"- {NOTES[name]}" for name in systems if name in NOTES)]
    beaten = [TITLES[name] for name, found in systems.items() if not above_floors(found, result["floors"])]
    told = (
        f"Not above every floor by BLEU_4 and micro F1: {', '.join(beaten)}."
        if beaten
        else "All are above every floor."
    )
    return "\n".join([*lines, "", told]) + "\n"


def above_floors(found: Mapping[str, Any], floors: Mapping[str, Any]) -> bool:
    """By the means of BLEU_4 and of micro F1."""
    return all(
        found["scores"][metric]["mean"] > floor[metric]["mean"]
        for floor in floors.values()
        for metric in ("BLEU_4", "micro_F1_14")
    )


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """BLEU-4 and micro F1 of each system with its interval over studies, seeds as dots, floors as lines: .png, .svg."""
    systems = [name for name in TITLES if name in result["systems"]]
    with picture(path, 10, 1.6 + 0.45 * len(systems)) as figure:
        panels = figure.subplots(1, 2)
        for axes, (metric, name) in zip(panels, {"BLEU_4": "BLEU-4", "micro_F1_14": "micro F1"}.items(), strict=True):
            found = [result["systems"][system] for system in systems]
            axes.barh(range(len(found)), [each["scores"][metric]["mean"] for each in found], 0.6, color=SKY)
            for y, each in enumerate(found):
                axes.hlines(y, *each["intervals"][metric], color=BLACK, linewidth=1)
                seeds = each["scores"][metric]["seeds"]
                axes.scatter(seeds, [y] * len(seeds), s=14, color=BLUE, zorder=3)
            draw_floors(axes, result["floors"], metric)
            axes.set_yticks(range(len(systems)), [TITLES[system] for system in systems])
            axes.invert_yaxis()
            axes.set_title(name, loc="left")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=9)
        head = (
            f"Table 1 on the phantom, {result['steps']:,} steps each (HRGR and CMAS-RL {result['rewarded_steps']:,} by"
            " rewards after them)\nMeans, 95 % intervals over studies, seeds (dots)"
        )
        figure.suptitle(head, x=0.01, ha="left")
