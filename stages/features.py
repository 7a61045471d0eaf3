"""Images and train reports -> data/features: visual, mirrored and textual global features (§3.2, Eq. 4).

Those of the held-out images are for a floor only: the report of the nearest train image.
"""

import torch

from stages.stage import run, shared
from xpronet.common.params import Part, PathName, RuntimeParams, Strict, read
from xpronet.common.processes import Group
from xpronet.common.resumable import Pieces
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import ImagePack
from xpronet.data.studies import of_split, read_annotation
from xpronet.encoders import text_encoders
from xpronet.encoders.backbones import resnet, start_weights
from xpronet.encoders.params import Backbone
from xpronet.prototypes.features import write_visual_features

# Of random weights (`model.visual_weights: random`, a network of its own, not the one that training starts from): with
# the seed of training, another seed would extract features again that do not depend on it.
SEED = 1


class Start(Part):
    backbone: Backbone
    visual_weights: PathName


class TextEncoder(Part):
    text_encoder: PathName


class CheXbertPath(Part):
    chexbert_path: PathName | None


class Params(Strict):
    features: TextEncoder
    model: Start
    labels: CheXbertPath
    runtime: RuntimeParams


def main() -> str:
    return shared(read(Params), work)


def work(params: Params, device: torch.device, group: Group) -> str:
    """The stage, as one of the processes that share it."""
    studies = read_annotation("data/prepared/annotation.json")
    pack = ImagePack.of("data/prepared")
    torch.manual_seed(SEED)
    network = resnet(params.model.backbone, classes=1)
    start = start_weights(
        params.model.backbone,
        params.model.visual_weights,
        key="model.visual_weights",
        classifier="data/classifier/weights.safetensors",
    )
    if start is not None:
        network.load_state_dict(start, strict=False)  # all but the head
    train = of_split(studies, "train")
    held_out = of_split(studies, "val", "test")
    images: list[Pieces] = []
    for chosen, names in ((train, ("visual", "flipped")), (held_out, ("held_out",))):
        write_visual_features(
            [f"data/features/{name}.npy" for name in names],
            network,
            StudyDataset.of(chosen, studies, pack),
            backbone=params.model.backbone,
            batch_size=params.runtime.batch_size,
            device=device,
            workers=params.runtime.workers,
            group=group,
            later=images,
        )
    encoder = text_encoders.load(params.features.text_encoder, chexbert_path=params.labels.chexbert_path, device=device)
    encoder.write("data/features/textual.npy", [study.report for study in train], group=group)
    for files in images:
        files.finish()
    return f"features of {len(train):,} train studies, images and reports, and of {len(held_out):,} others' images"


if __name__ == "__main__":
    run(main, together=True)
