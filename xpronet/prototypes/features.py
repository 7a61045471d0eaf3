"""Global features of the train split: what the prototypes are clusters of (§3.2, Eq. 4-5)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xpronet.data.dataset import StudyDataset, loader
from xpronet.data.files import replacing
from xpronet.data.progress import track
from xpronet.labels.backbones import WIDTH


@torch.inference_mode()
def write_visual_features(
    paths: Sequence[str | Path],
    network: nn.Module,
    dataset: StudyDataset,
    *,
    backbone: str,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
) -> None:
    """Write o^i and o^if, each (N, C_1) float32, to two .npy files: as pictured and mirrored left to right.

    A study's feature is the mean over its views of the backbone's average-pooled last convolution. Rows go to the files
    as they come; nothing is kept in memory.

    Args:
        network: a torchvision ResNet; its head is taken off.
    """
    network = network.eval().to(device, memory_format=torch.channels_last)
    network.fc = nn.Identity()
    with replacing(paths[0]) as beside, replacing(paths[1]) as beside_flipped:
        shape = (len(dataset), WIDTH[backbone])
        files = [np.lib.format.open_memmap(path, "w+", np.float32, shape) for path in (beside, beside_flipped)]
        for batch in track(loader(dataset, batch_size=batch_size, workers=workers), what="features", unit="batches"):
            batch = batch.to(device)
            images = batch.images[batch.views].contiguous(memory_format=torch.channels_last)  # (n, 3, H, W)
            owner = batch.views.nonzero()[:, 0]  # (n,) which study of the batch each view belongs to
            for file, pictures in zip(files, (images, images.flip(-1)), strict=True):
                pooled = network(pictures).float()  # (n, C_1)
                sums = pooled.new_zeros(len(batch.views), pooled.shape[1]).index_add_(0, owner, pooled)
                file[batch.positions.numpy()] = (sums / batch.views.sum(dim=1, keepdim=True)).cpu().numpy()
        for file in files:
            file.flush()


def write_textual_features(path: str | Path, encoder, reports: Sequence[str]) -> None:
    """Write o^t (N, C_2) float32 to a .npy file."""
    with replacing(path) as beside:
        np.save(beside, encoder.embed(reports).astype(np.float32))
