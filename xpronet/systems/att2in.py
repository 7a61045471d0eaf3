"""ATT2IN (Rennie, Marcheret, Mroueh, Ross, Goel, CVPR 2017): attention enters the LSTM's cell, and not its gates.

    alpha = softmax_i(w^T tanh(W_aI I_i + W_ah h_{t-1} + b));   I_t = sum_i alpha_i I_i
    i, f, o = sigmoid(W_x x_t + W_h h_{t-1} + b)
    z = max(z1, z2),  [z1; z2] = W_zx x_t + W_zI I_t + W_zh h_{t-1} + b_z
    c_t = i z + f c_{t-1};   h_t = o tanh(c_t);   p = softmax(W_o h_t)

Sizes of the paper: 512 for embedding, LSTM and attention. It was published with self-critical training, which is a
second phase here (docs/systems.md).
"""

import torch
from torch import Tensor, nn

from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import AdditiveAttention, Context, Recurrent, RecurrentConfig, State


class Att2In(Recurrent):
    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.keys = nn.Linear(channels, config.attention, bias=False)  # W_aI; b is the query's
        self.attention = AdditiveAttention(width, config.attention)
        self.words = nn.Linear(width, 5 * width)  # i, f, o, z1, z2
        self.hidden = nn.Linear(width, 5 * width, bias=False)
        self.image = nn.Linear(channels, 2 * width, bias=False)  # W_zI

    def read(self, context: Context) -> Context:
        return context._replace(keys=self.keys(context.patches)[:, None])

    def start(self, context: Context, n: int) -> State:
        return self.zeros(context, n), self.zeros(context, n)

    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        h, c = state
        weights = self.attention(h, context.keys, context.mask)  # (B, n, S)
        seen = weights.to(context.patches.dtype) @ context.patches  # (B, n, C)
        width = self.config.width
        sums = self.words(self.dropout(self.word_embedding(tokens))) + self.hidden(h)  # (B, n, 5 H)
        i, f, o = torch.sigmoid(sums[..., : 3 * width]).chunk(3, dim=-1)
        z = torch.maximum(*(sums[..., 3 * width :] + self.image(seen)).chunk(2, dim=-1))
        c = i * z + f * c
        h = o * torch.tanh(c)
        return h, (h, c)


SYSTEM = Att2In
