"""What the pipeline made -> pictures: labels, classifier, prototypes and reports (Figures 2 and 4), PNG and SVG.

Those of prototypes are in a folder of their own: a model without prototypes has none, and another's has fewer.
"""

import csv
import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from stages.stage import run
from xpronet.common.devices import choose
from xpronet.common.files import json_lines, read_text, write_json
from xpronet.common.params import Part, PathName, RuntimeParams, Strict, read
from xpronet.common.resumable import read_array
from xpronet.common.threads import take
from xpronet.common.weights import read_weights
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import ImagePack
from xpronet.data.params import ReportParams
from xpronet.data.reports import truncate
from xpronet.data.studies import Study, of_split, read_annotation
from xpronet.figures import classifier, health, labels, prototypes, reports
from xpronet.labels.table import read_labels
from xpronet.model import checkpoint
from xpronet.training.params import FRESH, TRAINED

FOLDER = "metrics/figures"


class Start(Part):
    start: PathName
    start_prototypes: Literal["folder", "own"]


class Params(Strict):
    model_folder: PathName
    reports: ReportParams
    train: Start
    runtime: RuntimeParams

    @property
    def own_prototypes(self) -> bool:
        """Whether those of the model began as data/prototypes.safetensors."""
        return self.model_folder == TRAINED and (self.train.start == FRESH or self.train.start_prototypes == "own")


def main() -> str:
    params = read(Params)
    take(params.runtime.threads)
    studies = read_annotation("data/prepared/annotation.json")
    train, val, test = (of_split(studies, split) for split in ("train", "val", "test"))
    own = {split: read_labels("data/labels.csv", chosen) for split, chosen in (("train", train), ("test", test))}
    labels.observations(f"{FOLDER}/labels", own["train"], split="train")
    splits = {
        split: (read_labels("data/labels.csv", chosen), read_labels("data/predicted_probabilities.csv", chosen))
        for split, chosen in (("val", val), ("test", test))
    }
    for split, found in splits.items():
        classifier.reliability_diagrams(f"{FOLDER}/predicted_reliability_{split}", *found, split=split)
    classifier.roc_curves(f"{FOLDER}/predicted_roc", splits)
    draw_reports(test, own["test"], params.reports)
    found, matrices = examine_prototypes(params, studies, train, own["train"])
    if found:
        prototypes.prototype_map(f"{FOLDER}/prototype_map", matrices)
        prototypes.health(f"{FOLDER}/prototype_use", found)
    else:
        prototypes.none(f"{FOLDER}/prototype_map", params.model_folder)
        prototypes.none(f"{FOLDER}/prototype_use", params.model_folder)
    write_json("metrics/details/prototype_health.json", found)
    return "pictures of labels, classifier and reports" + (", and of prototypes" if found else "")


def draw_reports(studies: Sequence[Study], own: np.ndarray, params: ReportParams) -> None:
    """A good, a middling and a poor report of the test split, under predicted labels."""
    with open("data/scores/test.tsv", newline="", encoding="utf-8") as file:
        scores = {row["id"]: float(row["ROUGE_L"]) for row in csv.DictReader(file, delimiter="\t")}
    path = "data/predictions/test.jsonl"
    written = {record["id"]: record["predicted"]["report"] for _, record in json_lines(read_text(path), path)}
    examples = []
    for row in reports.choose([scores[study.id] for study in studies], own):
        study = studies[row]
        (reference,) = params.clean([study.report])
        head = f"{study.id}, ROUGE-L {scores[study.id]:.2f}: {reports.names(own[row])}"
        examples.append(reports.Example(head, reference, [written[study.id]]))
    title = f"Test {reports.kind(own)}, from a good report to a poor one by ROUGE-L. Blue: words that both share"
    reports.side_by_side(f"{FOLDER}/reports", title, ["written, under predicted labels"], examples)


def examine_prototypes(
    params: Params, studies: Sequence[Study], train: Sequence[Study], own: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is known of the model's prototypes, and the matrices to draw; two empty ones where it has none."""
    runtime, device = params.runtime, choose(params.runtime.device)
    model, card = checkpoint.load(params.model_folder)
    if not model.has_prototypes:
        logging.info("%s has no prototypes of observations: their pictures are empty", params.model_folder)
        return {}, {}
    pack = ImagePack.of("data/prepared")
    card.check_data(crop=pack.crop, style=params.reports.style)
    val = of_split(studies, "val")
    texts = params.reports.clean(study.report for study in val)
    dataset = StudyDataset.of(
        val,
        studies,
        pack,
        tokens=[truncate(card.vocabulary.encode(text), params.reports.max_length) for text in texts],
        labels=read_labels("data/predicted_labels.csv", val),
    )
    uses = health.count_uses(
        model.to(device), dataset, batch_size=runtime.batch_size, device=device, workers=runtime.workers
    )
    of_model = model.prototypes, model.prototype_projection(model.prototypes)
    after, asked = (each.detach().cpu().numpy() for each in of_model)
    known: dict[str, Any] = {"train": train, "labels": own}
    matrices = {}
    if params.own_prototypes:
        before = read_weights("data/prototypes.safetensors")["prototypes"].flatten(0, 1).numpy()
        known["moved"] = health.drift(before, after)
        matrices["before training"] = before
        visual, textual = (
            read_array(f"data/features/{name}.npy", rows=len(train), stage="features") for name in ("visual", "textual")
        )
        if visual.shape[1] + textual.shape[1] == after.shape[1]:
            known["nearest"] = health.nearest_studies(after, visual, textual)
        else:
            logging.info("prototypes are not of the features' width: no nearest train studies")
    else:
        logging.info(
            "the prototypes of %s did not begin here: neither the first ones nor their drift", params.model_folder
        )
    matrices |= {"after training": after, "as they are queried (Eq. 8)": asked}
    per = model.config.n_prototypes
    found = health.describe(uses, gamma=model.config.gamma, studies=len(val), **known)
    return found, {name: matrix.reshape(-1, per, matrix.shape[1]) for name, matrix in matrices.items()}


if __name__ == "__main__":
    run(main)
