"""Training the image classifier: AdamW on a one-cycle schedule, the best epoch on validation."""

import copy
import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from xpronet.classifier.calibration import macro_auroc
from xpronet.classifier.network import StudyClassifier, predict
from xpronet.classifier.params import ClassifierParams
from xpronet.classifier.thresholds import choose_thresholds
from xpronet.common.course import Course
from xpronet.common.devices import autocast
from xpronet.common.params import Precision
from xpronet.common.processes import ALONE, Group
from xpronet.common.shares import add_gradients, added, same_statistics, shared, synchronise
from xpronet.common.shortage import memory_for
from xpronet.common.states import States
from xpronet.data.dataset import Batch, StudyDataset, loader
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
    states: States | None = None,
    workers: int = 0,
    group: Group = ALONE,
) -> Fitted:
    """Fine-tune on the train split's labels; keep the epoch with the best macro AUROC on validation.

    Thresholds give each observation its best F1 on validation; where validation has only one class they stay 0.5.

    Args:
        batch_size: studies at once on validation.
        states: where a killed run goes on.
        group: the processes that train together, each on its share of every batch.

    Raises:
        ValueError: loss or probabilities are no numbers any more, or there is not enough memory.
        Stopped: a signal has asked for the end.
    """
    torch.manual_seed(seed)
    classifier = StudyClassifier(params.backbone)
    start = start_weights(params.backbone, params.weights, key="classifier.weights")
    if start is not None:
        classifier.network.load_state_dict(start, strict=False)  # all but the head
    classifier = classifier.to(device, memory_format=torch.channels_last)
    batches = loader(train, batch_size=params.batch_size, shuffle=True, seed=seed, workers=workers, group=group)
    if group.size > 1 and params.sync_batch_norm:
        synchronise(classifier)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=params.lr, weight_decay=params.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, params.lr, total_steps=params.epochs * len(batches))
    with Course(classifier, optimiser, schedule, device=device, states=states, group=group) as course:
        kept = course.restore()
        while course.epoch < params.epochs:
            loss = _epoch(course, batches, params)
            same_statistics(classifier, group)
            with course.validating(), memory_for("validation of the classifier", "lower runtime.batch_size"):
                probabilities = predict(
                    classifier,
                    val,
                    precision=params.precision,
                    device=device,
                    batch_size=batch_size,
                    workers=workers,
                    group=group,
                )
            score = group.told(macro_auroc(val.labels, probabilities))
            row = {"epoch": course.epoch + 1, "loss": loss, "val_macro_AUROC": score}
            logger.info("classifier epoch %d: loss %.4f, validation macro AUROC %.4f", *row.values())
            better = course.is_best(score)
            if better:
                kept = {**copy.deepcopy(classifier.state_dict()), "probabilities": torch.from_numpy(probabilities)}
            course.finish_epoch(row, score, kept if better else {})
    probabilities = kept.pop("probabilities").numpy()
    classifier.load_state_dict(kept)
    return Fitted(
        classifier.eval(), choose_thresholds(val.labels, probabilities, kind=params.thresholds), course.history
    )


def _epoch(course: Course, batches: DataLoader, params: ClassifierParams) -> float:
    """What is left of a pass over the train split -> the mean loss per study of the whole of it."""
    what = f"classifier epoch {course.epoch + 1}/{params.epochs}"
    advice = f"lower classifier.batch_size = {params.batch_size} (another training), or set classifier.precision=bf16"
    total = course.sums(loss=torch.zeros((), dtype=torch.float64))["loss"]
    course.module.train()
    for batch in course.batches(batches, what=what):
        with memory_for(what, advice):
            loss = _step(course, batch.to(course.device), params.precision)
        total += loss * course.share.size
        if not math.isfinite(loss):
            line = f"classifier epoch {course.epoch + 1}: the loss is not a number any more; lower classifier.lr"
            raise course.unusable(batch, batches.dataset, line)
    return total.item() / len(batches.dataset)


def _step(course: Course, batch: Batch, precision: Precision) -> float:
    """The mean loss before the step."""
    with course.share as share:
        with autocast(course.device, precision):
            logits = course.module(batch.images, batch.views)
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum" if shared() else "mean")
        if shared():
            loss = added(loss / (share.size * batch.labels.shape[1]))
        course.optimiser.zero_grad()
        loss.backward()
    add_gradients(course.module.parameters(), share.group)
    course.optimiser.step()
    course.schedule.step()
    return loss.item()
