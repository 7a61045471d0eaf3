"""Prototypes are the cluster means of their own class's features, whatever the class's size."""

import logging

import numpy as np
import pytest

from xpronet.prototypes.kmeans import prototype_matrix, random_matrix

NAMES = ("many", "few", "none")


def features(n=40):
    random = np.random.default_rng(0)
    visual = random.normal(size=(n, 3)).astype(np.float32)
    labels = np.zeros((n, 3), np.float32)
    labels[:, 0] = 1
    labels[:3, 1] = 1
    return visual, visual[:, ::-1].copy(), random.normal(size=(n, 2)).astype(np.float32), labels


def matrix(n_prototypes=4, flips="joint", seed=1):
    return prototype_matrix(*features(), conditions=NAMES, n_prototypes=n_prototypes, flips=flips, seed=seed)


def test_each_prototype_is_the_mean_of_the_rows_nearest_to_it():
    prototypes, table = matrix()
    visual, flipped, textual, _ = features()
    rows = np.concatenate([np.concatenate([side, textual], axis=1) for side in (visual, flipped)])  # Eq. 5
    nearest = ((rows[:, None] - prototypes[0][None]) ** 2).sum(axis=2).argmin(axis=1)
    for j in range(4):
        np.testing.assert_allclose(prototypes[0, j], rows[nearest == j].mean(axis=0), atol=1e-5)  # Eq. 7
    assert table[0]["studies"] == 40
    assert table[0]["inertia"] == pytest.approx(((rows - prototypes[0][nearest]) ** 2).sum(), rel=1e-4)


def test_separate_orientations_flipped_first():
    prototypes, _ = matrix(flips="separate")
    visual, flipped, textual, _ = features()
    for half, side in ((prototypes[0, :2], flipped), (prototypes[0, 2:], visual)):
        rows = np.concatenate([side, textual], axis=1)
        nearest = ((rows[:, None] - half[None]) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_allclose(half, [rows[nearest == j].mean(axis=0) for j in range(2)], atol=1e-5)


def test_small_and_empty_classes_are_filled_and_told(caplog):
    with caplog.at_level(logging.WARNING):
        prototypes, table = matrix(n_prototypes=8)
    assert prototypes.shape == (3, 8, 5)
    assert np.isfinite(prototypes).all()
    assert len(np.unique(prototypes[1], axis=0)) == 8  # six rows, two repeat with noise
    assert [row["studies"] for row in table] == [40, 3, 0]
    assert "few: 6 distinct rows for 8 prototypes" in caplog.text
    assert "none: no training study has it" in caplog.text


def test_the_seed_decides():
    np.testing.assert_array_equal(matrix()[0], matrix()[0])
    assert not np.array_equal(matrix()[0], matrix(seed=2)[0])
    assert random_matrix(14, 20, 64, seed=1).std() == pytest.approx(1 / 8, rel=0.05)  # N(0, 1/D)


def test_separate_needs_an_even_number():
    with pytest.raises(ValueError, match="separate needs an even n_prototypes, got 5"):
        matrix(n_prototypes=5, flips="separate")
