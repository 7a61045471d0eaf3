"""The model that a training starts from: new, or a trained one, whose words may be others than this training's."""

import logging
from dataclasses import asdict, fields
from pathlib import Path

import torch

from xpronet.common.weights import load_exactly
from xpronet.data.reports import END, Vocabulary
from xpronet.encoders.backbones import start_weights
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.sentences import Templated, encoded
from xpronet.model.system import Material, System, name_of, system_class
from xpronet.training.params import FRESH, Training

logger = logging.getLogger(__name__)

# How the names of weights and buffers with a row per token end.
WORDS = ("word_embedding.weight", "head.weight", "head.bias", "normal_words")
OWN = ("prototypes", "templates", "wordings")  # what a model that starts from another keeps as it was made


def build(params: Training, material: Material) -> System:
    """The system that `params` names: its config takes what it has fields for."""
    kind = system_class(params.system)
    classes, each, width = material.prototypes.shape
    wordings, _ = encoded(material.templates, material.vocabulary)
    sizes = {
        "vocab_size": len(material.vocabulary),
        "period": material.vocabulary.period,
        "templates": len(material.templates),
        "wordings": wordings.shape[0],
        "longest": wordings.shape[1],
        "n_conditions": classes,
        "d_prototype": width,
        **{name: value for name, (_, value) in params.sizes().items()},
        "n_prototypes": each,
    }
    config = kind.Config(**{field.name: sizes[field.name] for field in fields(kind.Config) if field.name in sizes})
    model = kind(config)
    weights = params.model.visual_weights if params.train.start == FRESH else "random"
    start = start_weights(
        config.backbone, weights, key="model.visual_weights", classifier="data/classifier/weights.safetensors"
    )
    if start is not None:
        model.visual.load_resnet(start)
    model.furnish(material)
    return model


def go_on(params: Training, material: Material) -> System:
    """The model of `train.start`, for this run's words, with its templates, and its prototypes or this run's."""
    start, card = checkpoint.load(params.train.start)
    params.check_start({"system": name_of(start), "sizes": asdict(start.config)})
    if start.has_prototypes:
        check_conditions(card, params.train.start)
        trained = start.prototypes.detach().unflatten(0, (len(CONDITIONS), -1))  # (K, N^p, D)
        if params.train.start_prototypes == "folder":
            material = material._replace(prototypes=trained)
        elif material.prototypes.shape[2] != trained.shape[2]:
            raise ValueError(
                f"train.start = {params.train.start!r}: its prototypes are {trained.shape[2]} wide, this run's own "
                f"{material.prototypes.shape[2]}, of other networks' features: set train.start_prototypes=folder"
            )
    if isinstance(start, Templated):
        material = material._replace(templates=start.texts(card.vocabulary))
    model = build(params, material)
    take_over(model, material.vocabulary, start, card.vocabulary, where=params.train.start)
    return model


def check_conditions(card: checkpoint.ModelCard, folder: str | Path) -> None:
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
