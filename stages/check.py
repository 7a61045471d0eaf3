"""Validate the whole of params.yaml and find the raw data, before any work starts.

It depends on params.yaml alone, so that a typing error or a dataset that is not there ends the run with a clear line
instead of DVC's. What it writes changes only with the dataset.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import model_validator

from stages.stage import FILE, load_yaml, run, validate
from xpronet.data.files import raise_all, write_json
from xpronet.data.params import (
    Count,
    Dataset,
    ImageParams,
    MimicParams,
    OpenIParams,
    PhantomParams,
    ReportParams,
    RuntimeParams,
)
from xpronet.data.params import Path as PathParam
from xpronet.evaluation.params import EvaluateParams
from xpronet.labels.params import ClassifierParams, LabelParams
from xpronet.model.params import DecodeParams, ModelParams
from xpronet.prototypes.params import FeatureParams, PrototypeInit, published_files
from xpronet.training.params import Symbols, TrainParams


class Params(Symbols):
    dataset: Dataset
    source: PathParam
    seed: Count
    prototype_init: PrototypeInit
    phantom: PhantomParams
    openi: OpenIParams
    mimic: MimicParams
    images: ImageParams
    reports: ReportParams
    labels: LabelParams
    classifier: ClassifierParams
    features: FeatureParams
    model: ModelParams
    train: TrainParams
    decode: DecodeParams
    evaluate: EvaluateParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _fits_together(self):
        if self.gamma > self.n_prototypes:
            raise ValueError(
                f"gamma {self.gamma} must not exceed n_prototypes {self.n_prototypes}: "
                "a study with a single label has no more prototypes to answer it"
            )
        if self.features.flips == "separate" and self.n_prototypes % 2:
            raise ValueError(f"features.flips separate needs an even n_prototypes, not {self.n_prototypes}")
        if self.model.visual_weights == "classifier" and self.classifier.backbone != self.model.backbone:
            raise ValueError(
                f"model.visual_weights classifier needs model.backbone {self.model.backbone} to be "
                f"classifier.backbone {self.classifier.backbone}"
            )
        if self.features.text_encoder == "chexbert" and self.labels.chexbert_path is None:
            raise ValueError("features.text_encoder chexbert needs labels.chexbert_path")
        if self.dataset == "mimic_cxr" and not self.source.endswith((".json", "-split.csv", "-split.csv.gz")):
            raise ValueError(
                f"source {self.source!r}: mimic_cxr comes from an annotation.json or a "
                "mimic-cxr-2.0.0-split.csv.gz, not from the folder, which DVC would read whole"
            )
        if (self.images.folder is None) != (self.dataset == "phantom"):
            raise ValueError(
                f"images.folder must be {'null' if self.dataset == 'phantom' else 'set'} for {self.dataset}"
            )
        return self


def needed(params: Params) -> Iterator[tuple[str, str, str]]:
    """Every file and folder that the stages will ask for: its key, its path, and what to do without it."""
    data = f"put the {params.dataset} data there or name its place (README, Datasets)"
    weights = "expected imagenet, random or a weight file"
    yield "source", params.source, data
    if params.openi.split is not None:
        yield "openi.split", params.openi.split, "expected an annotation.json, or null"
    if params.mimic.reports is not None:
        yield "mimic.reports", params.mimic.reports, "expected the folder `files` or mimic-cxr-reports.zip, or null"
    if params.images.folder is not None:
        yield "images.folder", params.images.folder, data
    for file in published_files(params.prototype_init):
        yield "prototype_init", file, "expected kmeans, random, or a file of published prototypes"
    if params.labels.labeller == "file":
        yield "labels.file", params.labels.file, "name a .csv, .json or .pickle of labels"
    if "chexbert" in (params.labels.labeller, params.features.text_encoder):
        yield (
            "labels.chexbert_path",
            params.labels.chexbert_path,
            "download chexbert.pth of StanfordAIMI/RRG_scorers from the Hugging Face hub, "
            "or do without: labels.labeller=rules and features.text_encoder=minilm",
        )
    if params.features.text_encoder not in ("chexbert", "minilm"):
        yield (
            "features.text_encoder",
            params.features.text_encoder,
            "expected chexbert, minilm or a Hugging Face folder",
        )
    for key in ("radgraph", "bertscore"):
        if getattr(params.evaluate, key) is not None:
            yield f"evaluate.{key}", getattr(params.evaluate, key), "expected the folder of its weights, or null"
    if params.classifier.weights not in ("imagenet", "random"):
        yield "classifier.weights", params.classifier.weights, weights
    if params.model.visual_weights not in ("imagenet", "random", "classifier"):
        yield "model.visual_weights", params.model.visual_weights, weights.replace("random", "classifier, random")


def main() -> None:
    params = validate(Params, load_yaml())
    problems = [
        f"{key} = {path!r}: no such file or folder; {help}"
        for key, path, help in needed(params)
        if not Path(path).exists()
    ]
    raise_all(FILE, problems)
    write_json("data/checked.json", {"dataset": params.dataset, "source": params.source})


if __name__ == "__main__":
    run(main)
