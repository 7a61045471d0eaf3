"""Predictions -> metrics/{val,test}.json: scores under both kinds of labels, and the floors (§4, Tables 1 and 2)."""

import json

from stages.stage import Part, read, run
from xpronet.data.files import write_json
from xpronet.data.params import Strict
from xpronet.data.reports import Style, clean_report
from xpronet.data.studies import of_split, read_annotation
from xpronet.evaluation import lexical
from xpronet.evaluation.floors import best_constant
from xpronet.evaluation.meteor import running_meteor
from xpronet.evaluation.params import EvaluateParams
from xpronet.labels.classifier import auroc, macro_auroc
from xpronet.labels.table import read_labels


class Cleaning(Part):
    style: Style


class Params(Strict):
    reports: Cleaning
    evaluate: EvaluateParams


def main() -> None:
    params = read(Params)
    studies = read_annotation("data/prepared/annotation.json")
    reports = {
        split: [clean_report(study.report, params.reports.style) for study in of_split(studies, split)]
        for split in ("train", "val", "test")
    }
    constant = best_constant(reports["train"], reports["val"], limit=params.evaluate.constant_candidates)
    with running_meteor() as meteor:
        for split in ("val", "test"):
            chosen, references = of_split(studies, split), reports[split]
            with open(f"data/predictions/{split}.jsonl", encoding="utf-8") as file:
                predictions = {record["id"]: record for record in map(json.loads, file)}
            metrics = {}
            for source in ("predicted", "reference"):
                hypotheses = [predictions[study.id][source]["report"] for study in chosen]
                metrics[source] = lexical.score(references, hypotheses, meteor=meteor)
                metrics[source]["distinct_reports"] = len(set(hypotheses))
            metrics["floors"] = {"constant": lexical.score(references, [constant] * len(references), meteor=meteor)}
            labels = read_labels("data/labels.csv", chosen)
            probabilities = read_labels("data/predicted_probabilities.csv", chosen)
            metrics["classifier"] = {
                "macro_AUROC": macro_auroc(labels, probabilities),
                "AUROC": auroc(labels, probabilities),
            }
            metrics["studies"] = len(chosen)
            write_json(f"metrics/{split}.json", metrics)


if __name__ == "__main__":
    run(main)
