"""The classifier of the 14 observations from images, and its folder: labels for studies that have no report yet.

The published code labels a study under test from its own report (row 20 of docs/paper-and-code.md). This gives the
labels that one really has at that point, and its backbone is a start for the model where ImageNet's weights are not at
hand.
"""

from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from xpronet.common.devices import autocast
from xpronet.common.files import read_json, replacing, write_json
from xpronet.common.processes import ALONE, Group
from xpronet.common.progress import track
from xpronet.common.weights import load_exactly, read_weights, save_tensors, undrawn
from xpronet.data.dataset import Batch, StudyDataset, in_turn, shared_batches
from xpronet.encoders.backbones import resnet
from xpronet.encoders.params import Backbone
from xpronet.labels.conditions import CONDITIONS


class StudyClassifier(nn.Module):
    """Logits of a study: the mean over its views of one ResNet's logits."""

    def __init__(self, backbone: str):
        super().__init__()
        self.backbone = backbone
        self.network = resnet(backbone, classes=len(CONDITIONS))

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """(B, V, 3, H, W) float32, (B, V) bool -> (B, K)."""
        logits = self.network(images[views].contiguous(memory_format=torch.channels_last)).float()  # (n, K)
        spread = logits.new_zeros(*views.shape, logits.shape[-1])
        spread[views] = logits  # (B, V, K)
        return spread.sum(dim=1) / views.sum(dim=1, keepdim=True)


@torch.inference_mode()
def probabilities(classifier: StudyClassifier, batch: Batch, *, precision: str, device: torch.device) -> Tensor:
    """(B, K) float32 on the CPU, of each observation of each study of a batch."""
    batch = batch.to(device)
    with autocast(device, precision):
        logits = classifier(batch.images, batch.views)
    return torch.sigmoid(logits.float()).cpu()


def predict(
    classifier: StudyClassifier,
    dataset: StudyDataset,
    *,
    precision: str,
    device: torch.device,
    batch_size: int,
    workers: int = 0,
    group: Group = ALONE,
) -> np.ndarray:
    """Probabilities (N, K) float32 in the dataset's order.

    The processes of a group share the batches, which are the same whatever their number, and each gets all rows.

    Raises:
        ValueError: those of a study are no numbers.
    """
    classifier.eval()
    rows = []
    batches = shared_batches(dataset, batch_size=batch_size, workers=workers, group=group)
    for batch in track(batches, what="classify", unit="batches"):
        rows.append(probabilities(classifier, batch, precision=precision, device=device))
        broken = ~rows[-1].isfinite().all(dim=1)
        if broken.any():
            name = dataset.name(int(batch.positions[broken][0]))
            raise ValueError(f"{name}: the classifier's probabilities are no numbers; lower classifier.lr")
    return torch.cat(in_turn(rows, group)).numpy()


def save(folder: str | Path, classifier: StudyClassifier, thresholds: np.ndarray) -> None:
    """Write the folder as a whole or not at all; thresholds (K,)."""
    with replacing(folder) as beside:
        beside.mkdir()
        save_tensors(classifier.network.state_dict(), beside / "weights.safetensors")
        write_json(
            beside / "classifier.json",
            {
                "backbone": classifier.backbone,
                "thresholds": dict(zip(CONDITIONS, thresholds.tolist(), strict=True)),
            },
        )


def load(folder: str | Path) -> tuple[StudyClassifier, np.ndarray]:
    """The classifier in evaluation mode and its thresholds (K,).

    Raises:
        ValueError: the folder is not a classifier's, or the weights are not of its backbone.
    """
    content = read_json(Path(folder) / "classifier.json")
    try:
        backbone, thresholds = content["backbone"], content["thresholds"]
        if backbone not in get_args(Backbone):
            raise ValueError(f"backbone {backbone!r} must be one of {', '.join(get_args(Backbone))}")
        thresholds = np.array([float(thresholds[name]) for name in CONDITIONS], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{folder}/classifier.json: not a classifier of this version: {reason}") from None
    classifier = undrawn(lambda: StudyClassifier(backbone))
    weights = read_weights(Path(folder) / "weights.safetensors", again="`dvc repro classify` makes it again")
    load_exactly(classifier.network, weights, where=folder)
    return classifier.eval(), thresholds
