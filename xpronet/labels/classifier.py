"""A classifier of the 14 observations from images: labels for studies that have no report yet.

The published code labels a study under test from its own report (row 20 of docs/paper-and-code.md). This gives the
labels that one really has at that point, and its backbone is a start for the model where ImageNet's weights are not at
hand.
"""

import copy
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.metrics import precision_recall_curve
from torch import Tensor, nn

from xpronet.data.dataset import StudyDataset, loader
from xpronet.data.devices import autocast
from xpronet.data.files import read_json, replacing, write_json
from xpronet.data.progress import track
from xpronet.labels.backbones import resnet, start_weights
from xpronet.labels.calibration import macro_auroc
from xpronet.labels.conditions import CONDITIONS, NO_FINDING
from xpronet.labels.params import ClassifierParams

logger = logging.getLogger(__name__)


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


@dataclass
class Fitted:
    classifier: StudyClassifier
    thresholds: np.ndarray  # (K,) float32
    history: list[dict[str, float]]


def fit(
    train: StudyDataset,
    val: StudyDataset,
    params: ClassifierParams,
    *,
    seed: int,
    device: torch.device,
    workers: int = 0,
) -> Fitted:
    """Fine-tune on the train split's labels; keep the epoch with the best macro AUROC on validation.

    Thresholds give each observation its best F1 on validation; where validation has only one class they stay 0.5.
    """
    torch.manual_seed(seed)
    classifier = StudyClassifier(params.backbone)
    start = start_weights(params.backbone, params.weights)
    if start is not None:
        classifier.network.load_state_dict(start, strict=False)  # all but the head
    classifier = classifier.to(device, memory_format=torch.channels_last)
    batches = loader(train, batch_size=params.batch_size, shuffle=True, seed=seed, workers=workers)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=params.lr, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params.lr, total_steps=params.epochs * len(batches))
    best, kept, history = -np.inf, None, []
    for epoch in range(params.epochs):
        classifier.train()
        batches.sampler.epoch, total = epoch, 0.0
        for batch in track(batches, what=f"classifier epoch {epoch + 1}/{params.epochs}", unit="batches"):
            batch = batch.to(device)
            with autocast(device, params.precision):
                logits = classifier(batch.images, batch.views)
            loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(batch.labels)
        probabilities = predict(classifier, val, precision=params.precision, device=device, workers=workers)
        score = macro_auroc(val.labels, probabilities)
        history.append({"epoch": epoch + 1, "loss": total / len(train), "val_macro_AUROC": score})
        logger.info("classifier epoch %d: loss %.4f, validation macro AUROC %.4f", *history[-1].values())
        if kept is None or score > best:
            best, kept = score, (copy.deepcopy(classifier.state_dict()), probabilities)
    classifier.load_state_dict(kept[0])
    return Fitted(classifier.eval(), choose_thresholds(val.labels, kept[1]), history)


@torch.inference_mode()
def predict(
    classifier: StudyClassifier,
    dataset: StudyDataset,
    *,
    precision: str,
    device: torch.device,
    batch_size: int = 64,
    workers: int = 0,
) -> np.ndarray:
    """Probabilities (N, K) float32 in the dataset's order."""
    classifier.eval()
    rows = []
    for batch in track(loader(dataset, batch_size=batch_size, workers=workers), what="classify", unit="batches"):
        batch = batch.to(device)
        with autocast(device, precision):
            logits = classifier(batch.images, batch.views)
        rows.append(torch.sigmoid(logits.float()).cpu())
    return torch.cat(rows).numpy()


def decide(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """0/1 labels (N, K) float32; No Finding is on where nothing else is: no study is without a label (row 35)."""
    labels = probabilities >= thresholds
    labels[:, NO_FINDING] = ~np.delete(labels, NO_FINDING, axis=1).any(axis=1)
    return labels.astype(np.float32)


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(K,) float32: the threshold with the best F1 per observation."""
    thresholds = np.full(labels.shape[1], 0.5, np.float32)
    for k in range(labels.shape[1]):
        if 0 < labels[:, k].sum() < len(labels):
            precision, recall, cuts = precision_recall_curve(labels[:, k], probabilities[:, k])
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            thresholds[k] = cuts[f1[:-1].argmax()]
    return thresholds


def save(folder: str | Path, fitted: Fitted) -> None:
    with replacing(folder) as beside:
        beside.mkdir()
        state = {name: tensor.contiguous().cpu() for name, tensor in fitted.classifier.network.state_dict().items()}
        save_file(state, beside / "weights.safetensors")
        write_json(
            beside / "classifier.json",
            {
                "backbone": fitted.classifier.backbone,
                "thresholds": dict(zip(CONDITIONS, fitted.thresholds.tolist(), strict=True)),
            },
        )


def load(folder: str | Path) -> tuple[StudyClassifier, np.ndarray]:
    """The classifier in evaluation mode and its thresholds (K,)."""
    content = read_json(Path(folder) / "classifier.json")
    classifier = StudyClassifier(content["backbone"])
    classifier.network.load_state_dict(load_file(Path(folder) / "weights.safetensors"))
    return classifier.eval(), np.array([content["thresholds"][name] for name in CONDITIONS], np.float32)
