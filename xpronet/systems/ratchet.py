"""RATCHET (Hou, Kaissis, Summers, Kainz, MICCAI 2021): patch features into a Transformer decoder without an encoder.

    memory = ReLU(W patches + b);   y = sqrt(d) emb(w) + sine positions
    6 x: y = LN(y + self-attention(y));  y = LN(y + cross-attention(y, memory));  y = LN(y + W_2 ReLU(W_1 y))

Sizes of its code of 2021: width 512, 8 heads, 6 layers, 2,048 within, dropout 0.2; its extractor is a DenseNet-121 that
a classifier of the same observations has trained: `model.backbone` and `model.visual_weights` say what it is here.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xpronet.common.devices import exact
from xpronet.common.shares import Dropout
from xpronet.encoders.backbones import WIDTH
from xpronet.encoders.params import Backbone
from xpronet.model.decoding import Step
from xpronet.model.system import Output, System, check_sizes
from xpronet.model.transformer import (
    Decoder,
    DecoderLayer,
    FeedForward,
    causal,
    decoder_steps,
    sine_positions,
    transposed,
)


@dataclass(frozen=True)
class RatchetConfig:
    """Every size of the network."""

    vocab_size: int  # words, <unk> among them; the output has one more: id 0
    backbone: Backbone = "resnet101"
    d_model: int = 512
    d_ff: int = 2048
    heads: int = 8
    layers: int = 6
    dropout: float = 0.2

    def __post_init__(self):
        check_sizes(self, "d_model", "d_ff", "heads", "layers")


class PostNormLayer(DecoderLayer):
    """As in Vaswani et al.: each sum is normalised, where a pre-norm layer normalises what goes into it.

    Dropout is on embeddings and branches alone, as in RATCHET's code.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float):
        super().__init__(width, heads, hidden, dropout, attention_dropout)
        self.feed_forward = FeedForward(width, hidden, 0.0)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3))

    def branch(self, number, x, of):
        return self.norms[number](x + self.dropout(of(x)))


class Ratchet(System):
    Config = RatchetConfig

    def __init__(self, config: RatchetConfig):
        super().__init__(config)
        d = config.d_model
        self.patch_embedding = nn.Linear(WIDTH[config.backbone], d)
        sizes = {"width": d, "heads": config.heads, "hidden": config.d_ff, "dropout": config.dropout}
        self.decoder = Decoder(config.layers, kind=PostNormLayer, norm=nn.Identity(), **sizes, attention_dropout=0.0)
        self.word_embedding = nn.Embedding(config.vocab_size + 1, d)
        self.head = nn.Linear(d, config.vocab_size + 1)
        self.dropout = Dropout(config.dropout)
        for module in (self.decoder, self.word_embedding):
            for parameter in module.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        transposed(self)

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor, *, views: Tensor | None = None) -> Output:
        """Teacher forcing, as `System` has it; reads no labels."""
        memory, patches = self._read(images, views)
        inputs = tokens[:, :-1]
        words = self._embed(inputs, self._positions(inputs.shape[1]))
        hidden = self.decoder(words, causal(inputs), memory, patches[:, None, None, :])  # (B, T - 1, d)
        return Output(self._log_probs(hidden), patches=patches)

    def begin(self, images: Tensor, labels: Tensor, views: Tensor | None, *, beams: int, max_length: int) -> Step:
        memory, patches = self._read(images, views)
        advance = decoder_steps(self.decoder, memory, patches, beams=beams, max_length=max_length)
        table = self._positions(max_length)

        def step(tokens: Tensor, position: int, parents: Tensor | None) -> Tensor:
            return self._log_probs(advance(self._embed(tokens, table[position]), parents))

        return step

    def _read(self, images: Tensor, views: Tensor | None) -> tuple[Tensor, Tensor]:
        """-> memory (B, S, d), patches (B, S) bool."""
        features, patches = self.patch_features(images, views)
        return torch.relu(self.patch_embedding(features)), patches

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(self.word_embedding(tokens) * self.config.d_model**0.5 + positions)

    def _positions(self, length: int) -> Tensor:
        return sine_positions(length, self.config.d_model).to(self.head.weight)

    def _log_probs(self, hidden: Tensor) -> Tensor:
        return F.log_softmax(exact(self.head(hidden)), dim=-1)


SYSTEM = Ratchet
