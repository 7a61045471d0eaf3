"""Train split's labels -> a classifier of images, and its labels for the studies of validation and test (row 20)."""

import numpy as np

from stages.stage import read, run
from xpronet.data.dataset import StudyDataset, image_positions
from xpronet.data.devices import choose
from xpronet.data.files import write_json
from xpronet.data.images import ImagePack
from xpronet.data.params import Count, RuntimeParams, Strict
from xpronet.data.studies import read_annotation
from xpronet.labels import classifier
from xpronet.labels.calibration import quality
from xpronet.labels.params import ClassifierParams
from xpronet.labels.table import read_labels, write_labels


class Params(Strict):
    seed: Count
    classifier: ClassifierParams
    runtime: RuntimeParams


def main() -> None:
    params = read(Params)
    settings = {"device": choose(params.runtime.device), "workers": params.runtime.workers}
    studies = read_annotation("data/prepared/annotation.json")
    pack = ImagePack("data/prepared/images.u8", "data/prepared/images.jsonl")
    labels, images = read_labels("data/labels.csv", studies), image_positions(studies)

    def dataset(*splits: str, **options) -> tuple[list, StudyDataset]:
        rows = [row for row, study in enumerate(studies) if study.split in splits]
        return rows, StudyDataset(pack, [images[row] for row in rows], labels=labels[rows], seed=params.seed, **options)

    fitted = classifier.fit(
        dataset("train", augment=True)[1], dataset("val")[1], params.classifier, seed=params.seed, **settings
    )
    classifier.save("data/classifier", fitted)
    rows, unlabelled = dataset("val", "test")
    probabilities = classifier.predict(fitted.classifier, unlabelled, precision=params.classifier.precision, **settings)
    chosen = [studies[row] for row in rows]
    write_labels("data/predicted_probabilities.csv", chosen, probabilities)
    decided = classifier.decide(probabilities, fitted.thresholds)
    write_labels("data/predicted_labels.csv", chosen, decided)
    val = np.array([study.split == "val" for study in chosen])
    found = quality(labels[rows][val], probabilities[val], decided[val])
    write_json("metrics/classifier.json", {"val": found, "epochs": fitted.history})


if __name__ == "__main__":
    run(main)
