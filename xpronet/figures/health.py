"""What became of the prototypes: which respond, how far they have moved, and which train studies they are like."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.metrics.pairwise import euclidean_distances
from torch import Tensor

from xpronet.common.progress import track
from xpronet.data.dataset import StudyDataset, loader
from xpronet.data.studies import Study
from xpronet.labels.conditions import CONDITIONS
from xpronet.model.losses import token_nats
from xpronet.model.memory import PrototypeMemory
from xpronet.model.xpronet import XProNet
from xpronet.prototypes.kmeans import Rows

NEAREST = 3  # train studies named for each prototype
QUERIES = ("patches", "words")


class Uses(NamedTuple):
    """How often prototypes responded to queries of one kind: a query per patch or word and head."""

    queries: int
    counts: np.ndarray  # (M,) responses; they sum to queries x γ
    expected: np.ndarray  # (M,) the same where a query's γ fall on all that its study may ask with the same chance


@torch.inference_mode()
def count_uses(
    model: XProNet, dataset: StudyDataset, *, batch_size: int, device: torch.device, workers: int = 0
) -> dict[str, Uses]:
    """The γ that patches and words of a dataset's studies choose (Eq. 10), of QUERIES.

    Words are those of the studies' own reports, by teacher forcing: the start among them, padding not.

    Args:
        dataset: with tokens and labels; patches of views that are not there do not count.
    """
    model.eval()
    shape = len(QUERIES), model.config.n_conditions * model.config.n_prototypes
    counts, expected, queries = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(len(QUERIES), np.int64)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def watch(memory: PrototypeMemory, inputs: tuple[Tensor, ...]) -> None:
        x, keys, _, mask = inputs
        chosen, _ = memory.select(x, keys, mask)
        allowed = mask[None, :, None, :].expand(*chosen.shape[:3], -1).gather(-1, chosen)
        seen.append((chosen, allowed, mask))

    watching = model.memory.register_forward_pre_hook(watch)
    try:
        for batch in track(loader(dataset, batch_size=batch_size, workers=workers), what="queries", unit="batches"):
            batch = batch.to(device)
            seen.clear()
            output = model(batch.images, batch.tokens, batch.labels, views=batch.views)
            _, words = token_nats(output.log_probs, batch.tokens[:, 1:])  # a query says the word after it
            for kind, (chosen, asked) in enumerate(zip(seen, (output.patches, words), strict=True)):
                rows, allowed, mask = (each.cpu() for each in chosen)  # (h, B, T, γ) twice, (B, M)
                asked = asked.cpu()
                responds = allowed & asked[None, :, :, None]
                counts[kind] += np.bincount(rows[responds].numpy(), minlength=shape[1])
                of_study = responds.sum(dim=(0, 2, 3)).double()  # (B,)
                expected[kind] += ((of_study / mask.sum(dim=1))[:, None] * mask).sum(dim=0).numpy()
                queries[kind] += len(rows) * int(asked.sum())
    finally:
        watching.remove()
    return {kind: Uses(int(n), *each) for kind, n, *each in zip(QUERIES, queries, counts, expected, strict=True)}


def drift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(M,) how far each of the prototypes (M, D) has moved, as a share of its length before; 0 where it has not."""
    moved = np.linalg.norm(after - before, axis=1)
    return moved / np.maximum(np.linalg.norm(before, axis=1), 1e-12)


def nearest_studies(prototypes: np.ndarray, visual: np.ndarray, textual: np.ndarray) -> np.ndarray:
    """(M, NEAREST) rows of the train studies whose features (Eq. 5) lie nearest to each of the prototypes (M, D).

    The features, (N, C_1) and (N, C_2), may be memory maps: they are read once, in pieces.
    """
    best = np.zeros((len(prototypes), 0))
    rows = np.zeros((len(prototypes), 0), np.int64)
    start = 0
    for batch in Rows((visual,), textual, np.arange(len(visual))).batches():
        best = np.concatenate([best, euclidean_distances(prototypes, batch)], axis=1)
        rows = np.concatenate([rows, np.tile(np.arange(start, start + len(batch)), (len(prototypes), 1))], axis=1)
        order = np.argsort(best, axis=1, kind="stable")[:, :NEAREST]
        best, rows = np.take_along_axis(best, order, axis=1), np.take_along_axis(rows, order, axis=1)
        start += len(batch)
    return rows


def describe(
    uses: Mapping[str, Uses],
    *,
    gamma: int,
    studies: int,
    moved: np.ndarray | None = None,
    nearest: np.ndarray | None = None,
    train: Sequence[Study] = (),
    labels: np.ndarray | None = None,
) -> dict[str, Any]:
    """All of it for a file: a summary, and each prototype.

    A prototype that no study might ask is `asked: false` and not dead; a dead one was asked and never responded.

    Args:
        uses: of `count_uses`.
        studies: how many have asked.
        moved: of `drift`; None where the initial values are not known.
        nearest: of `nearest_studies`; None where the features are another network's.
        train: the studies that `nearest` speaks of, and their labels (N, 14) 0/1.
    """
    asked = sum(each.expected for each in uses.values()) > 0
    dead = asked & (sum(each.counts for each in uses.values()) == 0)
    per = len(asked) // len(CONDITIONS)
    prototypes = []
    for row in range(len(asked)):
        entry = {
            "observation": CONDITIONS[row // per],
            "number": row % per,
            "asked": bool(asked[row]),
            "dead": bool(dead[row]),
        }
        for kind, each in uses.items():
            entry |= {kind: int(each.counts[row]), f"{kind}_expected": round(float(each.expected[row]), 2)}
        if moved is not None:
            entry["drift"] = round(float(moved[row]), 6)
        if nearest is not None:
            entry["nearest"] = [train[study].id for study in nearest[row]]
            entry["nearest_with_it"] = int(labels[nearest[row], row // per].sum())
        prototypes.append(entry)
    summary = {
        "prototypes": len(asked),
        "asked": int(asked.sum()),
        "dead": int(dead.sum()),
        "gamma": gamma,
        "studies": studies,
        "queries": {kind: each.queries for kind, each in uses.items()},
    }
    if moved is not None:
        summary["median_drift"] = round(float(np.median(moved)), 6)
    if nearest is not None:
        summary["nearest_with_it"] = round(sum(each["nearest_with_it"] for each in prototypes) / nearest.size, 4)
    return {"summary": summary, "each": prototypes}
