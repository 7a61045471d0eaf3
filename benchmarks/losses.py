"""The contrastive loss with backward, against one product of the same size with backward."""

import torch

from benchmarks.measure import alternate, at_most
from benchmarks.setting import CONFIG, labels
from xpronet.model.losses import contrastive_loss

BATCH = 192


def rows() -> list[dict]:
    responses = torch.randn(BATCH, CONFIG.d_model, requires_grad=True)
    other = torch.randn(CONFIG.d_model, BATCH, requires_grad=True)
    positives, upstream = labels(BATCH), torch.ones(BATCH, BATCH)

    def loss() -> None:
        contrastive_loss(responses, positives, theta=1.5, alpha=0.4).backward()

    def product() -> None:
        (responses @ other).backward(upstream)

    return [at_most(f"contrastive loss, B = {BATCH}", *alternate(loss, product, repeats=500), 1.5)]
