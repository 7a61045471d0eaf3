"""What every system of Table 1 is: a visual extractor, and a network that writes from its patch features.

A system says how it reads a report by teacher forcing (`forward`) and how it writes one token after another (`begin`).
Search, sampling, training, model folders and pages know nothing else of it.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, get_args

import torch
from torch import Tensor, nn

from xpronet.common.shares import every, studies, total
from xpronet.data.reports import Vocabulary
from xpronet.encoders.params import Backbone
from xpronet.model.decoding import Generation, Step, beam_search
from xpronet.model.params import SystemName
from xpronet.model.visual import VisualExtractor


class Material(NamedTuple):
    """What the train split gives a system beside batches."""

    vocabulary: Vocabulary
    labels: Tensor  # (N, K) 0/1
    prototypes: Tensor  # (K, N^p, D)
    templates: Sequence[Sequence[str]]  # groups of cleaned sentences that say the same, the commonest wording first


class Output(NamedTuple):
    log_probs: Tensor  # (B, T - 1, vocab_size + 1), of the token after each but the last
    visual_responses: Tensor | None = None  # (B, S, d), S = V x P; None without prototypes of classes
    textual_responses: Tensor | None = None  # (B, T - 1, d)
    patches: Tensor | None = None  # (B, S) bool, patches of views that are there
    attention: Tensor | None = None  # (B, T - 1, S), where a system says itself where each word looked
    auxiliary: Tensor | None = None  # (B,), a loss of each study beside that of its words


def check_sizes(config: Any, *counts: str) -> None:
    """Raise ValueError where a size of a config is no whole number from 1 up, or cannot be with the others.

    Its extractor must be known; where it has heads they must divide `d_model`, which sines and cosines share.
    """
    for name in ("vocab_size", *counts):
        if not (isinstance(getattr(config, name), int) and getattr(config, name) >= 1):
            raise ValueError(f"{name} {getattr(config, name)!r} must be a whole number from 1 up")
    if config.backbone not in get_args(Backbone):
        raise ValueError(f"backbone {config.backbone!r} must be one of {', '.join(get_args(Backbone))}")
    if "heads" in counts and config.d_model % config.heads:
        raise ValueError(f"heads {config.heads} must divide d_model {config.d_model}")
    if "heads" in counts and config.d_model % 2:
        raise ValueError(f"d_model {config.d_model} must be even")


class System(nn.Module):
    """A network with a config, a frozen dataclass of class `Config`, which has `vocab_size` and `backbone`."""

    Config: ClassVar[type]
    has_prototypes = False  # of classes, which are drawn and explained
    has_attention = True  # to patches

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.visual = VisualExtractor(config.backbone)

    def furnish(self, material: Material) -> None:
        """Take from the train split what a config cannot hold; weights that are loaded later take its place."""

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing.

        Args:
            images: (B, V, 3, H, W) float32, normalised; or their patch features (B, V, P, C) of a frozen extractor.
            tokens: (B, T) int64, 0 at the start, at the end and as padding.
            labels: (B, K) 0/1, which prototypes each study may query; systems without such read none.
            views: (B, V) bool, which views are there; all where None.
        """
        raise NotImplementedError

    def begin(self, images: Tensor, labels: Tensor, views: Tensor | None, *, beams: int, max_length: int) -> Step:
        """The images are read; what is returned writes on, `beams` beams or samples of each study at once."""
        raise NotImplementedError

    def generate(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        beam_size: int,
        max_length: int,
        views: Tensor | None = None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> Generation:
        """Reports by beam search, greedy with beam 1: the best beam of each study; `watch` as `beam_search` has it.

        Raises:
            ValueError: the model is in training mode, a size is below 1, or a study has no label; `NoNumbers`, which is
                one too, where log-probabilities are none.
        """
        if self.training:
            raise ValueError("generate needs a model in evaluation mode: call .eval() first")
        if beam_size < 1 or max_length < 1:
            raise ValueError(f"beam_size {beam_size} and max_length {max_length} must be at least 1")
        with torch.no_grad():
            step = self.begin(images, labels, views, beams=beam_size, max_length=max_length)
            sizes = {"beam_size": beam_size, "max_length": max_length}
            return beam_search(step, len(images), **sizes, device=images.device, watch=watch)

    def patch_features(self, images: Tensor, views: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, V, 3, H, W) -> patch features (B, V x P, C), zero where a view is absent, and (B, V x P) bool.

        What is no image, (B, V, P, C), is patch features already.

        In training a view that all studies have is a batch of its own, so that batch norm's statistics are per view;
        views that some lack share the batch of the last of those, and running statistics weigh by images (row 33).
        "All studies" are those of all processes; of a batch in parts each part has statistics of its own.
        """
        batch, count = images.shape[:2]
        if views is None:
            views = images.new_ones(batch, count, dtype=torch.bool)
        if images.dim() == 4:
            return images.flatten(1, 2), views.repeat_interleave(images.shape[2], dim=1)
        images, present = images.transpose(0, 1), views.T  # (V, B, 3, H, W), (V, B)
        passes = _passes(present) if self.visual.training else [present]
        parts = [int(total(own.sum())) / studies(batch) for own in passes]
        found = [self.visual(images[own], batches=part) for own, part in zip(passes, parts, strict=True)]  # (n, P, C)
        features = found[0].new_zeros(count, batch, *found[0].shape[1:])  # (V, B, P, C)
        for own, those in zip(passes, found, strict=True):
            features[own] = those
        return features.transpose(0, 1).flatten(1, 2), views.repeat_interleave(features.shape[2], dim=1)


def system_class(name: str) -> type[System]:
    """The class of a system by the name of its module, which is loaded only here: mending one reruns no other.

    Raises:
        ValueError: there is no such system.
    """
    if name not in get_args(SystemName):
        raise ValueError(f"system {name!r} must be one of {', '.join(get_args(SystemName))}")
    return import_module(f"xpronet.systems.{name}").SYSTEM


def name_of(model: System) -> str:
    return type(model).__module__.rpartition(".")[2]


def _passes(present: Tensor) -> list[Tensor]:
    """(V, B) bool, which views are there -> the same in parts, each a pass through the visual extractor."""
    whole = every(present.all(dim=1))  # (V,)
    parts = [present & (torch.arange(len(whole), device=whole.device) == view)[:, None] for view in whole.nonzero()]
    rest = present & ~whole[:, None]
    return [*parts[:-1], parts[-1] | rest] if parts else [rest]
