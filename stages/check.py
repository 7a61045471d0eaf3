"""Validate the whole of params.yaml and find the raw data, before any work starts.

It depends on params.yaml alone, so that a typing error or a dataset that is not there ends the run with a clear line
instead of DVC's. What it writes changes only with the dataset.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import model_validator

from stages.stage import run
from xpronet.classifier.params import ClassifierParams
from xpronet.common.files import raise_all, read_json, write_json
from xpronet.common.params import FILE, PathName, RuntimeParams, Seed, load_yaml, validate
from xpronet.data.params import ReportParams
from xpronet.encoders.params import refuse_lone_study
from xpronet.evaluation.params import EvaluateParams
from xpronet.labels.params import LabelParams, TemplateParams
from xpronet.model.params import DecodeParams
from xpronet.prototypes.params import FeatureParams, PrototypeInit, published_files
from xpronet.sources.params import Dataset, ImageParams, MimicParams, OpenIParams, PhantomParams
from xpronet.training.params import FRESH, ONE_COMPILES, TRAINED, Training


class Params(Training):
    """The whole of params.yaml."""

    dataset: Dataset
    """`phantom`, the embedded one; `iu_xray`; or `mimic_cxr`."""
    source: PathName
    """Where its annotation, or Open-i's or PhysioNet's files, lie; for phantom the code that draws it."""
    seed: Seed
    """Of every random choice of training; data is drawn by seeds of its own, `phantom.seed` and `openi.seed`."""
    prototype_init: PrototypeInit
    """`kmeans`; `random`, w/o PI; or published matrices: a file, or two of half the prototypes, flipped ones first."""
    model_folder: PathName
    """The model that writes the reports: the trained one, or any model folder, which is scored without training."""
    phantom: PhantomParams
    openi: OpenIParams
    mimic: MimicParams
    images: ImageParams
    reports: ReportParams
    labels: LabelParams
    templates: TemplateParams
    classifier: ClassifierParams
    features: FeatureParams
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
        studies, crop = self.phantom.train if self.dataset == "phantom" else 0, self.images.crop
        refuse_lone_study(studies, batch_size=self.classifier.batch_size, crop=crop, key="classifier.batch_size")
        self.train.refuse_lone_study(studies, crop=crop)
        if self.train.compile and self.runtime.processes > 1:
            raise ValueError(ONE_COMPILES)
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
    data = f"put the {params.dataset} data there or name its place (docs/datasets.md)"
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
    if params.model_folder != TRAINED:
        yield "model_folder", params.model_folder, "name a model folder, as `xpronet import-official` makes one"
    if params.train.start != FRESH:
        help = f"expected {FRESH}, or a model folder, as `xpronet import-official` makes one"
        yield "train.start", f"{params.train.start}/model.json", help
    for key in ("radgraph", "bertscore"):
        if getattr(params.evaluate, key) is not None:
            yield f"evaluate.{key}", getattr(params.evaluate, key), "expected the folder of its weights, or null"
    if params.classifier.weights not in ("imagenet", "random"):
        yield "classifier.weights", params.classifier.weights, weights
    if params.model.visual_weights not in ("imagenet", "random", "classifier"):
        yield "model.visual_weights", params.model.visual_weights, weights.replace("random", "classifier, random")


def without_imagenet(params: Params) -> Iterator[str]:
    """A line where ImageNet's weights are asked for and cannot be had, with keys that do without."""
    asked = {"classifier.weights": params.classifier, "model.visual_weights": params.model}
    asked = {key: of.backbone for key, of in asked.items() if getattr(of, key.partition(".")[2]) == "imagenet"}
    if not asked:
        return
    from xpronet.encoders.backbones import check_imagenet  # with PyTorch, whose import takes seconds

    try:
        for backbone in sorted(set(asked.values())):
            check_imagenet(backbone)
    except OSError as error:
        instead = {"classifier.weights": "random", "model.visual_weights": "classifier"}
        changes = {key: instead[key] for key in asked}
        if "model.visual_weights" in asked and params.classifier.backbone != params.model.backbone:
            if params.classifier.weights in ("imagenet", "random"):
                changes["classifier.backbone"] = params.model.backbone
            else:  # a file of its own backbone
                changes["model.visual_weights"] = "random"
        yield (
            f"{' and '.join(asked)} = 'imagenet': the weights of {backbone} are not in torch's cache and cannot be "
            f"downloaded ({error}); set {' '.join(f'{key}={value}' for key, value in changes.items())}, or name files"
        )


def main() -> str:
    params = validate(Params, load_yaml())
    problems = [
        f"{key} = {path!r}: no such file or folder; {help}"
        for key, path, help in needed(params)
        if not Path(path).exists()
    ]
    if params.runtime.device not in ("auto", "cpu"):
        from xpronet.common.devices import choose  # with PyTorch, whose import takes seconds

        try:
            choose(params.runtime.device)
        except ValueError as error:
            problems.append(str(error))
    problems += without_imagenet(params)
    if not problems and params.train.start != FRESH:
        params.check_start(read_json(Path(params.train.start, "model.json")))
    raise_all(FILE, problems)
    write_json("data/checked.json", {"dataset": params.dataset, "source": params.source})
    return f"no mistake found; dataset {params.dataset}, from {params.source}"


if __name__ == "__main__":
    run(main)
