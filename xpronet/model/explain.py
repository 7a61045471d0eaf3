"""What the network computed on its way to a report (Fig. 1): where it looked, and which prototypes answered.

Teacher forcing over a generated report computes what the search computed; what is read off it is what its own modules
weighed values with. docs/explanations.md says how to read it, and what it does not say.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xpronet.common.devices import exact
from xpronet.data.reports import END, Vocabulary
from xpronet.model.memory import PrototypeMemory
from xpronet.model.recurrent import AdditiveAttention
from xpronet.model.system import System
from xpronet.model.transformer import Attention, DecoderLayer
from xpronet.model.visual import STRIDE, patch_borders

ALTERNATIVES = 4  # words that are named beside each that was written
END_WORD = "<end>"  # no word of a report has such brackets but `<unk>`


class Selection(NamedTuple):
    """Which prototypes answered queries, the most similar first, and with what weight (Eq. 10-11)."""

    chosen: np.ndarray  # (h, ..., γ) int64, rows of the prototype matrix
    weights: np.ndarray  # (h, ..., γ) float32; 0 where there was no query, and beyond what a study's labels allow

    def shares(self, prototypes: int) -> np.ndarray:
        """(..., M) float32: each prototype's share of an answer, all heads together; sums to one, or 0 without a query.

        Shares are of magnitudes: the paper's formulation has weights below 0.
        """
        found = np.zeros((*self.weights.shape[1:-1], prototypes), np.float32)
        for chosen, weights in zip(self.chosen, np.abs(self.weights), strict=True):
            np.put_along_axis(found, chosen, np.take_along_axis(found, chosen, -1) + weights, -1)
        total = found.sum(axis=-1, keepdims=True)
        return np.divide(found, total, out=found, where=total > 0)


@dataclass(frozen=True)
class Explanation:
    """One study's report of T tokens, its end included where there is one; K classes of prototypes, M in all.

    Attention, probability and alternatives are of the step that wrote a token. The prototypes of a word are those that
    its own embedding asks for as it is read to write the next (Fig. 1); the end asks for none.
    """

    tokens: np.ndarray  # (T,) int64
    log_probs: np.ndarray  # (T,) float32
    alternatives: np.ndarray  # (T, A) int64, the likeliest other tokens
    alternative_log_probs: np.ndarray  # (T, A) float32
    attention: np.ndarray  # (T, V, h, w) float32, mean over layers and heads; 0 in absent views. It sums to one, but
    # where a system may look at no patch (ADAATT) to what is left, and without attention (ST) to 0
    views: np.ndarray  # (V,) bool, which are there
    labels: np.ndarray  # (K,) bool, whose prototypes could be asked for
    words: Selection | None = None  # of the tokens (T,); None without CMPNet
    patches: Selection | None = None  # of the patches (V, h, w)
    prototypes: int = 0  # M; prototype m is of class m // (M / K)
    gamma: int = 0

    def word_shares(self) -> np.ndarray:
        """(T, M) float32 of the prototypes that each word asks for."""
        return self.words.shares(self.prototypes)

    def patch_shares(self) -> np.ndarray:
        """(V, h, w, M) float32 of those that each patch asks for."""
        return self.patches.shares(self.prototypes)

    def seen_shares(self) -> np.ndarray:
        """(T, M) float32 of those of the patches that a word attends to, weighed by attention."""
        return np.tensordot(self.attention, self.patch_shares(), axes=3)

    def by_class(self, shares: np.ndarray) -> np.ndarray:
        """(..., M) -> (..., K), summed over each class's prototypes."""
        return shares.reshape(*shares.shape[:-1], len(self.labels), -1).sum(axis=-1)

    def overlap(self) -> np.ndarray:
        """(T, K) float32: what a word's shares and those of the patches it attends to have in common, by class.

        Summed over classes it is 1 where both ask for the same prototypes in the same measure, and 0 where for others.
        """
        return self.by_class(np.minimum(self.word_shares(), self.seen_shares()))


