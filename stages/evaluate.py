"""Predictions -> metrics: scores under three kinds of labels beside floors and intervals (Tables 1, 2).

`metrics/{val,test}.json` has the few that runs are compared by, `metrics/details/` all, `data/scores/` some per study.
"""

import csv
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from stages.stage import run
from xpronet.classifier.calibration import quality
from xpronet.common.files import json_lines, keyed, read_text, replacing, write_json
from xpronet.common.params import RuntimeParams, Strict, read
from xpronet.common.resumable import forget_unfinished
from xpronet.common.threads import take
from xpronet.data.params import ReportParams
from xpronet.data.reports import Vocabulary, as_published
from xpronet.data.studies import SPLITS, Study, of_split, read_annotation
from xpronet.evaluation import extras, floors, lexical, statistics
from xpronet.evaluation.meteor import running_meteor
from xpronet.evaluation.params import EvaluateParams
from xpronet.evaluation.summary import compared, summarise
from xpronet.labels import labeller
from xpronet.labels.conditions import pseudo_labels, true_labels
from xpronet.labels.params import LabelParams
from xpronet.labels.table import read_labels

SOURCES = ("predicted", "reference", "none")  # of the labels that the prototypes were chosen by


class Params(Strict):
    reports: ReportParams
    labels: LabelParams
    evaluate: EvaluateParams
    runtime: RuntimeParams


def main() -> str:
    params = read(Params)
    take(params.runtime.threads)
    studies = read_annotation("data/prepared/annotation.json")
    splits = {split: of_split(studies, split) for split in SPLITS}
    reports = {split: params.reports.clean(study.report for study in chosen) for split, chosen in splits.items()}
    vocabulary = Vocabulary.build(reports["train"], params.reports.min_count)
    name, classes = labeller.load(params.labels, device=params.runtime.device)
    more = extras.load(params.evaluate, device=params.runtime.device)
    look_up = floors.of_folder("data", studies, reports)

    def label(texts: Sequence[str]) -> np.ndarray:
        return pseudo_labels(classes(texts), uncertain=params.labels.uncertain)

    with running_meteor() as meteor:
        for split in ("val", "test"):
            chosen, references = splits[split], reports[split]
            labels, predicted, probabilities = (
                read_labels(f"data/{file}.csv", chosen)
                for file in ("labels", "predicted_labels", "predicted_probabilities")
            )
            drawn = true_labels([study.state for study in chosen])
            generated = predictions(split, chosen)
            written = {source: [generated[study.id][source]["report"] for study in chosen] for source in SOURCES}
            scores, table = summarise(
                references,
                written,
                floors=look_up(split, predicted),
                groups=statistics.groups_of(labels, references, set(reports["train"])),
                label=label,
                truth=("data/labels.csv", labels) if drawn is None else ("the drawn state", drawn),
                meteor=meteor,
                extras=more,
            )
            tokens = sum(generated[study.id]["own_tokens"] for study in chosen)
            for source in SOURCES:
                own = sum(generated[study.id][source]["own_log_prob"] for study in chosen)
                scores[source]["cross_entropy"] = -own / tokens
                if scores[source]["collapsed"]:
                    different = scores[source]["distinct_reports"]
                    logging.warning("%s, labels %s: %d different reports: collapsed", split, source, different)
            cut = [as_published(report, vocabulary, params.reports.max_length) for report in references]
            published = {source: lexical.score(cut, written[source], meteor=meteor) for source in SOURCES}
            details = {
                "studies": len(chosen),
                "protocol": "full",
                "labeller": name,
                **scores,
                "published_protocol": published,
                "classifier": quality(labels, probabilities, predicted),
            }
            few = compared(scores)
            write_json(f"metrics/{split}.json", few)
            write_json(f"metrics/details/{split}.json", details)
            write_per_study(f"data/scores/{split}.tsv", chosen, table)
    forget_unfinished("data")
    shown = (f"{name} {few[name]:.3f} (best floor {few[f'floor_{name}']:.3f})" for name in ("BLEU_4", "micro_F1_14"))
    return f"{len(chosen):,} test studies: {', '.join(shown)}"


def predictions(split: str, studies: Sequence[Study]) -> dict[str, dict]:
    path, again = f"data/predictions/{split}.jsonl", "`dvc repro generate` makes it again"

    def records() -> Iterator[tuple[int, str, dict]]:
        for line, record in json_lines(read_text(path), path):
            if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                raise ValueError(f"{path}: line {line}: not a study with an id")
            yield line, record["id"], record

    try:
        found = keyed(path, records())
    except ValueError as error:
        raise ValueError(f"{error}; {again}") from None
    missing = [study.id for study in studies if study.id not in found]
    if missing:
        raise ValueError(f"{path}: no report for {len(missing)} of {len(studies)} studies, {missing[0]} first; {again}")
    wrong = [study.id for study in studies if not whole(found[study.id])]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]}: no reports under the three kinds of labels, with their numbers; {again}")
    return found


def whole(record: dict) -> bool:
    """Whether a study has what stage generate writes of it."""
    sources = [record.get(source) for source in SOURCES]
    return (
        type(record.get("own_tokens")) is int
        and record["own_tokens"] > 0
        and all(isinstance(source, dict) for source in sources)
        and all(isinstance(source.get("report"), str) for source in sources)
        and all(isinstance(source.get("own_log_prob"), int | float) for source in sources)
    )


def write_per_study(path: str, studies: Sequence[Study], table: statistics.Table) -> None:
    """A row per study with the scores that are means over studies."""
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["id", *table.names])
        writer.writerows(
            [study.id, *(f"{value:.6g}" for value in row)] for study, row in zip(studies, table.means, strict=True)
        )


if __name__ == "__main__":
    run(main)
