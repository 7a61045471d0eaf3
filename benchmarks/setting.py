"""The full-size IU-Xray setting: batch 16, two 224 px views, 60 tokens, random weights, realistic labels."""

import torch

from xpronet.model.losses import Objective
from xpronet.model.xpronet import ModelConfig, XProNet

BATCH, VIEWS, SIZE, TOKENS, BEAM = 16, 2, 224, 60, 3
CONFIG = ModelConfig(vocab_size=760)
OBJECTIVE = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
PREVALENCE = (0.06, 0.11, 0.12, 0.04, 0.03, 0.01, 0.03, 0.10, 0.01, 0.04, 0.01, 0.02, 0.06)  # about IU-Xray's


def labels(batch: int) -> torch.Tensor:
    """(batch, 14) float32, No Finding where nothing is positive."""
    generator = torch.Generator().manual_seed(1)
    positive = torch.rand(batch, len(PREVALENCE), generator=generator) < torch.tensor(PREVALENCE)
    return torch.cat([positive, ~positive.any(dim=1, keepdim=True)], dim=1).float()


def model() -> XProNet:
    torch.manual_seed(1)
    return XProNet(CONFIG)


def tokens() -> torch.Tensor:
    """(BATCH, TOKENS) int64: reports of 20 to 58 words between zeros."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, CONFIG.vocab_size + 1, (BATCH, TOKENS), generator=generator)
    lengths = torch.randint(20, TOKENS - 1, (BATCH,), generator=generator)
    position = torch.arange(TOKENS)
    return ids * ((position > 0) & (position <= lengths[:, None]))


def pixels() -> torch.Tensor:
    """(BATCH, VIEWS, SIZE, SIZE) uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (BATCH, VIEWS, SIZE, SIZE), dtype=torch.uint8, generator=generator)
