"""Global features of images: what the prototypes are clusters of (§3.2, Eq. 4-5), and where neighbours are near."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from xpronet.common.processes import ALONE, Group
from xpronet.common.progress import track
from xpronet.common.resumable import Pieces, filling
from xpronet.common.weights import fingerprint
from xpronet.data.dataset import StudyDataset, batches_of, in_order
from xpronet.encoders.backbones import WIDTH


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
    group: Group = ALONE,
    later: list[Pieces] | None = None,
) -> None:
    """Write o^i and o^if, each (N, C_1) float32, to two .npy files: as pictured and mirrored left to right, if wanted.

    A study's feature is the mean over its views of the backbone's average-pooled last convolution. Rows go to the files
    as they come and nothing is kept in memory; a killed run goes on where it stopped. Batches are the same whatever the
    number of processes and interruptions; so are the bytes, but for the rounding of fewer threads each on a CPU.

    Args:
        paths: of o^i, and of o^if or no more.
        network: a torchvision ResNet; its head is taken off.
        group: the processes that share the batches; the first one writes.
        later: as `filling` has it.

    Raises:
        ValueError: the network gives a study no numbers.
    """
    network = network.eval().to(device, memory_format=torch.channels_last)
    network.fc = nn.Identity()
    batches = in_order(len(dataset), batch_size)
    shapes = [(len(dataset), WIDTH[backbone])] * len(paths)
    key = _key(network, dataset, batch_size)
    with filling(paths, shapes, pieces=len(batches), key=key, group=group, what="features", later=later) as work:
        loaded = batches_of(dataset, [batches[piece] for piece in work.mine], workers=workers)
        shown = track(loaded, what="features", unit="batches", total=len(work.mine))
        for piece, batch in zip(work.mine, shown, strict=True):
            batch = batch.to(device)
            images = batch.images[batch.views].contiguous(memory_format=torch.channels_last)  # (n, 3, H, W)
            owner = batch.views.nonzero()[:, 0]  # (n,) which study of the batch each view belongs to
            means = []
            for mirrored in range(len(paths)):
                pooled = network(images.flip(-1) if mirrored else images).float()  # (n, C_1)
                if not pooled.isfinite().all():
                    first = batch.positions[owner[~pooled.isfinite().all(dim=1)][0]]
                    raise ValueError(
                        f"features: {dataset.name(first)}: no numbers: the weights of the network are broken"
                    )
                sums = pooled.new_zeros(len(batch.views), pooled.shape[1]).index_add_(0, owner, pooled)
                means.append((sums / batch.views.sum(dim=1, keepdim=True)).cpu().numpy())
            work.put(piece, batch.positions.cpu().numpy(), means)


def _key(network: nn.Module, dataset: StudyDataset, batch_size: int) -> str:
    """Of weights, images and batches."""
    about = batch_size, dataset.images, dataset.pack.sha256, dataset.pack.crop, Path(__file__).read_bytes()
    return fingerprint(network, *about)
