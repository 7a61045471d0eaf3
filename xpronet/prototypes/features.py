"""Global features of images: what the prototypes are clusters of (§3.2, Eq. 4-5), and where neighbours are near."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from xpronet.common.progress import track
from xpronet.common.resumable import Pieces
from xpronet.common.shortage import explain
from xpronet.common.threads import take
from xpronet.data.dataset import StudyDataset, batches_of
from xpronet.encoders.backbones import WIDTH

logger = logging.getLogger(__name__)


def write_visual_features(
    paths: Sequence[str | Path],
    network: nn.Module,
    dataset: StudyDataset,
    *,
    backbone: str,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    processes: int = 1,
    threads: int | None = None,
) -> None:
    """Write o^i and o^if, each (N, C_1) float32, to two .npy files: as pictured and mirrored left to right, if wanted.

    A study's feature is the mean over its views of the backbone's average-pooled last convolution. Rows go to the files
    as they come and nothing is kept in memory; a killed run goes on where it stopped. Batches are the same whatever the
    number of processes and interruptions; so are the bytes, but for the rounding of fewer threads each on a CPU.

    Args:
        paths: of o^i, and of o^if or no more.
        network: a torchvision ResNet; its head is taken off.
        processes: on CUDA each takes the next device, on a CPU its share of the cores.
        threads: of each process, in place of that share.

    Raises:
        ValueError: a process died, or the network gives a study no numbers.
    """
    network = network.eval().to(memory_format=torch.channels_last)
    network.fc = nn.Identity()
    batches = [range(first, min(first + batch_size, len(dataset))) for first in range(0, len(dataset), batch_size)]
    shape = (len(dataset), WIDTH[backbone])
    pieces = Pieces(paths, [shape] * len(paths), pieces=len(batches), key=_key(network, dataset, batch_size))
    left = pieces.left()
    if len(left) < len(batches):
        logger.info("features: an earlier run has left %d of %d batches", len(batches) - len(left), len(batches))
    work = (pieces, network, dataset, batches, left, device, workers, processes, threads)
    if processes == 1:
        _extract(0, *work)
    else:
        try:
            torch.multiprocessing.spawn(_extract, args=work, nprocs=processes)
        except torch.multiprocessing.ProcessExitedException as error:
            raise ValueError(f"features: {error}; run again to go on") from None
        except torch.multiprocessing.ProcessRaisedException as error:  # its text is a traceback
            reason = RuntimeError(str(error).strip().splitlines()[-1])
            raise ValueError(f"features: {explain(reason) or reason}; run again to go on") from error
    pieces.finish()


@torch.inference_mode()
def _extract(
    process: int,
    pieces: Pieces,
    network: nn.Module,
    dataset: StudyDataset,
    batches: Sequence[range],
    left: Sequence[int],
    device: torch.device,
    workers: int,
    processes: int,
    threads: int | None,
) -> None:
    """Every `processes`-th of the batches that are left."""
    take(threads)
    if processes > 1 and device.type == "cuda":
        device = torch.device("cuda", process % torch.cuda.device_count())
    elif processes > 1 and threads is None:
        take(max(1, torch.get_num_threads() // processes))
    mine = left[process::processes]
    network = network.to(device)
    files, done = pieces.open()
    loaded = batches_of(dataset, [batches[piece] for piece in mine], workers=workers)
    for piece, batch in zip(mine, track(loaded, what="features", unit="batches", total=len(mine)), strict=True):
        batch = batch.to(device)
        images = batch.images[batch.views].contiguous(memory_format=torch.channels_last)  # (n, 3, H, W)
        owner = batch.views.nonzero()[:, 0]  # (n,) which study of the batch each view belongs to
        for mirrored, file in enumerate(files):
            pooled = network(images.flip(-1) if mirrored else images).float()  # (n, C_1)
            if not pooled.isfinite().all():
                first = batch.positions[owner[~pooled.isfinite().all(dim=1)][0]]
                raise ValueError(f"features: {dataset.name(first)}: no numbers: the weights of the network are broken")
            sums = pooled.new_zeros(len(batch.views), pooled.shape[1]).index_add_(0, owner, pooled)
            file[batch.positions.cpu().numpy()] = (sums / batch.views.sum(dim=1, keepdim=True)).cpu().numpy()
        done[piece] = 1


def _key(network: nn.Module, dataset: StudyDataset, batch_size: int) -> str:
    """SHA-256 over weights, images and batches."""
    key = hashlib.sha256(f"{batch_size} {dataset.images} {dataset.pack.sha256} {dataset.pack.crop}".encode())
    for name, tensor in network.state_dict().items():
        key.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    key.update(Path(__file__).read_bytes())
    return key.hexdigest()
