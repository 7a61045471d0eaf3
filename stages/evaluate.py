"""Predictions -> metrics/{val,test}.json: scores under three kinds of labels, intervals, floors (Tables 1, 2)."""

import json
import logging
from collections.abc import Callable, Sequence

import numpy as np

from stages.stage import read, run
from xpronet.data.files import write_json
from xpronet.data.params import Count, ReportParams, Strict
from xpronet.data.reports import Vocabulary, clean_report, without_marks
from xpronet.data.studies import SPLITS, Study, of_split, read_annotation
from xpronet.evaluation import lexical, statistics
from xpronet.evaluation.diversity import diversity
from xpronet.evaluation.floors import best_constant
from xpronet.evaluation.meteor import Meteor, running_meteor
from xpronet.labels import rules
from xpronet.labels.chexbert import CheXbert
from xpronet.labels.classifier import auroc, macro_auroc
from xpronet.labels.conditions import pseudo_labels
from xpronet.labels.params import LabelParams
from xpronet.labels.table import read_labels

SOURCES = ("predicted", "reference", "none")  # of the labels that the prototypes were chosen by


class Params(Strict):
    seed: Count
    reports: ReportParams
    labels: LabelParams


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
    vocabulary = Vocabulary.build(reports["train"], params.reports.min_count)
    name, label = labeller(params.labels)
    with running_meteor() as meteor:
        for split in ("val", "test"):
            scorer = Scorer(reports[split], label, meteor, params.seed)
            metrics = {"studies": len(splits[split]), "protocol": "full", "labeller": name}
            metrics |= evaluate(splits[split], reports[split], set(reports["train"]), constant, scorer)
            shortened = [published(report, vocabulary, params.reports.max_length) for report in reports[split]]
            found = predictions(split)
            metrics["published_protocol"] = {
                source: lexical.score(shortened, texts(found, splits[split], source), meteor=meteor)
                for source in SOURCES
            }
            write_json(f"metrics/{split}.json", metrics)


def labeller(params: LabelParams) -> tuple[str, Callable[[Sequence[str]], np.ndarray]]:
    """Name, and reports -> labels (N, 14): CheXbert where labels come from it, else the rules."""
    if params.labeller == "chexbert":
        classes = CheXbert.from_checkpoint(params.chexbert_path).label
    else:
        classes = rules.label
    name = "chexbert" if params.labeller == "chexbert" else "rules"
    return name, lambda reports: pseudo_labels(classes(reports), uncertain=params.uncertain)


def published(report: str, vocabulary: Vocabulary, max_length: int) -> str:
    """A reference as the published code scores it: cut, with `<unk>` (row 23)."""
    return vocabulary.decode(vocabulary.encode(report)[1:max_length])


def predictions(split: str) -> dict[str, dict]:
    with open(f"data/predictions/{split}.jsonl", encoding="utf-8") as file:
        return {record["id"]: record for record in map(json.loads, file)}


def texts(found: dict[str, dict], studies: list[Study], source: str) -> list[str]:
    return [found[study.id][source]["report"] for study in studies]


class Scorer:
    """Tables of hypotheses against one split's references."""

    def __init__(self, references: list[str], label: Callable, meteor: Meteor, seed: int):
        self.references, self.label, self.meteor, self.seed = references, label, meteor, seed
        self.labels = label(references)

    def table(self, hypotheses: list[str]) -> statistics.Table:
        return statistics.table(self.references, hypotheses, self.labels, self.label(hypotheses), meteor=self.meteor)


def evaluate(
    studies: list[Study], references: list[str], trained: set[str], constant: str, scorer: Scorer
) -> dict[str, dict]:
    found, metrics = predictions(studies[0].split), {}
    groups = statistics.groups_of(read_labels("data/labels.csv", studies), references, trained)
    for source in SOURCES:
        written = texts(found, studies, source)
        table = scorer.table(written)
        metrics[source] = {
            **statistics.of_all(table),
            **diversity(references, written, seed=scorer.seed),
            "intervals": statistics.intervals(table, seed=scorer.seed),
            "clinical": statistics.clinical(table),
        }
        if source == "predicted":
            metrics["strata"] = statistics.strata(table, groups)
        if metrics[source]["collapsed"]:
            logging.warning(
                "%s, labels %s: only %d different reports for %d studies: the model has collapsed",
                studies[0].split,
                source,
                metrics[source]["distinct_reports"],
                len(studies),
            )
    one = statistics.of_all(scorer.table([constant] * len(studies)))
    metrics["leak_delta"] = {name: metrics["reference"][name] - metrics["predicted"][name] for name in one}
    metrics["floors"] = {"constant": one}
    labels = read_labels("data/labels.csv", studies)
    probabilities = read_labels("data/predicted_probabilities.csv", studies)
    metrics["classifier"] = {"macro_AUROC": macro_auroc(labels, probabilities), "AUROC": auroc(labels, probabilities)}
    return metrics


if __name__ == "__main__":
    run(main)
