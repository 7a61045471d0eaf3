"""Prototypes are the cluster means of their own class's features, whatever the class's size."""

import logging

import numpy as np
import pytest

from xpronet.prototypes import kmeans
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


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_one_line(value):
    visual, flipped, textual, labels = features()
    textual[5, 1] = value
    with pytest.raises(ValueError, match="^data/features: some are no numbers; `dvc repro -f features`[^\n]*$"):
        prototype_matrix(visual, flipped, textual, labels, conditions=NAMES, n_prototypes=4, flips="joint", seed=1)


def clouds(n, width=6, seed=0):
    """Features of n studies around 5 centres, one label for all and one for a third."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(5, width)) * 4
    visual, flipped = ((centres[random.integers(0, 5, n)] + random.normal(size=(n, width))) for _ in range(2))
    labels = np.ones((n, 2), np.float32)
    labels[n // 3 :, 1] = 0
    return visual.astype(np.float32), flipped.astype(np.float32), random.normal(size=(n, 2)).astype(np.float32), labels


@pytest.mark.parametrize("flips", ["joint", "separate"])
def test_mini_batches_beyond_a_size_come_as_near_to_the_rows(monkeypatch, flips):
    options = {"conditions": NAMES[:2], "n_prototypes": 8, "flips": flips, "seed": 1}
    exact, exact_table = prototype_matrix(*clouds(3000), **options)
    monkeypatch.setattr(kmeans, "EXACT_ROWS", 500)
    monkeypatch.setattr(kmeans, "BATCH_ROWS", 200)
    found, table = prototype_matrix(*clouds(3000), **options)
    assert found.shape == exact.shape and not np.array_equal(found, exact)
    for ours, theirs in zip(table, exact_table, strict=True):
        assert ours["inertia"] == pytest.approx(theirs["inertia"], rel=0.03)
    np.testing.assert_array_equal(found, prototype_matrix(*clouds(3000), **options)[0])


def test_no_more_rows_are_read_at_once_than_a_sample(monkeypatch):
    """What is held does not grow with the dataset."""
    taken, take = [], kmeans.Rows.take

    def counting(self, rows):
        taken.append(len(rows))
        return take(self, rows)

    monkeypatch.setattr(kmeans.Rows, "take", counting)
    monkeypatch.setattr(kmeans, "EXACT_ROWS", 500)
    monkeypatch.setattr(kmeans, "BATCH_ROWS", 200)
    prototype_matrix(*clouds(3000), conditions=NAMES[:2], n_prototypes=4, flips="joint", seed=1)
    assert max(taken) == 500


def test_memory_mapped_features_give_the_same_matrix(tmp_path):
    arrays = features()
    mapped = []
    for n, array in enumerate(arrays[:3]):
        np.save(tmp_path / f"{n}.npy", array)
        mapped.append(np.load(tmp_path / f"{n}.npy", mmap_mode="r"))
    found, _ = prototype_matrix(*mapped, arrays[3], conditions=NAMES, n_prototypes=4, flips="joint", seed=1)
    np.testing.assert_array_equal(found, matrix()[0])
