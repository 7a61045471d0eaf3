"""What any model must beat: reports that need no decoder, looked up by labels or by images, or without looking at all.

All of them are train reports, and whatever chooses them is known before the test reports are.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from xpronet.common.resumable import read_array
from xpronet.data.studies import Study, of_split
from xpronet.evaluation.statistics import SEED
from xpronet.labels.table import read_labels

MOST_CANDIDATES = 2_000  # of one set of labels; more do not make its best constant better


def of_folder(
    folder: str | Path, studies: Sequence[Study], reports: Mapping[str, Sequence[str]]
) -> Callable[[str, np.ndarray], dict[str, list[str]]]:
    """(split, its predicted labels) -> the reports of each floor.

    Args:
        folder: where the stages write: labels of train, and features.
        studies: all of the dataset.
        reports: cleaned ones by split.
    """
    train = reports["train"], read_labels(Path(folder, "labels.csv"), of_split(studies, "train"))
    constant = best_constant(reports["train"], reports["val"])
    of_held_out = np.array([study.split for study in studies if study.split != "train"])
    features, held_out = (
        read_array(Path(folder, f"features/{name}.npy"), rows=rows, stage="features")
        for name, rows in (("visual", len(reports["train"])), ("held_out", len(of_held_out)))
    )
    if features.shape[1] != held_out.shape[1]:
        raise ValueError(
            f"{folder}/features: visual.npy and held_out.npy are of different networks; `dvc repro -f features` makes "
            "them again"
        )

    def look_up(split: str, predicted: np.ndarray) -> dict[str, list[str]]:
        nearest = image_neighbours(features, held_out[of_held_out == split])
        return {
            "constant": [constant] * len(predicted),
            "label_constant": label_constants(*train, predicted),
            "label_neighbour": label_neighbours(*train, predicted, seed=SEED),
            "image_neighbour": [reports["train"][row] for row in nearest],
        }

    return look_up


def best_constant(candidates: Sequence[str], references: Sequence[str]) -> str:
    """The one report that, given to every study, has the best BLEU-4 on `references` (validation's).

    Args:
        candidates: cleaned train reports; every distinct one competes, the first seen wins a tie.
    """
    distinct = list(dict.fromkeys(candidates))
    return distinct[int(constant_bleu_4(distinct, references).argmax())]


def label_constants(reports: Sequence[str], labels: np.ndarray, wanted: np.ndarray) -> list[str]:
    """For each study the one train report that is the best constant for the train studies with the same labels.

    Where no train study has them, with the nearest labels (the most frequent such set).

    Args:
        reports: N cleaned train reports.
        labels: (N, 14) 0/1 of the train studies.
        wanted: (M, 14) 0/1, what is believed of the studies under test.
    """
    best: dict[int, str] = {}  # by the first of the studies alike
    for rows in (alike := _alike(labels, wanted)):
        if rows[0] not in best:
            texts = [reports[row] for row in rows[:MOST_CANDIDATES]]
            best[rows[0]] = best_constant(texts, texts)
    return [best[rows[0]] for rows in alike]


def label_neighbours(reports: Sequence[str], labels: np.ndarray, wanted: np.ndarray, *, seed: int) -> list[str]:
    """For each study the report of one train study with the same or the nearest labels, drawn by `seed`.

    Arguments as `label_constants`.
    """
    random = np.random.default_rng(seed)
    return [reports[random.choice(rows)] for rows in _alike(labels, wanted)]


def _alike(labels: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """For each row of `wanted` (M, 14) the rows of `labels` (N, 14) with the set of labels that differs least from it.

    Of sets that differ as little, the most frequent.
    """
    sets, of_study, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)  # (S, 14), (N,), (S,)
    frequent = np.argsort(-sizes, kind="stable")
    sets = sets[frequent]
    different = wanted.sum(axis=1)[:, None] + sets.sum(axis=1) - 2 * wanted @ sets.T  # (M, S) of 0/1 labels
    nearest = frequent[different.argmin(axis=1)]  # (M,): the first of equals is the most frequent
    rows = {each: np.flatnonzero(of_study == each) for each in np.unique(nearest)}
    return [rows[each] for each in nearest]


def image_neighbours(train: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Row (M,) of the train features (N, C) at the highest cosine similarity to each of (M, C); the first wins a tie.

    `train` may be a memory map: it is read once, in pieces.
    """
    queries = _at_length_one(held_out)
    best, row = np.full(len(queries), -np.inf, np.float32), np.zeros(len(queries), np.int64)
    for start in range(0, len(train), 10_000):
        similar = queries @ _at_length_one(train[start : start + 10_000]).T  # (M, n)
        first, value = similar.argmax(axis=1), similar.max(axis=1)
        row, best = np.where(value > best, start + first, row), np.maximum(value, best)
    return row


def _at_length_one(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def constant_bleu_4(candidates: Sequence[str], references: Sequence[str], *, leave_own_out: bool = False) -> np.ndarray:
    """BLEU-4 (C,) of each of C candidates as the hypothesis for all R references; pycocoevalcap's to 1e-6.

    With `leave_own_out` the candidates are the references, and each is held against the others.

    An n-gram that a candidate has c times matches, over all references, as often as there are references with it at
    least once, twice, … c times. So the references are counted once, whatever the number of candidates.
    """
    lengths, target = (np.array([len(text.split()) for text in texts]) for texts in (candidates, references))
    log_precision, compared = np.zeros(len(candidates)), len(references) - leave_own_out
    for n in range(1, 5):
        guesses = compared * np.maximum(lengths - n + 1, 0)
        if target.max() < n:  # no reference has an n-gram
            log_precision += np.log(1e-15 / (guesses + 1e-9)) / 4
            continue
        counter = CountVectorizer(ngram_range=(n, n), tokenizer=str.split, token_pattern=None, lowercase=False)
        wanted = counter.fit_transform(references).tocoo()  # (R, G)
        has_at_least = np.zeros((wanted.data.max() + 1, wanted.shape[1]))  # [c, g]: references with g at least c times
        for count in range(1, len(has_at_least)):
            has_at_least[count] = np.bincount(wanted.col[wanted.data >= count], minlength=wanted.shape[1])
        matches_up_to = has_at_least.cumsum(axis=0)
        offered = counter.transform(candidates).tocoo()  # (C, G): n-grams that no reference has cannot match
        matched = matches_up_to[np.minimum(offered.data, len(has_at_least) - 1), offered.col]
        matched = matched - leave_own_out * offered.data  # its own count up to itself
        matches = np.bincount(offered.row, weights=matched, minlength=len(candidates))  # (C,)
        log_precision += np.log((matches + 1e-15) / (guesses + 1e-9)) / 4
    ratio = compared * np.maximum(lengths, 1) / np.maximum(target.sum() - leave_own_out * lengths, 1e-9)
    return np.exp(log_precision + np.minimum(0, 1 - 1 / ratio))  # with the brevity penalty
