"""Predictions -> metrics/{val,test}.json and data/scores: scores under three kinds of labels, floors (Tables 1, 2)."""

import json
import logging

from stages.stage import read, run
from xpronet.data.devices import choose
from xpronet.data.files import write_json
from xpronet.data.params import Count, ReportParams, RuntimeParams, Strict
from xpronet.data.reports import Vocabulary, as_published, cleaned_reports
from xpronet.data.studies import SPLITS, of_split, read_annotation
from xpronet.evaluation import lexical, statistics
from xpronet.evaluation.floors import best_constant
from xpronet.evaluation.meteor import running_meteor
from xpronet.evaluation.summary import summarise
from xpronet.labels import labeller
from xpronet.labels.classifier import auroc, macro_auroc
from xpronet.labels.conditions import pseudo_labels
from xpronet.labels.params import LabelParams
from xpronet.labels.table import read_labels

SOURCES = ("predicted", "reference", "none")  # of the labels that the prototypes were chosen by


class Params(Strict):
    seed: Count
    reports: ReportParams
    labels: LabelParams
    runtime: RuntimeParams


def main() -> None:
    params = read(Params)
    studies = read_annotation("data/prepared/annotation.json")
    splits = {split: of_split(studies, split) for split in SPLITS}
    reports = {
        split: cleaned_reports([study.report for study in chosen], params.reports.style, params.reports.xxxx)
        for split, chosen in splits.items()
    }
    constant = best_constant(reports["train"], reports["val"])
    vocabulary = Vocabulary.build(reports["train"], params.reports.min_count)
    name, classes = labeller.load(params.labels, device=choose(params.runtime.device))
    with running_meteor() as meteor:
        for split in ("val", "test"):
            chosen, references = splits[split], reports[split]
            labels = read_labels("data/labels.csv", chosen)
            probabilities = read_labels("data/predicted_probabilities.csv", chosen)
            generated = predictions(split)
            written = {source: [generated[study.id][source]["report"] for study in chosen] for source in SOURCES}
            scores, details = summarise(
                references,
                written,
                floors={"constant": [constant] * len(chosen)},
                groups=statistics.groups_of(labels, references, set(reports["train"])),
                label=lambda texts: pseudo_labels(classes(texts), uncertain=params.labels.uncertain),
                meteor=meteor,
                seed=params.seed,
            )
            for source in SOURCES:
                if scores[source]["collapsed"]:
                    different = scores[source]["distinct_reports"]
                    logging.warning("%s, labels %s: %d different reports: collapsed", split, source, different)
            cut = [as_published(report, vocabulary, params.reports.max_length) for report in references]
            protocol = {source: lexical.score(cut, written[source], meteor=meteor) for source in SOURCES}
            classifier = {"macro_AUROC": macro_auroc(labels, probabilities), "AUROC": auroc(labels, probabilities)}
            head = {"studies": len(chosen), "protocol": "full", "labeller": name}
            write_json(
                f"metrics/{split}.json", {**head, **scores, "published_protocol": protocol, "classifier": classifier}
            )
            write_json(f"data/scores/{split}.json", {**head, **details})


def predictions(split: str) -> dict[str, dict]:
    with open(f"data/predictions/{split}.jsonl", encoding="utf-8") as file:
        return {record["id"]: record for record in map(json.loads, file)}


if __name__ == "__main__":
    run(main)
