"""ADAATT (Lu, Xiong, Parikh, Socher, CVPR 2017): a visual sentinel, where no patch is worth a look.

    v_i = ReLU(W_a a_i);   v^g = ReLU(W_b mean_i a_i);   h_t, m_t = LSTM([w_t; v^g], h_{t-1}, m_{t-1})
    g_t = sigmoid(W_x x_t + W_h h_{t-1});   s_t = g_t tanh(m_t)
    z_i = w^T tanh(W_v v_i + W_g h_t);   z_{k+1} = w^T tanh(W_s s_t + W_g h_t)
    alpha = softmax([z; z_{k+1}]);   c_t = sum_i alpha_i v_i + alpha_{k+1} s_t;   p = softmax(W_p (c_t + h_t))

alpha_{k+1} is the paper's beta. Sizes of the paper: 512 throughout.
"""

import torch
from torch import Tensor, nn

from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import AdditiveAttention, Cell, Context, Recurrent, RecurrentConfig, State


class AdaptiveAttention(Recurrent):
    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.patch_embedding = nn.Linear(channels, width)  # W_a
        self.image_embedding = nn.Linear(channels, width)  # W_b
        self.cell = Cell(2 * width, width)
        self.gate_input, self.gate_hidden = nn.Linear(2 * width, width), nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, config.attention, bias=False)  # W_v
        self.sentinel_key = nn.Linear(width, config.attention, bias=False)  # W_s
        self.attention = AdditiveAttention(width, config.attention)  # W_g

    def read(self, context: Context) -> Context:
        patches = self.dropout(torch.relu(self.patch_embedding(context.patches)))  # (B, S, H)
        pooled = self.dropout(torch.relu(self.image_embedding(context.pooled)))  # (B, 1, H)
        return Context(patches, context.mask, pooled, self.keys(patches)[:, None])

    def start(self, context: Context, n: int) -> State:
        return self.zeros(context, n), self.zeros(context, n)

    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        words = self.dropout(self.word_embedding(tokens))
        x = torch.cat([words, context.pooled.expand_as(words)], dim=-1)  # (B, n, 2 H)
        before = state[0]
        h, m = self.cell(x, *state)
        sentinel = torch.sigmoid(self.gate_input(x) + self.gate_hidden(before)) * torch.tanh(m)  # (B, n, H)
        weights = self.attention(h, context.keys, context.mask, self.sentinel_key(sentinel)).to(
            h.dtype
        )  # (B, n, S + 1)
        seen = weights[..., :-1] @ context.patches + weights[..., -1:] * sentinel
        return seen + h, (h, m)


SYSTEM = AdaptiveAttention
