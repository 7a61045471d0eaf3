"""What a model writes for a dataset of studies, and how likely it finds what was really written there."""

import torch

from xpronet.common.processes import ALONE, Group
from xpronet.common.progress import track
from xpronet.data.dataset import StudyDataset, in_turn, shared_batches
from xpronet.data.reports import Vocabulary
from xpronet.model.decoding import NoNumbers
from xpronet.model.losses import token_nats
from xpronet.model.system import System


def write_reports(
    model: System,
    vocabulary: Vocabulary,
    dataset: StudyDataset,
    *,
    beam_size: int,
    max_length: int,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    group: Group = ALONE,
) -> tuple[list[str], list[float]]:
    """One cleaned report per study in the dataset's order, and its summed log-probability (§3.3).

    Leaves the model in evaluation mode. The processes of a group share the batches, which are the same whatever their
    number, and each gets all reports.

    Raises:
        ValueError: the model's log-probabilities for a study are no numbers.
    """
    model.eval()
    found = []
    batches = shared_batches(dataset, batch_size=batch_size, workers=workers, group=group)
    for batch in track(batches, what="generate", unit="batches"):
        batch = batch.to(device)
        try:
            result = model.generate(
                batch.images, batch.labels, views=batch.views, beam_size=beam_size, max_length=max_length
            )
        except NoNumbers as error:
            raise _no_numbers(dataset, batch.positions[error.rows]) from None
        reports = [vocabulary.decode(ids) for ids in result.tokens.tolist()]
        found.append(list(zip(reports, result.log_probs.tolist(), strict=True)))
    written = [item for items in in_turn(found, group) for item in items]
    return [report for report, _ in written], [log_prob for _, log_prob in written]


@torch.inference_mode()
def surprise(
    model: System,
    dataset: StudyDataset,
    *,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
    group: Group = ALONE,
) -> list[tuple[float, int]]:
    """Of each study the summed negative log-probability of its own report in nats, and how many tokens that counts.

    Eq. 19 for studies under test, by teacher forcing: the end token counts, the start token does not. `dataset` has
    tokens; the model is left in evaluation mode. The group is as for `write_reports`.

    Raises:
        ValueError: the model's log-probabilities for a study are no numbers.
    """
    model.eval()
    found = []
    batches = shared_batches(dataset, batch_size=batch_size, workers=workers, group=group)
    for batch in track(batches, what="likelihood", unit="batches"):
        batch = batch.to(device)
        log_probs = model(batch.images, batch.tokens, batch.labels, views=batch.views).log_probs  # (B, T - 1, V)
        nats, counted = token_nats(log_probs, batch.tokens[:, 1:])  # (B, T - 1)
        if not nats.isfinite().all():
            raise _no_numbers(dataset, batch.positions[~nats.isfinite().all(dim=1)])
        found.append(list(zip(nats.sum(dim=1).tolist(), counted.sum(dim=1).tolist(), strict=True)))
    return [item for items in in_turn(found, group) for item in items]


def _no_numbers(dataset: StudyDataset, positions: torch.Tensor) -> ValueError:
    first, *others = positions.tolist()
    more = f" and {len(others)} more" if others else ""
    return ValueError(
        f"{dataset.name(first)}{more}: the model's log-probabilities are no numbers: its weights are broken; "
        "train again with a lower train.lr and train.lr_visual, or name another model_folder"
    )
