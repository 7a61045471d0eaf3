"""Training: teacher forcing on Eq. 20, validation and epoch selection as the published code (rows 26-28)."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch

from xpronet.common.course import Course, Row
from xpronet.common.devices import autocast, compile_in_place, loss_scaling
from xpronet.common.params import Precision
from xpronet.common.processes import ALONE, Group
from xpronet.common.shares import Share, descend, same_statistics, synchronise
from xpronet.common.shortage import memory_for
from xpronet.common.snapshot import holding, random_states, restore_statistics, set_random_states, statistics
from xpronet.common.states import States
from xpronet.common.wording import number
from xpronet.data.dataset import Batch, StudyDataset, loader
from xpronet.model.losses import Losses, Objective, Together, seen_together, training_losses
from xpronet.model.system import System
from xpronet.training.params import ONE_COMPILES, TrainParams
from xpronet.training.scst import Reinforce

logger = logging.getLogger(__name__)

Scores = Mapping[str, float]


def selection_score(scores: Scores) -> float:
    """What the best epoch is chosen by on validation (row 28)."""
    return scores["BLEU_4"] + 0.33 * scores["BLEU_1"] + 0.67 * scores["METEOR"]


def optimiser(model: System, params: TrainParams) -> torch.optim.Optimizer:
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
    model: System,
    dataset: StudyDataset,
    params: TrainParams,
    objective: Objective | Reinforce,
    *,
    frozen: StudyDataset | None = None,
    validate: Callable[[System], Scores],
    save: Callable[[System], None],
    record: Callable[[list[Row], list[Row]], None] = lambda history, pace: None,
    states: States | None = None,
    seed: int,
    device: torch.device,
    workers: int = 0,
    group: Group = ALONE,
) -> list[Row]:
    """Train in place and return one row per epoch; `save` is called after each epoch that is the best so far.

    Args:
        frozen: the dataset by the patch features of the frozen extractor, for the first `freeze_epochs` epochs.
        validate: scores of the model on validation, of which those in the first process count; may leave it in
            evaluation mode.
        record: called after each epoch with the rows so far, and with those of what each took (`Course.pace`).
        states: where a killed run goes on; `save` and `record` are then called for what it had already.
        group: the processes that train together, each on its share of every batch; the first one saves and records.

    Raises:
        ValueError: the loss or the gradient is no longer a number, or there is not enough memory; `compile` with
            several processes, or without a compiler.
        Stopped: a signal has asked for the end.
    """
    torch.manual_seed(seed)
    model.to(device)
    model.visual.checkpointing = params.checkpointing
    if params.compile:
        if group.size > 1:
            raise ValueError(ONE_COMPILES)
        compile_in_place(model.visual.layers, key="train.compile")
    if group.size > 1 and params.sync_batch_norm:
        synchronise(model)
    adam = optimiser(model, params)
    loading = {"batch_size": params.batch_size, "shuffle": True, "seed": seed, "workers": workers, "group": group}
    moments = len(loader(dataset, **loading))  # steps of an epoch; a moment is half a step in, or a warm-up begins at 0
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate((step + 0.5) / moments, params))
    options = {"device": device, "states": states, "group": group, "precision": params.precision}
    with Course(model, adam, schedule, **options) as course:
        best = course.restore()
        if best and group.first:
            with holding(model, best):
                save(model)
            record(course.history, course.pace)
        while course.epoch < params.epochs:
            still = course.epoch < params.freeze_epochs
            model.visual.freeze(still)
            batches = loader(frozen if still else dataset, **loading)
            factor = rate((course.epoch * moments + 0.5) / moments, params)  # of the epoch's first step
            row = {"epoch": course.epoch + 1, "lr": factor * params.lr, "lr_visual": factor * params.lr_visual}
            row |= _epoch(course, model, adam, batches, objective, params)
            same_statistics(model, group)
            what = f"validation after epoch {course.epoch + 1}"
            with course.validating(), memory_for(what, "lower runtime.batch_size, which changes no result"):
                scores = group.told(validate(model))
            row |= {f"val_{name}": value for name, value in scores.items()}
            row["val_selection"] = selection_score(scores)
            logger.info(
                "epoch %d: loss %.4f, validation BLEU_4 %.4f, selection %.4f",
                *(row[name] for name in ("epoch", "total", "val_BLEU_4", "val_selection")),
            )
            better = course.is_best(row["val_selection"])
            course.finish_epoch(row, row["val_selection"], model.state_dict() if better else {})
            if better and group.first:
                save(model)
            if group.first:
                record(course.history, course.pace)
        return course.history


def step(
    model: System,
    adam: torch.optim.Optimizer,
    batch: Batch,
    objective: Objective | Reinforce,
    precision: Precision,
    clip_norm: float | None = None,
    share: Share | None = None,
    accumulate: int = 1,
    scaler: torch.amp.GradScaler | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of Eq. 20 or of SCST -> the losses before it, as `objective.columns` has them, and the gradient's norm.

    Both are on the CPU. Where one of them is not finite the weights stay as they are.

    Args:
        share: which part of a batch `batch` is; None: the whole. Losses and the step are those of all of it.
        accumulate: in how many parts to compute it, one after the other.
        scaler: of the losses in fp16.
    """
    share = share or Share.of(ALONE, len(batch.labels))
    scaler = scaler or loss_scaling(batch.labels.device, "float32")  # none
    adam.zero_grad()
    parts = share.parts(accumulate)
    if isinstance(objective, Reinforce):
        with share, autocast(batch.labels.device, precision):
            losses = objective.losses(model, batch)
        scaler.scale(losses.total).backward()
        losses = type(losses)(*(each.detach() for each in losses))
    elif len(parts) == 1:
        losses = _backward(model, batch, share, objective, precision, scaler)
    else:
        losses = _in_parts(model, batch, parts, objective, precision, scaler)
    options = {"scaler": scaler, "group": share.group, "clip_norm": clip_norm}
    return descend(model.parameters(), adam, torch.stack(losses), **options)


