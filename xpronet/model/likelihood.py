"""How likely a model finds the reports that were really written: Eq. 19 for studies under test, by teacher forcing."""

import torch

from xpronet.data.dataset import StudyDataset, loader
from xpronet.data.progress import track
from xpronet.model.losses import token_mask
from xpronet.model.xpronet import XProNet


@torch.inference_mode()
def surprise(
    model: XProNet, dataset: StudyDataset, *, batch_size: int, device: torch.device, workers: int = 0
) -> list[tuple[float, int]]:
    """Of each study the summed negative log-probability of its own report in nats, and how many tokens that counts.

    The end token counts, the start token does not. `dataset` has tokens; the model is left in evaluation mode.
    """
    model.eval()
    found = []
    for batch in track(loader(dataset, batch_size=batch_size, workers=workers), what="likelihood", unit="batches"):
        batch = batch.to(device)
        log_probs = model(batch.images, batch.tokens, batch.labels, views=batch.views).log_probs  # (B, T - 1, V)
        targets = batch.tokens[:, 1:]  # (B, T - 1)
        there = token_mask(targets)
        values = -log_probs.float().gather(2, targets[..., None])[..., 0] * there
        found += zip(values.sum(dim=1).tolist(), there.sum(dim=1).int().tolist(), strict=True)
    return found
