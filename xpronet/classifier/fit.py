"""Training the image classifier: AdamW on a one-cycle schedule, the best epoch on validation."""

import copy
import logging
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from xpronet.classifier.calibration import macro_auroc
from xpronet.classifier.network import StudyClassifier, predict
from xpronet.classifier.params import ClassifierParams
from xpronet.classifier.thresholds import choose_thresholds
from xpronet.common.course import Course, Row
from xpronet.common.devices import autocast
from xpronet.common.params import Precision
from xpronet.common.processes import ALONE, Group
from xpronet.common.shares import added, descend, same_statistics, shared, synchronise
from xpronet.common.shortage import memory_for
from xpronet.common.states import States
from xpronet.common.wording import number
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
        ValueError: loss, gradient or probabilities are no numbers any more, or there is not enough memory.
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
    options = {"device": device, "states": states, "group": group, "precision": params.precision}
    with Course(classifier, optimiser, schedule, **options) as course:
        kept = course.restore()
        while course.epoch < params.epochs:
            learnt = _epoch(course, batches, params)
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
            row = {"epoch": course.epoch + 1, **learnt, "val_macro_AUROC": score}
            logger.info("classifier epoch %d: loss %.4f, validation macro AUROC %.4f", row["epoch"], row["loss"], score)
            better = course.is_best(score)
            if better:
                kept = {**copy.deepcopy(classifier.state_dict()), "probabilities": torch.from_numpy(probabilities)}
            course.finish_epoch(row, score, kept if better else {})
    probabilities = kept.pop("probabilities").numpy()
    classifier.load_state_dict(kept)
    return Fitted(
        classifier.eval(), choose_thresholds(val.labels, probabilities, kind=params.thresholds), course.history
    )


def _epoch(course: Course, batches: DataLoader, params: ClassifierParams) -> Row:
    """What is left of a pass over the train split -> of the whole of it: mean loss per study, and steps left out."""
    what = f"classifier epoch {course.epoch + 1}/{params.epochs}"
    advice = f"lower classifier.batch_size = {params.batch_size} (another training), or set classifier.precision=bf16"
    skip, help = params.nonfinite == "skip", "lower classifier.lr"
    sums = course.sums(
        loss=torch.zeros((), dtype=torch.float64),
        studies=torch.zeros((), dtype=torch.int64),
        skipped=torch.zeros((), dtype=torch.int64),
    )
    course.module.train()
    for batch in course.batches(batches, what=what):
        step = partial(_step, course, batch.to(course.device), params.precision)
        with memory_for(what, advice):
            taken = course.take(step, batch, batches.dataset, what=what, help=help, skip=skip)
        if taken is None:
            sums["skipped"] += 1
            continue
        sums["loss"] += taken[0].item() * course.share.size
        sums["studies"] += course.share.size
    if not sums["studies"]:
        raise ValueError(f"{what}: every step is left out, its loss or gradient is no number; {help}")
    if sums["skipped"]:
        logger.warning(
            "%s: %s left out, whose loss or gradient was no number", what, number(int(sums["skipped"]), "step")
        )
    return {"loss": (sums["loss"] / sums["studies"]).item(), "skipped": sums["skipped"].item()}


def _step(course: Course, batch: Batch, precision: Precision) -> tuple[Tensor, Tensor]:
    """The mean loss before the step (1,) and the gradient's norm."""
    course.optimiser.zero_grad()
    with course.share as share:
        with autocast(course.device, precision):
            logits = course.module(batch.images, batch.views)
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum" if shared() else "mean")
        if shared():
            loss = added(loss / (share.size * batch.labels.shape[1]))
        course.scaler.scale(loss).backward()
    options = {"scaler": course.scaler, "group": share.group}
    return descend(course.module.parameters(), course.optimiser, loss[None], **options)
