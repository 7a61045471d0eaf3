"""Reports for a dataset of studies, in its order."""

import torch

from xpronet.data.dataset import StudyDataset, loader
from xpronet.data.progress import track
from xpronet.data.reports import Vocabulary
from xpronet.model.params import DecodeParams
from xpronet.model.xpronet import XProNet


def generate_reports(
    model: XProNet,
    vocabulary: Vocabulary,
    dataset: StudyDataset,
    decode: DecodeParams,
    *,
    device: torch.device,
    workers: int = 0,
) -> tuple[list[str], list[float]]:
    """One cleaned report per study, and its summed log-probability. Leaves the model in evaluation mode."""
    model.eval()
    reports, log_probs = [], []
    for batch in track(loader(dataset, batch_size=decode.batch_size, workers=workers), what="generate", unit="batches"):
        batch = batch.to(device)
        result = model.generate(
            batch.images, batch.labels, views=batch.views, beam_size=decode.beam_size, max_length=decode.max_length
        )
        reports += [vocabulary.decode(ids) for ids in result.tokens.tolist()]
        log_probs += result.log_probs.tolist()
    return reports, log_probs