@torch.inference_mode()
def explain(
    model: System,
    images: Tensor,
    tokens: Tensor,
    labels: Tensor,
    *,
    views: Tensor | None = None,
    grid: tuple[int, int] | None = None,
) -> list[Explanation]:
    """How a model came to the reports that it wrote, an explanation per study.

    Args:
        images, labels, views: what `System.generate` was given.
        tokens: (B, T) int64, what it returned.
        grid: rows and columns of patches, where images are patch features of no square picture.

    Raises:
        ValueError: the model is in training mode, or patch features lack their grid.
    """
    if model.training:
        raise ValueError("explain needs a model in evaluation mode: call .eval() first")
    grid = grid or _grid(images)
    edge = tokens.new_full((len(tokens), 1), END)
    with _watched(model) as (layers, steps, selected):
        # One step beyond the report, so that its last word is read as well.
        output = model(images, torch.cat([edge, tokens, edge], dim=1), labels, views=views)
    log_probs = output.log_probs[:, :-1]  # (B, T, vocab_size + 1)
    own = log_probs.gather(-1, tokens.unsqueeze(-1))  # (B, T, 1)
    others = log_probs.scatter(-1, tokens.unsqueeze(-1), -torch.inf)
    others, names = others.topk(min(ALTERNATIVES, log_probs.shape[-1] - 1), dim=-1)  # (B, T, A)
    if output.attention is not None:
        layers = [output.attention]
    elif steps:
        layers = [torch.cat(steps, dim=1)[..., : output.patches.shape[1]]]  # without ADAATT's sentinel
    if not layers:  # it looks nowhere
        layers = [log_probs.new_zeros(len(tokens), tokens.shape[1] + 1, output.patches.shape[1])]
    looked = torch.stack([exact(each) for each in layers]).mean(dim=0)[:, :-1]  # (B, T, S)
    looked = looked.unflatten(-1, (images.shape[1], *grid))  # (B, T, V, h, w)
    there = output.patches.unflatten(-1, (images.shape[1], *grid))  # (B, V, h, w)
    read = (tokens != END).cumprod(dim=1).bool()  # (B, T): words, which end at the first end
    lengths = (read.sum(dim=1) + 1).clamp(max=tokens.shape[1]).tolist()
    sizes = {}
    if selected:
        sizes = {"prototypes": len(model.prototypes), "gamma": model.memory.gamma}
        (patches, patch_weights), (words, word_weights) = selected
        patches, patch_weights = (each.unflatten(2, there.shape[1:]) for each in (patches, patch_weights))
        patch_weights, word_weights = patch_weights * there[..., None], word_weights[:, :, 1:] * read[..., None]
        words = words[:, :, 1:]  # (h, B, T, γ); the start is not shown
    return [
        Explanation(
            *(_array(each[study, :length]) for each in (tokens, own.squeeze(-1), names, others, looked)),
            _array(there[study, :, 0, 0]),
            _array(labels[study] > 0),
            Selection(_array(words[:, study, :length]), _array(word_weights[:, study, :length])) if selected else None,
            Selection(_array(patches[:, study]), _array(patch_weights[:, study])) if selected else None,
            **sizes,
        )
        for study, length in enumerate(lengths)
    ]


@contextmanager
def _watched(model: System) -> Iterator[tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]]]:
    """What one forward pass weighs.

    Attention (B, T, S) of each decoder layer, mean over heads; (B, 1, S) of each step of an LSTM; and prototypes
    (`select`) of the patches and of the words.
    """
    layers, steps, selected = [], [], []

    def of_layer(module: Attention, given: tuple[Tensor, ...], found: Tensor) -> None:
        layers.append(exact(module.weights(given[0], given[1], given[3])).mean(dim=1))

    def of_memory(module: PrototypeMemory, given: tuple[Tensor, ...], found: Tensor) -> None:
        selected.append(module.select(given[0], given[1], given[3]))

    hooks = []
    for module in model.modules():
        if isinstance(module, DecoderLayer):
            hooks.append(module.cross_attention.register_forward_hook(of_layer))
        elif isinstance(module, AdditiveAttention):
            hooks.append(module.register_forward_hook(lambda module, given, found: steps.append(found)))
        elif isinstance(module, PrototypeMemory) and model.has_prototypes:
            hooks.append(module.register_forward_hook(of_memory))
    try:
        yield layers, steps, selected
    finally:
        for hook in hooks:
            hook.remove()


