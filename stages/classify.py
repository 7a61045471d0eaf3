"""Train split's labels -> a classifier of images, and its labels for the studies of validation and test (row 20)."""

from contextlib import nullcontext

import numpy as np
import torch

from stages.resume import states
from stages.stage import run, shared
from xpronet.classifier import network
from xpronet.classifier.calibration import quality
from xpronet.classifier.fit import fit
from xpronet.classifier.params import ClassifierParams
from xpronet.classifier.thresholds import decide
from xpronet.common.files import write_json
from xpronet.common.params import RuntimeParams, Seed, Strict, read
from xpronet.common.processes import Group
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import ImagePack
from xpronet.data.studies import of_split, read_annotation
from xpronet.encoders.params import refuse_lone_study
from xpronet.labels.table import read_labels, write_labels


class Params(Strict):
    seed: Seed
    classifier: ClassifierParams
    runtime: RuntimeParams


def main() -> str:
    return shared(read(Params), work)


def work(params: Params, device: torch.device, group: Group) -> str:
    """The stage, as one of the processes that share it."""
    runtime = params.runtime
    settings = {"device": device, "workers": runtime.workers, "batch_size": runtime.batch_size, "group": group}
    studies = read_annotation("data/prepared/annotation.json")
    pack = ImagePack.of("data/prepared")
    splits = {split: of_split(studies, split) for split in ("train", "val")}
    refuse_lone_study(
        len(splits["train"]),
        batch_size=params.classifier.batch_size,
        crop=pack.crop,
        key="classifier.batch_size",
    )
    labels = {split: read_labels("data/labels.csv", chosen) for split, chosen in splits.items()}
    chosen = of_split(studies, "val", "test")

    with states("classify", params, device) if group.first else nullcontext() as saved:
        fitted = fit(
            StudyDataset.of(splits["train"], studies, pack, labels=labels["train"], augment=True, seed=params.seed),
            StudyDataset.of(splits["val"], studies, pack, labels=labels["val"]),
            params.classifier,
            seed=params.seed,
            states=saved,
            **settings,
        )
        unlabelled = StudyDataset.of(chosen, studies, pack)
        probabilities = network.predict(
            fitted.classifier, unlabelled, precision=params.classifier.precision, **settings
        )
        if not group.first:
            return ""  # the first process says it
        network.save("data/classifier", fitted.classifier, fitted.thresholds)
        write_labels("data/predicted_probabilities.csv", chosen, probabilities)
        decided = decide(probabilities, fitted.thresholds)
        write_labels("data/predicted_labels.csv", chosen, decided)
        val = np.array([study.split == "val" for study in chosen])
        found = quality(labels["val"], probabilities[val], decided[val])
        write_json("metrics/classifier.json", {name: found[name] for name in ("macro_AUROC", "macro_F1", "macro_ECE")})
        write_json("metrics/details/classifier.json", {"val": found, "epochs": fitted.history})
        saved.finish()
    return f"labels predicted for {len(chosen):,} studies; macro AUROC {found['macro_AUROC']:.3f} on validation"


if __name__ == "__main__":
    run(main, together=True)
