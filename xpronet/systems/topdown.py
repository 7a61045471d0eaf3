"""TopDown (Anderson, He, Buehler, Teney, Johnson, Gould, Zhang, CVPR 2018): one LSTM to look, one to speak.

    h1_t = LSTM1([h2_{t-1}; mean_i v_i; W_e w_t], h1_{t-1})
    alpha = softmax_i(w^T tanh(W_v v_i + W_h h1_t));   v_t = sum_i alpha_i v_i
    h2_t = LSTM2([v_t; h1_t], h2_{t-1});   p = softmax(W_p h2_t + b_p)

Its regions, which a detector of everyday things had found, are the extractor's grid here, as in its authors' own
baseline. Sizes of the paper: 1,000 for embedding and LSTMs, 512 for attention.
"""

import torch
from torch import Tensor, nn

from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import AdditiveAttention, Cell, Context, Recurrent, RecurrentConfig, State


class TopDown(Recurrent):
    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        width, channels = config.width, WIDTH[config.backbone]
        self.looking = Cell(2 * width + channels, width)
        self.keys = nn.Linear(channels, config.attention, bias=False)
        self.attention = AdditiveAttention(width, config.attention, bias=False)
        self.speaking = Cell(channels + width, width)

    def read(self, context: Context) -> Context:
        return context._replace(keys=self.keys(context.patches)[:, None])

    def start(self, context: Context, n: int) -> State:
        return tuple(self.zeros(context, n) for _ in range(4))

    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        h1, c1, h2, c2 = state
        words = self.dropout(self.word_embedding(tokens))
        image = context.pooled.to(words.dtype).expand(-1, tokens.shape[1], -1)
        h1, c1 = self.looking(torch.cat([h2, image, words], dim=-1), h1, c1)
        weights = self.attention(h1, context.keys, context.mask).to(words.dtype)  # (B, n, S)
        seen = weights @ context.patches.to(words.dtype)  # (B, n, C)
        h2, c2 = self.speaking(torch.cat([seen, h1], dim=-1), h2, c2)
        return h2, (h1, c1, h2, c2)


SYSTEM = TopDown
