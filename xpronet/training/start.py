"""Training that starts from a trained model: its weights, whose words may be others than this training's."""

import logging
from pathlib import Path

import torch

from xpronet.common.weights import load_exactly
from xpronet.data.reports import END, Vocabulary
from xpronet.labels.conditions import CONDITIONS
from xpronet.model.checkpoint import ModelCard
from xpronet.model.system import System

logger = logging.getLogger(__name__)

# How the names of weights and buffers with a row per token end.
WORDS = ("word_embedding.weight", "head.weight", "head.bias", "normal_words")
OWN = ("prototypes", "templates", "wordings")  # what a model that starts from another keeps as it was made


def check_conditions(card: ModelCard, folder: str | Path) -> None:
    """Raise ValueError where a model's prototypes belong to other observations than the labels."""
    if card.conditions != CONDITIONS:
        raise ValueError(
            f"train.start = {str(folder)!r}: its labels are {', '.join(card.conditions)}: other observations, or "
            "another order"
        )


def take_over(model: System, vocabulary: Vocabulary, start: System, known: Vocabulary, *, where: str | Path) -> None:
    """Give `model` the weights and buffers of `start`, in place; its prototypes and templates stay its own.

    The rows of embedding and output move by word, and those of words that `start` does not know stay as they are.

    Args:
        vocabulary: of `model`.
        known: of `start`.
        where: it lies, for the log and for errors.

    Raises:
        ValueError: other sizes.
    """
    own, state = model.state_dict(), start.state_dict()
    theirs = {token: id for id, token in enumerate(known.tokens, start=1)}
    shared = [(id, theirs[token]) for id, token in enumerate(vocabulary.tokens, start=1) if token in theirs]
    into, out_of = torch.tensor([(END, END), *shared]).T
    for name in (key for key in own if key.endswith(WORDS) and key in state):
        rows = own[name].clone()
        rows[into] = state[name][out_of]
        state[name] = rows
    state |= {name: own[name] for name in OWN if name in own}
    load_exactly(model, state, where=where)
    logger.info(
        "starts from %s: it knows %d of the %d words, the others start anew", where, len(shared), len(vocabulary)
    )
