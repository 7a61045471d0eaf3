"""Training: teacher forcing on Eq. 20, validation and epoch selection as the published code (rows 26-28)."""

import logging
import math
from collections.abc import Callable, Mapping

import torch

from xpronet.common.devices import autocast
from xpronet.common.params import Precision
from xpronet.common.progress import track
from xpronet.data.dataset import Batch, StudyDataset, loader
from xpronet.model.losses import Losses, Objective, training_losses
from xpronet.model.xpronet import XProNet
from xpronet.training.params import TrainParams

logger = logging.getLogger(__name__)

Scores = Mapping[str, float]


def selection_score(scores: Scores) -> float:
    """What the best epoch is chosen by on validation (row 28)."""
    return scores["BLEU_4"] + 0.33 * scores["BLEU_1"] + 0.67 * scores["METEOR"]


def optimiser(model: XProNet, params: TrainParams) -> torch.optim.Optimizer:
    """Adam or AdamW with two rates, one for the visual extractor (row 27)."""
    visual = {id(parameter) for parameter in model.visual.parameters()}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in visual]
    groups = [{"params": list(model.visual.parameters()), "lr": params.lr_visual}, {"params": rest, "lr": params.lr}]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[params.optimiser]
    return kind(groups, betas=(0.9, 0.98), eps=1e-9, weight_decay=params.weight_decay, amsgrad=True, fused=True)


def rate(epoch: float, params: TrainParams) -> float:
    """Factor of both rates at a moment that counts in epochs from 0: steps (row 27) or a cosine, after the warm-up."""
    if epoch < params.warmup_epochs:
        return epoch / params.warmup_epochs
    if params.schedule == "steps":
        return params.lr_decay ** (epoch // params.lr_step)
    done = (epoch - params.warmup_epochs) / (params.epochs - params.warmup_epochs)
    return (1 + math.cos(math.pi * done)) / 2


def train(
    model: XProNet,
    dataset: StudyDataset,
    params: TrainParams,
    objective: Objective,
    *,
    frozen: StudyDataset | None = None,
    validate: Callable[[XProNet], Scores],
    save: Callable[[XProNet], None],
    seed: int,
    device: torch.device,
    workers: int = 0,
) -> list[dict[str, float]]:
    """Train in place and return one row per epoch; `save` is called after each epoch that is the best so far.

    Args:
        frozen: the dataset by the patch features of the frozen extractor, for the first `freeze_epochs` epochs.
        validate: scores of the model on validation; may leave it in evaluation mode.

    Raises:
        ValueError: the loss is no longer a number.
    """
    torch.manual_seed(seed)
    model.to(device)
    adam = optimiser(model, params)
    loading = {"batch_size": params.batch_size, "shuffle": True, "seed": seed, "workers": workers}
    batches = loader(dataset, **loading)
    moments = len(batches)  # steps of an epoch; the first is half a step in, so that a warm-up never begins with zero
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate((step + 0.5) / moments, params))
    best, history = float("-inf"), []
    for epoch in range(params.epochs):
        model.visual.freeze(epoch < params.freeze_epochs)
        if epoch in (0, params.freeze_epochs):
            batches = loader(frozen if epoch < params.freeze_epochs else dataset, **loading)
        batches.sampler.epoch = epoch
        row = {"epoch": epoch + 1, "lr": schedule.get_last_lr()[-1]}
        what = f"train epoch {epoch + 1}/{params.epochs}"
        row |= _epoch(model, batches, adam, schedule, objective, params, device, what=what)
        scores = validate(model)
        row |= {f"val_{name}": value for name, value in scores.items()}
        row["val_selection"] = selection_score(scores)
        history.append(row)
        logger.info(
            "epoch %d: loss %.4f, validation BLEU_4 %.4f, selection %.4f",
            *(row[name] for name in ("epoch", "total", "val_BLEU_4", "val_selection")),
        )
        if row["val_selection"] > best:
            best = row["val_selection"]
            save(model)
    return history


def step(
    model: XProNet,
    adam: torch.optim.Optimizer,
    batch: Batch,
    objective: Objective,
    precision: Precision,
    clip_norm: float | None = None,
) -> torch.Tensor:
    """One step of Eq. 20 -> the losses in the order of `Losses`, before the step."""
    with autocast(batch.labels.device, precision):
        output = model(batch.images, batch.tokens, batch.labels, views=batch.views)
    losses = training_losses(output, batch.tokens, batch.labels, objective=objective)
    adam.zero_grad()
    losses.total.backward()
    if clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    adam.step()
    return torch.stack(losses).detach()


def _epoch(model, batches, adam, schedule, objective, params, device, *, what: str) -> dict[str, float]:
    """One pass over the train split -> mean losses per study."""
    model.train()
    sums, count = torch.zeros(len(Losses._fields)), 0
    for batch in track(batches, what=what, unit="batches"):
        losses = step(model, adam, batch.to(device), objective, params.precision, params.clip_norm)
        schedule.step()
        size = len(batch.labels)
        sums += size * losses.cpu()
        count += size
        if not torch.isfinite(sums).all():
            raise ValueError(f"{what}: the loss is not a number any more; lower train.lr or train.lr_visual")
    return dict(zip(Losses._fields, (sums / count).tolist(), strict=True))
