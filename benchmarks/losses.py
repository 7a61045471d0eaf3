"""The contrastive loss against one product of the same size, and dropout against PyTorch's, each with backward."""

import torch
import torch.nn.functional as F

from benchmarks.measure import alternate, at_most
from benchmarks.setting import CONFIG, labels
from xpronet.common.shares import dropout
from xpronet.model.losses import contrastive_loss

BATCH = 192
PATCHES = (16, 98, CONFIG.d_model)  # of a batch


def rows() -> list[dict]:
    responses = torch.randn(BATCH, CONFIG.d_model, requires_grad=True)
    other = torch.randn(CONFIG.d_model, BATCH, requires_grad=True)
    positives, upstream = labels(BATCH), torch.ones(BATCH, BATCH)

    def loss() -> None:
        contrastive_loss(responses, positives, theta=1.5, alpha=0.4).backward()

    def product() -> None:
        (responses @ other).backward(upstream)

    patches = torch.randn(PATCHES, requires_grad=True)
    return [
        at_most(f"contrastive loss, B = {BATCH}", *alternate(loss, product, repeats=500), 1.5),
        at_most(
            "dropout of a batch's patches",
            *alternate(
                lambda: dropout(patches, CONFIG.dropout, True).sum().backward(),
                lambda: F.dropout(patches, CONFIG.dropout, True).sum().backward(),
                repeats=100,
            ),
            1,
        ),
    ]
