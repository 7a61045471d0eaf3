"""The 14 CheXpert observations, their order, and the classes that a labeller gives each (paper §3.2, Eq. 3).

The order is CheXbert's, No Finding last; row 19 of docs/paper-and-code.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

CONDITIONS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
NO_FINDING = CONDITIONS.index("No Finding")
SUPPORT_DEVICES = CONDITIONS.index("Support Devices")  # no disease: No Finding may stand beside it

BLANK, POSITIVE, NEGATIVE, UNCERTAIN = range(4)

Uncertain = Literal["positive", "negative"]
Order = Literal["chexbert", "alphabetical"]  # of the classes in published files: IU-Xray's, MIMIC-CXR's (row 19)


# MIMIC-CXR's published labels: the columns of mimic-cxr-2.0.0-chexpert.csv, No Finding moved to the end (row 19).
ALPHABETICAL = (*sorted(CONDITIONS[:-1]), CONDITIONS[-1])
ORDERS = {"chexbert": CONDITIONS, "alphabetical": ALPHABETICAL}


def in_our_order(values: np.ndarray, order: Order) -> np.ndarray:
    """What was published per class along the first axis, in the order of CONDITIONS (row 19)."""
    return values[[ORDERS[order].index(condition) for condition in CONDITIONS]]


def pseudo_labels(classes: np.ndarray, *, uncertain: Uncertain = "positive") -> np.ndarray:
    """Turn labeller classes (N, 14) into 0/1 pseudo labels (N, 14) float32, Eq. 3.

    Uncertain counts as `uncertain` says (row 17). No Finding is forced on where nothing else is positive, so that no
    study is without a label (rows 18 and 35); beside Support Devices it may stand, as in CheXbert.
    """
    labels = classes == POSITIVE
    if uncertain == "positive":
        labels = labels | (classes == UNCERTAIN)
    labels[:, NO_FINDING] |= ~np.delete(labels, NO_FINDING, axis=1).any(axis=1)
    return labels.astype(np.float32)  # Eq. 3


def true_labels(states: Sequence[Mapping[str, Any] | None]) -> np.ndarray | None:
    """(N, 14) float32 of what phantoms were drawn from; None where a study is no phantom."""
    if any(state is None for state in states):
        return None
    rows = [[condition in state["observations"] for condition in CONDITIONS] for state in states]
    return np.array(rows, np.float32).reshape(-1, len(CONDITIONS))
