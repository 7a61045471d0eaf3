"""Predictions -> metrics/{val,test}.json: scores under both kinds of labels, and the floors (§4, Tables 1 and 2)."""

import json
from collections.abc import Callable
from functools import partial
from typing import Literal

from stages.stage import Part, read, run
from xpronet.data.files import write_json
from xpronet.data.params import Strict
from xpronet.data.reports import Style, clean_report, without_marks
from xpronet.data.studies import SPLITS, Study, of_split, read_annotation
from xpronet.evaluation import lexical
from xpronet.evaluation.floors import best_constant
from xpronet.evaluation.meteor import running_meteor
from xpronet.labels.classifier import auroc, macro_auroc
from xpronet.labels.table import read_labels


class Cleaning(Part):
    style: Style
    xxxx: Literal["keep", "drop", "unk"]


class Params(Strict):
    reports: Cleaning


def main() -> None:
    params = read(Params)
    studies = read_annotation("data/prepared/annotation.json")
    splits = {split: of_split(studies, split) for split in SPLITS}
    reports = {
        split: [
            without_marks(clean_report(study.report, params.reports.style), params.reports.xxxx) for study in chosen
        ]
        for split, chosen in splits.items()
    }
    constant = best_constant(reports["train"], reports["val"])
    with running_meteor() as meteor:
        for split in ("val", "test"):
            score = partial(lexical.score, reports[split], meteor=meteor)
            write_json(f"metrics/{split}.json", evaluate(splits[split], predictions(split), constant, score))


def predictions(split: str) -> dict[str, dict]:
    with open(f"data/predictions/{split}.jsonl", encoding="utf-8") as file:
        return {record["id"]: record for record in map(json.loads, file)}


def evaluate(studies: list[Study], predicted: dict[str, dict], constant: str, score: Callable) -> dict:
    metrics: dict = {"studies": len(studies)}
    for source in ("predicted", "reference"):
        hypotheses = [predicted[study.id][source]["report"] for study in studies]
        metrics[source] = {**score(hypotheses), "distinct_reports": len(set(hypotheses))}
    metrics["floors"] = {"constant": score([constant] * len(studies))}
    labels = read_labels("data/labels.csv", studies)
    probabilities = read_labels("data/predicted_probabilities.csv", studies)
    metrics["classifier"] = {"macro_AUROC": macro_auroc(labels, probabilities), "AUROC": auroc(labels, probabilities)}
    return metrics


if __name__ == "__main__":
    run(main)
