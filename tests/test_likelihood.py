"""The likelihood of real reports must be what training minimises: else models that differ by noise would be ranked."""

import numpy as np
import pytest
import torch

from tests.made import pack_of
from xpronet.data.dataset import StudyDataset, loader
from xpronet.model.losses import cross_entropy
from xpronet.model.writing import surprise
from xpronet.model.xpronet import ModelConfig, XProNet

TOKENS = [[0, 3, 4, 5, 0], [0, 1, 0], [0, 2, 2, 2, 2, 2, 0]]


def test_over_all_studies_it_is_the_cross_entropy_of_training(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 70, 80), np.uint8)
    labels = np.eye(3, 14, dtype=np.float32)
    pack = pack_of(tmp_path, images, resize=64, crop=64, train=False)
    dataset = StudyDataset(pack, [[0, 1], [2], [3]], tokens=TOKENS, labels=labels)
    torch.manual_seed(1)
    config = ModelConfig(
        vocab_size=6,
        d_model=32,
        d_ff=32,
        heads=4,
        layers=1,
        n_prototypes=4,
        gamma=2,
        d_prototype=16,
        backbone="resnet18",
    )
    model = XProNet(config)
    found = surprise(model, dataset, batch_size=2, device=torch.device("cpu"))
    assert [count for _, count in found] == [4, 2, 6]  # words and the end
    (batch,) = loader(dataset, batch_size=3)
    with torch.inference_mode():
        output = model.eval()(batch.images, batch.tokens, batch.labels, views=batch.views)
        expected = cross_entropy(output.log_probs, batch.tokens[:, 1:])
    total, count = (sum(column) for column in zip(*found, strict=True))
    assert total / count == pytest.approx(float(expected), rel=1e-5)
    one = loader(StudyDataset(pack, [[2]], tokens=TOKENS[1:2], labels=labels[1:2]), batch_size=1)
    with torch.inference_mode():
        (batch,) = one
        alone = model(batch.images, batch.tokens, batch.labels, views=batch.views).log_probs  # (1, 2, V)
    assert found[1][0] == pytest.approx(float(-alone[0, 0, 1] - alone[0, 1, 0]), rel=1e-4)