def _backward(model, batch, share, objective, precision, scaler, together: Together | None = None) -> Losses:
    """Losses of a batch or part, and their gradients added to what is there."""
    with share:
        with autocast(batch.labels.device, precision):
            output = model(batch.images, batch.tokens, batch.labels, views=batch.views)
        losses = training_losses(output, batch.tokens, batch.labels, objective=objective, together=together)
        scaler.scale(losses.total).backward()
    return Losses(*(each.detach() for each in losses))


def _in_parts(model, batch, shares, objective, precision, scaler) -> Losses:
    """The same in the memory of a part, to the same result: what the parts must know of each other is computed first.

    That costs a second forward pass. Each pass of each part draws the whole batch's random numbers, and uses its own.
    """
    device, first = batch.labels.device, shares[0].start
    parts = [batch.part(share.start - first, share.stop - first) for share in shares]
    drawn, buffers, seen = random_states(device), statistics(model), []
    for share, part in zip(shares, parts, strict=True):
        set_random_states(drawn, device)
        with share, torch.no_grad():
            with autocast(device, precision):
                output = model(part.images, part.tokens, part.labels, views=part.views)
            seen.append(seen_together(output, part.tokens, part.labels, objective=objective))
    restore_statistics(model, buffers)
    together = Together(*(None if each[0] is None else sum(each) for each in zip(*seen, strict=True)))
    addends = []
    for share, part in zip(shares, parts, strict=True):
        set_random_states(drawn, device)
        losses = _backward(model, part, share, objective, precision, scaler, together)
        addends.append(torch.stack([losses.cross_entropy, losses.auxiliary]))
    ce, more = sum(addends)
    whole = losses.total - losses.cross_entropy - losses.auxiliary + ce + more
    return losses._replace(total=whole, cross_entropy=ce, auxiliary=more)


def _epoch(course, model, adam, batches, objective, params) -> Row:
    """What is left of a pass over the train split -> of the whole pass: mean losses per study, and what to watch."""
    what = f"train epoch {course.epoch + 1}/{params.epochs}"
    rewarded = isinstance(objective, Reinforce)  # never in parts
    ways = [f"raise train.accumulate = {params.accumulate}"] * (not rewarded and params.accumulate < params.batch_size)
    ways += ["set train.checkpointing=true"] * (not params.checkpointing and not params.compile)
    same = f"{' or '.join(ways)}, to the same result; else " if ways else ""
    samples = f"train.samples = {params.samples} or " if rewarded else ""
    advice = f"{same}lower {samples}train.batch_size = {params.batch_size}, or set train.precision=bf16"
    prototypes = getattr(model, "prototypes", None)  # (M, D)
    sums = course.sums(
        losses=torch.zeros(len(objective.columns)),
        studies=torch.zeros((), dtype=torch.int64),
        norms=torch.zeros((), dtype=torch.float64),
        steps=torch.zeros((), dtype=torch.int64),
        skipped=torch.zeros((), dtype=torch.int64),
        used=torch.zeros(0 if prototypes is None else len(prototypes), dtype=torch.bool, device=course.device),
    )
    model.train()
    for batch in course.batches(batches, what=what):
        here = batch.to(course.device)
        take = partial(step, model, adam, here, objective, params.precision, params.clip_norm, course.share)
        take = partial(take, params.accumulate, course.scaler)
        skip, help = params.nonfinite == "skip", "lower train.lr or train.lr_visual"
        with memory_for(what, advice):
            taken = course.take(take, batch, batches.dataset, what=what, help=help, skip=skip)
        if taken is None:
            sums["skipped"] += 1
            continue
        losses, norm = taken
        sums["losses"] += course.share.size * losses
        sums["studies"] += course.share.size
        sums["norms"] += norm
        sums["steps"] += 1
        if prototypes is not None:
            sums["used"] |= (prototypes.grad != 0).any(dim=1)  # of a row that no token has chosen it is exactly 0
    if not sums["studies"]:
        raise ValueError(f"{what}: every step is left out, its loss or gradient is no number; lower train.lr")
    row = dict(zip(objective.columns, (sums["losses"] / sums["studies"]).tolist(), strict=True))
    row |= {"gradient_norm": (sums["norms"] / sums["steps"]).item(), "skipped": sums["skipped"].item()}
    if prototypes is not None:
        row["unused_prototypes"] = (~sums["used"]).sum().item()
        if row["unused_prototypes"] > (course.history[-1]["unused_prototypes"] if course.history else 0):
            logger.warning("%s: no token chose %d of %d prototypes", what, row["unused_prototypes"], len(prototypes))
    if row["skipped"]:
        logger.warning("%s: %s left out, whose loss or gradient was no number", what, number(row["skipped"], "step"))
    return row
