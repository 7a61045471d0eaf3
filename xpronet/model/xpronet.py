"""XProNet: patch features and words query a shared prototype matrix, and their fusion feeds a Transformer (Fig. 3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.shares import Dropout, dropout, every, studies, total
from xpronet.data.reports import END
from xpronet.encoders.backbones import WIDTH
from xpronet.encoders.params import Backbone
from xpronet.model.decoding import Generation, beam_search
from xpronet.model.memory import PrototypeMemory, exact
from xpronet.model.params import Formulation
from xpronet.model.transformer import Decoder, Encoder, as_bias, sine_positions
from xpronet.model.visual import VisualExtractor


@dataclass(frozen=True)
class ModelConfig:
    """Every size of the network; nothing else sizes it."""

    vocab_size: int  # words, <unk> among them; the output has one more: id 0
    backbone: Backbone = "resnet101"
    d_model: int = 512  # d, and C_P: the published code has one width for all
    d_ff: int = 512
    heads: int = 8
    layers: int = 3
    n_conditions: int = 14  # N^l = K
    n_prototypes: int = 20  # N^p
    d_prototype: int = 2816  # D = C_1 + C_2
    gamma: int = 15  # γ
    formulation: Formulation = "official"  # rows 1-4, 9 and 11
    cmpnet: bool = True  # False: visual extractor and encoder-decoder only
    dropout: float = 0.1
    feature_dropout: float = 0.5  # after the first linear on patch features (row 8)
    attention_dropout: float = 0.1  # row 36
    prototype_dropout: float = 0.1

    def __post_init__(self):
        for name in ("vocab_size", "d_model", "d_ff", "heads", "layers", "n_conditions", "n_prototypes", "d_prototype"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ValueError(f"{name} {getattr(self, name)!r} must be a whole number from 1 up")
        for name, known in (("backbone", get_args(Backbone)), ("formulation", get_args(Formulation))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r} must be one of {', '.join(known)}")
        if self.d_model % self.heads:
            raise ValueError(f"heads {self.heads} must divide d_model {self.d_model}")
        if self.cmpnet and not 1 <= self.gamma <= self.n_conditions * self.n_prototypes:
            raise ValueError(
                f"gamma {self.gamma} must lie between 1 and {self.n_conditions * self.n_prototypes}, "
                "the number of prototypes"
            )


class Output(NamedTuple):
    log_probs: Tensor  # (B, T - 1, vocab_size + 1), of the token after each but the last
    visual_responses: Tensor | None  # (B, S, d), S = V x P; None without CMPNet
    textual_responses: Tensor | None  # (B, T - 1, d)
    patches: Tensor | None = None  # (B, S) bool, patches of views that are there


class Prototypes(NamedTuple):
    """The prototype matrix as a batch of studies queries it: keys and values (h, M, d/h), mask (B, M) bool."""

    keys: Tensor
    values: Tensor
    mask: Tensor


class XProNet(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        d = config.d_model
        self.visual = VisualExtractor(config.backbone)
        self.patch_embedding = nn.Linear(WIDTH[config.backbone], d)  # row 8
        if config.cmpnet:
            count = config.n_conditions * config.n_prototypes
            self.prototypes = nn.Parameter(
                torch.randn(count, config.d_prototype) / config.d_prototype**0.5
            )  # PM, row 21
            self.prototype_projection = nn.Linear(config.d_prototype, d)  # Eq. 8
            self.memory = PrototypeMemory(
                d, config.heads, config.gamma, config.prototype_dropout, config.formulation
            )  # Eq. 9-13
            self.visual_fusion = nn.Linear(2 * d, d)  # Eq. 14
            self.textual_fusion = nn.Linear(2 * d, d)
        sizes = {
            "width": d,
            "heads": config.heads,
            "hidden": config.d_ff,
            "dropout": config.dropout,
            "attention_dropout": config.attention_dropout,
        }
        self.encoder = Encoder(config.layers, **sizes)
        self.decoder = Decoder(config.layers, **sizes)
        self.word_embedding = nn.Embedding(config.vocab_size + 1, d)
        self.head = nn.Linear(d, config.vocab_size + 1)
        self.dropout = Dropout(config.dropout)
        for module in (self.encoder, self.decoder, self.word_embedding):
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, nn.Linear):  # stored transposed: products of few rows, as in decoding, are faster
                module.weight.data = module.weight.data.t().contiguous().t()

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing.

        Args:
            images: (B, V, 3, H, W) float32, normalised; or their patch features (B, V, P, C) of a frozen extractor.
            tokens: (B, T) int64, 0 at the start, at the end and as padding.
            labels: (B, K) 0/1, which prototypes each study may query; ignored without CMPNet.
            views: (B, V) bool, which views are there; all where None.

        Raises:
            ValueError: a study without any label (row 35).
        """
        prototypes = self.query_prototypes(labels)
        memory, patches, visual_responses = self.encode(images, prototypes, views)
        inputs = tokens[:, :-1]
        words, textual_responses = self.embed_words(inputs, self.positions(inputs.shape[1]), prototypes)
        hidden = self.decoder(words, _causal(inputs), memory, patches[:, None, None, :])  # (B, T - 1, d), Eq. 16
        return Output(F.log_softmax(exact(self.head(hidden)), dim=-1), visual_responses, textual_responses, patches)

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
            prototypes = self.query_prototypes(labels)
            memory, patches, _ = self.encode(images, prototypes, views)
            caches = self.decoder.start(memory, max_length * beam_size)
            memory_mask = as_bias(patches[:, None, None, :], memory)
            table = self.positions(max_length)
            itself = as_bias(torch.eye(beam_size, dtype=torch.bool, device=memory.device), memory)
            itself = itself.expand(len(images), -1, -1)
            past = itself[:, :, :0]  # (B, beam, n): 0 for the rows of the caches that each beam descends from

            def step(tokens: Tensor, position: int, parents: Tensor | None) -> Tensor:
                """(B, beam) newest tokens -> (B, beam, V) log-probabilities; each beam goes on from its parent."""
                nonlocal past
                if parents is not None:
                    past = past.gather(1, parents[:, :, None].expand(-1, -1, past.shape[-1]))
                past = torch.cat([past, itself], dim=-1)
                words, _ = self.embed_words(tokens, table[position], prototypes)
                hidden = self.decoder.step(words, caches, past[:, None], memory_mask)  # (B, beam, d)
                return F.log_softmax(exact(self.head(hidden)), dim=-1)

            sizes = {"beam_size": beam_size, "max_length": max_length}
            return beam_search(step, len(images), **sizes, device=images.device, watch=watch)

    def encode(self, images: Tensor, prototypes: Prototypes | None, views: Tensor | None):
        """-> memory (B, S, d), patches (B, S) bool, visual responses (B, S, d) or None; Eq. 1 and 9-15."""
        features, patches = self.patch_features(images, views)
        x = dropout(F.relu(self.patch_embedding(features)), self.config.feature_dropout, self.training)  # (B, S, d)
        responses = None
        if prototypes is not None:
            responses = self.memory(x, *prototypes)
            x = self.visual_fusion(torch.cat([x, responses], dim=-1))  # Eq. 14
        x = self.dropout(exact(x) + self.positions(x.shape[1]))
        return self.encoder(x, patches[:, None, None, :]), patches, responses  # Eq. 15

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

    def query_prototypes(self, labels: Tensor) -> Prototypes | None:
        """The projected prototype matrix (Eq. 8) and which of its rows each study may query."""
        if not self.config.cmpnet:
            return None
        if not (labels > 0).any(dim=1).all():
            empty = (~(labels > 0).any(dim=1)).nonzero().flatten().tolist()
            raise ValueError(
                f"studies {empty} of the batch have no label: set No Finding where nothing else is positive"
            )
        keys, values = self.memory.project(self.prototype_projection(self.prototypes))  # Eq. 8
        return Prototypes(keys, values, (labels > 0).repeat_interleave(self.config.n_prototypes, dim=1))

    def embed_words(self, tokens: Tensor, positions: Tensor, prototypes: Prototypes | None):
        """(B, T) ids -> fused word embeddings (B, T, d), textual responses (B, T, d) or None; Eq. 9-14."""
        words = self.dropout(self.word_embedding(tokens) * self.config.d_model**0.5 + positions)
        if prototypes is None:
            return words, None
        responses = self.memory(words, *prototypes)
        return exact(self.textual_fusion(torch.cat([words, responses], dim=-1))), responses  # Eq. 14

    def positions(self, length: int) -> Tensor:
        return sine_positions(length, self.config.d_model).to(self.head.weight)


def _passes(present: Tensor) -> list[Tensor]:
    """(V, B) bool, which views are there -> the same in parts, each a pass through the visual extractor."""
    whole = every(present.all(dim=1))  # (V,)
    parts = [present & (torch.arange(len(whole), device=whole.device) == view)[:, None] for view in whole.nonzero()]
    rest = present & ~whole[:, None]
    return [*parts[:-1], parts[-1] | rest] if parts else [rest]


def _causal(tokens: Tensor) -> Tensor:
    """(B, T) -> (B, 1, T, T) bool: a word sees itself, what stands before it, and no padding."""
    length = tokens.shape[1]
    words = tokens != END
    words[:, 0] = True
    lower = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    return lower & words[:, None, None, :]
