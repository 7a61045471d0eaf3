"""R2GenCMN (Chen, Shen, Song, Wan, ACL 2021), what XProNet builds on: a memory without classes, drawn at random.

It is XProNet with four switches: the memory has the network's width and needs no projection, every study may query all
of it, responses are added instead of fused, and the loss is cross-entropy alone. As in the published code the weighted
sum is transformed, where the paper transforms what is summed. Sizes of the paper: a memory of 2,048 x 512, top 32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xpronet.encoders.params import Backbone
from xpronet.model.memory import PrototypeMemory
from xpronet.model.system import Output, check_sizes
from xpronet.model.xpronet import Prototypes, XProNet


@dataclass(frozen=True)
class R2GenCMNConfig:
    """Every size of the network."""

    vocab_size: int  # words, <unk> among them; the output has one more: id 0
    backbone: Backbone = "resnet101"
    d_model: int = 512
    d_ff: int = 512
    heads: int = 8
    layers: int = 3
    memory: int = 2048  # rows
    top: int = 32  # of them respond to a query, each head's own
    dropout: float = 0.1
    feature_dropout: float = 0.5
    attention_dropout: float = 0.1
    prototype_dropout: float = 0.1

    def __post_init__(self):
        check_sizes(self, "d_model", "d_ff", "heads", "layers", "memory", "top")
        if self.top > self.memory:
            raise ValueError(f"top {self.top} must not exceed memory {self.memory}")


class R2GenCMN(XProNet):
    Config = R2GenCMNConfig
    has_prototypes = False

    def add_memory(self, config: R2GenCMNConfig) -> None:
        self.memory_matrix = nn.Parameter(torch.randn(config.memory, config.d_model) / config.d_model)
        self.memory = PrototypeMemory(config.d_model, config.heads, config.top, config.prototype_dropout)

    def query_prototypes(self, labels: Tensor) -> Prototypes:
        keys, values = self.memory.project(self.memory_matrix)
        everything = torch.ones(len(labels), len(self.memory_matrix), dtype=torch.bool, device=keys.device)
        return Prototypes(keys, values, everything)

    def fuse(self, x: Tensor, responses: Tensor, *, visual: bool) -> Tensor:
        return x + responses

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing, as `System` has it; reads no labels. Its responses are nobody's classes."""
        found = super().forward(images, tokens, labels, views=views)
        return found._replace(visual_responses=None, textual_responses=None)


SYSTEM = R2GenCMN