def _grid(images: Tensor) -> tuple[int, int]:
    if images.dim() == 5:
        return tuple(math.ceil(side / STRIDE) for side in images.shape[-2:])
    side = math.isqrt(images.shape[2])
    if side**2 != images.shape[2]:
        raise ValueError(f"{images.shape[2]} patches are no square: say their grid, (rows, columns)")
    return side, side


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def to_json(
    found: Explanation,
    vocabulary: Vocabulary,
    conditions: Sequence[str],
    *,
    crop: int,
    sizes: Sequence[tuple[int, int]] | None = None,
    probabilities: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """An explanation as docs/explanations.md describes it.

    Args:
        crop: side of the picture that the model sees, in pixels.
        sizes: height and width of the original of each view that is there; None: they are what the model sees.
        probabilities: of each observation, by a classifier.
    """
    names = (END_WORD, *vocabulary.tokens)
    views = [
        {
            "size": [height, width],
            "rows": _rounded(patch_borders(crop, height), 1),
            "columns": _rounded(patch_borders(crop, width), 1),
        }
        for height, width in sizes or [(crop, crop)] * int(found.views.sum())
    ]
    words = [
        {
            "word": names[token],
            "log_prob": round(float(log_prob), 4),
            "alternatives": {names[other]: round(float(value), 4) for other, value in zip(others, values, strict=True)},
            "attention": _rounded(attention[found.views]),
        }
        for token, log_prob, others, values, attention in zip(
            found.tokens,
            found.log_probs,
            found.alternatives,
            found.alternative_log_probs,
            found.attention,
            strict=True,
        )
    ]
    content = {
        "report": vocabulary.decode(found.tokens.tolist()),
        "log_prob": round(float(found.log_probs.sum()), 4),
        "labels": [name for name, there in zip(conditions, found.labels, strict=True) if there],
        "probabilities": dict(probabilities) if probabilities is not None else None,
        "conditions": list(conditions),
        "prototypes_each": found.prototypes // len(conditions) or None,
        "gamma": found.gamma or None,
        "views": views,
        "words": words,
        "patches": None,
    }
    if found.words is not None:
        _add_prototypes(content, found, conditions)
    return content


def _add_prototypes(content: dict[str, Any], found: Explanation, conditions: Sequence[str]) -> None:
    own, patches = found.word_shares(), found.patch_shares()[found.views]  # (T, M), (V, h, w, M)
    content["patches"] = [[[_top(shares, found.gamma) for shares in row] for row in view] for view in patches]
    classes, seen, overlap = found.by_class(own), found.by_class(found.seen_shares()), found.overlap()  # (T, K)
    allowed = int(found.labels.sum()) * content["prototypes_each"]
    for row, word in enumerate(content["words"]):
        if not own[row].any():  # the end
            continue
        attention = found.attention[row][found.views]
        patch = np.unravel_index(attention.argmax(), attention.shape)
        word["prototypes"], others = _top(own[row], found.gamma), _top(patches[patch], found.gamma)
        word["classes"] = _by_name(conditions, classes[row])
        word["seen_classes"] = _by_name(conditions, seen[row])
        word["overlap"] = _by_name(conditions, overlap[row])
        word["patch"] = [int(place) for place in patch]
        word["shared"] = sorted({prototype for prototype, _ in word["prototypes"]} & {other for other, _ in others})
        word["shared_by_chance"] = round(len(word["prototypes"]) * len(others) / allowed, 2)


def _top(shares: np.ndarray, count: int) -> list[list]:
    """The `count` largest of (M,), largest first, as [prototype, share]; those of 0 are left out."""
    largest = np.argsort(-shares, kind="stable")[:count]
    return [[int(place), round(float(shares[place]), 4)] for place in largest if shares[place] > 0]


def _by_name(conditions: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(conditions, values, strict=True) if value > 0}


def _rounded(values: np.ndarray, digits: int = 4) -> list:
    return np.round(values.astype(np.float64), digits).tolist()
