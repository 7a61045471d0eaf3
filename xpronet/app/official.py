"""Published checkpoints as model folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from xpronet.app.settings import SETTINGS
from xpronet.classifier import network
from xpronet.common.weights import read_weights
from xpronet.common.wording import number
from xpronet.data.reports import Vocabulary, clean_report
from xpronet.data.studies import of_split, read_annotation
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint


def convert(
    path: Path,
    annotation: Path,
    dataset: Literal["iu_xray", "mimic_cxr"],
    out: Path,
    *,
    gamma: int,
    heads: int,
    min_count: int | None = None,
    classifier: Path | None = None,
) -> str:
    """Write the model folder `out` and say in a line what it holds.

    Args:
        classifier: a folder of stage classify, to go with it.

    Raises:
        ValueError: `out` exists, a file is missing or broken, keys do not fit, or the vocabulary has another size.
    """
    if out.exists():
        raise ValueError(f"{out} exists: name a new folder, or remove it first")
    published = SETTINGS[dataset]
    min_count = min_count or published.min_count
    if classifier:
        network.load(classifier)
    state = read_state_dict(path)
    train = of_split(read_annotation(annotation), "train")
    vocabulary = Vocabulary.build((clean_report(study.report, dataset) for study in train), min_count)
    model = checkpoint.load_official(state, gamma=gamma, heads=heads)
    if len(vocabulary) != model.config.vocab_size:
        raise ValueError(
            f"{path} writes {model.config.vocab_size} words, but {len(vocabulary)} occur at least {min_count} times in "
            f"the train split of {annotation}: give the annotation that it was trained with, or its --min-count"
        )
    if model.has_prototypes:
        checkpoint.reorder_conditions(model, published.order)
    card = checkpoint.ModelCard(
        vocabulary=vocabulary,
        conditions=CONDITIONS,
        style=dataset,
        crop=224,
        beam_size=3,
        max_length=published.max_length,
    )
    checkpoint.save(out, model, card, classifier=classifier)
    config = model.config
    if model.has_prototypes:
        memory = f"{config.n_prototypes} prototypes per observation (gamma {gamma})"
    else:
        memory = f"a memory of {config.memory} rows (top {gamma}), as R2GenCMN has it"
    return (
        f"{out}: {config.backbone}, {number(config.layers, 'layer')} of width {config.d_model} "
        f"with {number(heads, 'head')}, {memory}, {len(vocabulary)} words, "
        f"{f'labels by {classifier}' if classifier else 'no classifier of labels'}"
    )


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """The weights in a published checkpoint, or in a file that holds nothing else."""
    content = read_weights(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a checkpoint with a state_dict, got {type(content).__name__}")
    return content
