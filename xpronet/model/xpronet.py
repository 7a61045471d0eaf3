"""XProNet: patch features and words query a shared prototype matrix, and their fusion feeds a Transformer (Fig. 3)."""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.common.shares import Dropout, dropout
from xpronet.encoders.backbones import WIDTH
from xpronet.encoders.params import Backbone
from xpronet.model.decoding import Step
from xpronet.model.memory import PrototypeMemory
from xpronet.model.params import Formulation
from xpronet.model.system import Material, Output, System, check_sizes
from xpronet.model.transformer import Decoder, Encoder, causal, decoder_steps, sine_positions, transposed


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
        check_sizes(self, "d_model", "d_ff", "heads", "layers", "n_conditions", "n_prototypes", "d_prototype")
        if self.formulation not in get_args(Formulation):
            raise ValueError(f"formulation {self.formulation!r} must be one of {', '.join(get_args(Formulation))}")
        if self.cmpnet and not 1 <= self.gamma <= self.n_conditions * self.n_prototypes:
            raise ValueError(
                f"gamma {self.gamma} must lie between 1 and {self.n_conditions * self.n_prototypes}, "
                "the number of prototypes"
            )


class Prototypes(NamedTuple):
    """The prototype matrix as a batch of studies queries it: keys and values (h, M, d/h), mask (B, M) bool."""

    keys: Tensor
    values: Tensor
    mask: Tensor


class XProNet(System):
    Config = ModelConfig

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        d = config.d_model
        self.patch_embedding = nn.Linear(WIDTH[config.backbone], d)  # row 8
        self.add_memory(config)
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
        transposed(self)

    def add_memory(self, config: ModelConfig) -> None:
        """The prototype matrix, its query and its fusion with the two modalities."""
        if not config.cmpnet:
            return
        d, count = config.d_model, config.n_conditions * config.n_prototypes
        self.prototypes = nn.Parameter(torch.randn(count, config.d_prototype) / config.d_prototype**0.5)  # PM, row 21
        self.prototype_projection = nn.Linear(config.d_prototype, d)  # Eq. 8
        self.memory = PrototypeMemory(
            d, config.heads, config.gamma, config.prototype_dropout, config.formulation
        )  # Eq. 9-13
        self.visual_fusion = nn.Linear(2 * d, d)  # Eq. 14
        self.textual_fusion = nn.Linear(2 * d, d)

    @property
    def has_prototypes(self) -> bool:
        return self.config.cmpnet

    def furnish(self, material: Material) -> None:
        if self.has_prototypes:
            self.prototypes.data.copy_(material.prototypes.flatten(0, 1))

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing, as `System` has it; ValueError where a study has no label at all (row 35)."""
        prototypes = self.query_prototypes(labels)
        memory, patches, visual_responses = self.encode(images, prototypes, views)
        inputs = tokens[:, :-1]
        words, textual_responses = self.embed_words(inputs, self.positions(inputs.shape[1]), prototypes)
        hidden = self.decoder(words, causal(inputs), memory, patches[:, None, None, :])  # (B, T - 1, d), Eq. 16
        return Output(F.log_softmax(exact(self.head(hidden)), dim=-1), visual_responses, textual_responses, patches)

    def begin(self, images: Tensor, labels: Tensor, views: Tensor | None, *, beams: int, max_length: int) -> Step:
        prototypes = self.query_prototypes(labels)
        memory, patches, _ = self.encode(images, prototypes, views)
        advance = decoder_steps(self.decoder, memory, patches, beams=beams, max_length=max_length)
        table = self.positions(max_length)

        def step(tokens: Tensor, position: int, parents: Tensor | None) -> Tensor:
            words, _ = self.embed_words(tokens, table[position], prototypes)
            return F.log_softmax(exact(self.head(advance(words, parents))), dim=-1)

        return step

    def encode(self, images: Tensor, prototypes: Prototypes | None, views: Tensor | None):
        """-> memory (B, S, d), patches (B, S) bool, visual responses (B, S, d) or None; Eq. 1 and 9-15."""
        features, patches = self.patch_features(images, views)
        x = dropout(F.relu(self.patch_embedding(features)), self.config.feature_dropout, self.training)  # (B, S, d)
        responses = None
        if prototypes is not None:
            responses = self.memory(x, *prototypes)
            x = self.fuse(x, responses, visual=True)
        x = self.dropout(exact(x) + self.positions(x.shape[1]))
        return self.encoder(x, patches[:, None, None, :]), patches, responses  # Eq. 15

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
        return exact(self.fuse(words, responses, visual=False)), responses

    def fuse(self, x: Tensor, responses: Tensor, *, visual: bool) -> Tensor:
        """(B, T, d) twice -> (B, T, d)."""
        fusion = self.visual_fusion if visual else self.textual_fusion
        return fusion(torch.cat([x, responses], dim=-1))  # Eq. 14

    def positions(self, length: int) -> Tensor:
        return sine_positions(length, self.config.d_model).to(self.head.weight)
