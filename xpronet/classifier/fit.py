"""Training the image classifier: AdamW on a one-cycle schedule, the best epoch on validation."""

import copy
import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from xpronet.classifier.calibration import macro_auroc
from xpronet.classifier.network import StudyClassifier, predict
from xpronet.classifier.params import ClassifierParams
from xpronet.classifier.thresholds import choose_thresholds
from xpronet.common.devices import autocast
from xpronet.common.progress import track
from xpronet.data.dataset import StudyDataset, loader
from xpronet.encoders.backbones import start_weights

logger = logging.getLogger(__name__)


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
    batch_size: int,
    workers: int = 0,
) -> Fitted:
    """Fine-tune on the train split's labels; keep the epoch with the best macro AUROC on validation.

    Thresholds give each observation its best F1 on validation; where validation has only one class they stay 0.5.

    Args:
        batch_size: studies at once on validation.

    Raises:
        ValueError: loss or probabilities are no numbers any more.
    """
    torch.manual_seed(seed)
    classifier = StudyClassifier(params.backbone)
    start = start_weights(params.backbone, params.weights, key="classifier.weights")
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
            if not math.isfinite(total):
                raise ValueError(
                    f"classifier epoch {epoch + 1}: the loss is not a number any more; lower classifier.lr"
                )
        probabilities = predict(
            classifier, val, precision=params.precision, device=device, batch_size=batch_size, workers=workers
        )
        score = macro_auroc(val.labels, probabilities)
        history.append({"epoch": epoch + 1, "loss": total / len(train), "val_macro_AUROC": score})
        logger.info("classifier epoch %d: loss %.4f, validation macro AUROC %.4f", *history[-1].values())
        if kept is None or score > best:
            best, kept = score, (copy.deepcopy(classifier.state_dict()), probabilities)
    classifier.load_state_dict(kept[0])
    return Fitted(classifier.eval(), choose_thresholds(val.labels, kept[1], kind=params.thresholds), history)
