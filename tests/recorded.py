"""A dataset for tests of what trains on it: each study says in everything it has which one it is."""

import numpy as np
from torch.utils.data import Dataset

from xpronet.classifier.params import ClassifierParams

CLASSIFIER = ClassifierParams(
    backbone="resnet18",
    weights="random",
    epochs=1,
    batch_size=2,
    lr=1e-3,
    weight_decay=0.0,
    nonfinite="stop",
    precision="float32",
    sync_batch_norm=True,
    thresholds="each",
)


class Studies(Dataset):
    """Study n has pixels 50 n, the word n + 1 and the labels (N, K) it is given; the second study has two views."""

    def __init__(self, labels: np.ndarray):
        self.labels = labels.astype(np.float32)
        self.asked: list[tuple[int, int]] = []  # (epoch, study) of each item, in order

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: tuple[int, int]):
        self.asked.append(item)
        study = item[1]
        pixels = np.full((2 if study == 1 else 1, 1, 1), 50 * study, np.uint8)
        return pixels, [0, study + 1, 0], self.labels[study], study

    def name(self, study: int) -> str:
        return f"study {study}"

    def orders(self) -> list[list[int]]:
        """The studies of each epoch as they came, for epochs that came one after the other."""
        size = len(self)
        rows = [self.asked[start : start + size] for start in range(0, len(self.asked), size)]
        assert [{epoch for epoch, _ in row} for row in rows] == [{epoch} for epoch in range(len(rows))]
        return [[study for _, study in row] for row in rows]
