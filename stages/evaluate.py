"""Predictions -> metrics/{val,test}.json and data/scores: scores under three kinds of labels, floors (Tables 1, 2)."""

import json
import logging

import numpy as np

from stages.stage import read, run
from xpronet.data.devices import choose
from xpronet.data.files import write_json
from xpronet.data.params import Count, ReportParams, RuntimeParams, Strict
from xpronet.data.reports import Vocabulary, as_published, cleaned_reports
from xpronet.data.studies import SPLITS, of_split, read_annotation
from xpronet.evaluation import extras, floors, lexical, statistics
from xpronet.evaluation.meteor import running_meteor
from xpronet.evaluation.params import EvaluateParams
from xpronet.evaluation.summary import summarise
from xpronet.figures.reliability import reliability_diagrams
from xpronet.labels import labeller
from xpronet.labels.calibration import quality
from xpronet.labels.conditions import pseudo_labels, true_labels
from xpronet.labels.params import LabelParams
from xpronet.labels.table import read_labels

SOURCES = ("predicted", "reference", "none")  # of the labels that the prototypes were chosen by


class Params(Strict):
    seed: Count
    reports: ReportParams
    labels: LabelParams
    evaluate: EvaluateParams
    runtime: RuntimeParams


def main() -> None:
    params = read(Params)
    studies = read_annotation("data/prepared/annotation.json")
    splits = {split: of_split(studies, split) for split in SPLITS}
    reports = {
        split: cleaned_reports([study.report for study in chosen], params.reports.style, params.reports.xxxx)
        for split, chosen in splits.items()
    }
    train = reports["train"], read_labels("data/labels.csv", splits["train"])
    constant = floors.best_constant(reports["train"], reports["val"])
    train_features, held_out = (np.load(f"data/features/{name}.npy", mmap_mode="r") for name in ("visual", "held_out"))
    of_held_out = [study.split for study in studies if study.split != "train"]
    vocabulary = Vocabulary.build(reports["train"], params.reports.min_count)
    device = choose(params.runtime.device)
    name, classes = labeller.load(params.labels, device=device)
    more = extras.load(params.evaluate, device=device)

    def label(texts: list[str]) -> np.ndarray:
        return pseudo_labels(classes(texts), uncertain=params.labels.uncertain)

    with running_meteor() as meteor:
        for split in ("val", "test"):
            chosen, references = splits[split], reports[split]
            labels = read_labels("data/labels.csv", chosen)
            predicted = read_labels("data/predicted_labels.csv", chosen)
            features = held_out[np.array(of_held_out) == split]
            drawn = true_labels([study.state for study in chosen])
            generated = predictions(split)
            written = {source: [generated[study.id][source]["report"] for study in chosen] for source in SOURCES}
            scores, details = summarise(
                references,
                written,
                floors={
                    "constant": [constant] * len(chosen),
                    "label_constant": floors.label_constants(*train, predicted),
                    "label_neighbour": floors.label_neighbours(*train, predicted, seed=params.seed),
                    "image_neighbour": [train[0][row] for row in floors.image_neighbours(train_features, features)],
                },
                groups=statistics.groups_of(labels, references, set(reports["train"])),
                label=label,
                truth=("data/labels.csv", labels) if drawn is None else ("the drawn state", drawn),
                meteor=meteor,
                extras=more,
                seed=params.seed,
            )
            tokens = sum(generated[study.id]["own_tokens"] for study in chosen)
            for source in SOURCES:
                own = sum(generated[study.id][source]["own_log_prob"] for study in chosen)
                scores[source]["cross_entropy"] = -own / tokens
                if scores[source]["collapsed"]:
                    different = scores[source]["distinct_reports"]
                    logging.warning("%s, labels %s: %d different reports: collapsed", split, source, different)
            cut = [as_published(report, vocabulary, params.reports.max_length) for report in references]
            probabilities = read_labels("data/predicted_probabilities.csv", chosen)
            head = {"studies": len(chosen), "protocol": "full", "labeller": name}
            metrics = {
                **head,
                **scores,
                "published_protocol": {
                    source: lexical.score(cut, written[source], meteor=meteor) for source in SOURCES
                },
                "classifier": quality(labels, probabilities, predicted),
            }
            write_json(f"metrics/{split}.json", metrics)
            write_json(f"data/scores/{split}.json", {**head, **details})
            reliability_diagrams(f"metrics/figures/reliability_{split}.png", labels, probabilities, split=split)


def predictions(split: str) -> dict[str, dict]:
    with open(f"data/predictions/{split}.jsonl", encoding="utf-8") as file:
        return {record["id"]: record for record in map(json.loads, file)}


if __name__ == "__main__":
    run(main)
