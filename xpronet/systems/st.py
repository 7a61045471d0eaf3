"""Show and Tell (Vinyals, Toshev, Bengio, Erhan, CVPR 2015): the image is the LSTM's first word.

    x_{-1} = W_I pooled;   x_t = W_e w_t;   p_{t+1} = softmax(W_p h_t)

The paper's cell has no biases and no tanh on its output; its authors' code has both, and so has this (docs/systems.md).
Sizes of the paper: 512 for embedding and LSTM.
"""

from torch import Tensor, nn

from xpronet.encoders.backbones import WIDTH
from xpronet.model.recurrent import Cell, Context, Recurrent, RecurrentConfig, State


class ShowAndTell(Recurrent):
    has_attention = False

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        self.image_embedding = nn.Linear(WIDTH[config.backbone], config.width)
        self.cell = Cell(config.width, config.width)

    def read(self, context: Context) -> Context:
        return context

    def start(self, context: Context, n: int) -> State:
        """The image has been read; what the LSTM says to it is thrown away."""
        image = self.dropout(self.image_embedding(context.pooled)).expand(-1, n, -1)  # (B, n, H)
        zeros = self.zeros(context, n)
        return self.cell(image, zeros, zeros)

    def step(self, tokens: Tensor, context: Context, state: State) -> tuple[Tensor, State]:
        h, c = self.cell(self.dropout(self.word_embedding(tokens)), *state)
        return h, (h, c)


SYSTEM = ShowAndTell
