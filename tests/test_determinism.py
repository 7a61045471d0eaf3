"""A study's report is its own: not its neighbours', not the batch size's, not the day's."""

import itertools

import numpy as np
import pytest
import torch

from tests.made import pack_of
from tests.published import RECIPE
from xpronet.data.dataset import StudyDataset
from xpronet.model.losses import Objective
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import train

SIZES = {"d_model": 32, "d_ff": 32, "heads": 4, "layers": 2, "n_prototypes": 4, "d_prototype": 20, "gamma": 4}
CONFIG = ModelConfig(vocab_size=30, backbone="resnet18", **SIZES)
STUDIES, LENGTH = 12, 20


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = XProNet(CONFIG).eval()
    with torch.no_grad():  # reports that differ
        model.patch_embedding.weight.mul_(4)
        model.head.weight.mul_(8)
    return model


@pytest.fixture(scope="module")
def studies():
    torch.manual_seed(1)
    labels = (torch.rand(STUDIES, 14) < 0.2).float()
    labels[:, 13] = (labels[:, :13].sum(dim=1) == 0).float()
    views = torch.ones(STUDIES, 2, dtype=torch.bool)
    views[::3, 1] = False
    return torch.randn(STUDIES, 2, 3, 64, 64), labels, views


def reports(model, studies, rows, beam_size=3):
    with torch.no_grad():  # so that reports end at different lengths
        model.head.bias[0] = {1: 6.0, 3: 4.0}[beam_size]
    images, labels, views = (part[rows] for part in studies)
    return model.generate(images, labels, views=views, beam_size=beam_size, max_length=LENGTH)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_any_batch_size_writes_the_same_reports(model, studies, size, beam_size):
    whole = reports(model, studies, list(range(STUDIES)), beam_size)
    lengths = {(row != 0).sum().item() for row in whole.tokens}
    assert len(lengths) > 2, "the reports should end at different lengths for this test to mean something"
    parts = [
        reports(model, studies, list(range(STUDIES))[start : start + size], beam_size)
        for start in range(0, STUDIES, size)
    ]
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
    torch.testing.assert_close(torch.cat([part.log_probs for part in parts]), whole.log_probs, rtol=0, atol=1e-4)


def test_neighbours_change_not_a_bit(model, studies):
    """Among other studies of the same number: the same tokens and the same bits of the score."""
    first, *others = (reports(model, studies, [0, *others]) for others in itertools.combinations(range(1, 12, 2), 3))
    assert len(others) == 19
    for other in others:
        assert torch.equal(first.tokens[0], other.tokens[0])
        assert first.log_probs[0] == other.log_probs[0]


def test_again_means_the_same_bytes(model, studies):
    one, two = (reports(model, studies, list(range(STUDIES))) for _ in range(2))
    assert torch.equal(one.tokens, two.tokens) and torch.equal(one.log_probs, two.log_probs)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five studies, one of two views, with windows to choose from; the dataset of a seed."""
    images = np.random.default_rng(0).integers(0, 256, (6, 70, 80), np.uint8)
    pack = pack_of(tmp_path_factory.mktemp("pack"), images, resize=70, crop=64)
    return lambda seed: StudyDataset(
        pack,
        [[0, 1], [2], [3], [4], [5]],
        tokens=[[0, 3, 4, 0], [0, 5, 6, 0], [0, 7, 0], [0, 8, 9, 0], [0, 1, 0]],
        labels=np.eye(14, dtype=np.float32)[[2, 13, 4, 2, 7]],
        augment=True,
        seed=seed,
    )


def trained(dataset, seed: int) -> dict[str, bytes]:
    """The bytes of each tensor of a network after two epochs of training, as the train stage does it."""
    torch.manual_seed(seed)
    model = XProNet(CONFIG)
    params = RECIPE.model_copy(update={"epochs": 2, "batch_size": 3, "lr": 1e-3, "lr_step": 1, "weight_decay": 0.0})
    train(
        model,
        dataset(seed),
        params,
        Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1),
        validate=lambda model: dict.fromkeys(("BLEU_1", "BLEU_4", "METEOR"), torch.rand(()).item()),
        save=lambda model: None,
        seed=seed,
        device=torch.device("cpu"),
    )
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_training_twice_gives_the_same_bytes(dataset):
    """With the augmentation and the order of each epoch; and another seed is another run."""
    once = trained(dataset, 3)
    assert trained(dataset, 3) == once
    other = trained(dataset, 4)
    assert all(other[name] != once[name] for name in once if not name.endswith("num_batches_tracked"))
