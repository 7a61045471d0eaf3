"""Model folders, and published checkpoints.

A folder holds `weights.safetensors` and `model.json`; nothing else is needed to generate. The image classifier, which
says what prototypes a new image may query, lies in `classifier/` beside them where there is one. Nothing is unpickled.
Until its training has ended there is a file `unfinished` too, which goes where the folder goes.
"""

import logging
import re
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xpronet.common.files import raise_all, read_json, replacing, write_json
from xpronet.common.weights import load_exactly, read_weights, save_tensors, undrawn, without_prefix
from xpronet.data.reports import Style, Vocabulary
from xpronet.labels.conditions import CONDITIONS, Order, in_our_order
from xpronet.model.system import System, name_of, system_class
from xpronet.model.xpronet import XProNet

UNFINISHED = "unfinished"  # the mark of a model folder whose weights are those of the best epoch so far

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelCard:
    """What `model.json` says beside the sizes."""

    vocabulary: Vocabulary
    conditions: tuple[str, ...]  # the order of the labels
    style: Style  # how reports were cleaned
    crop: int  # side of the square that the model sees, in pixels
    beam_size: int  # of the search on validation that chose the weights
    max_length: int  # in tokens, of the same

    def __post_init__(self):
        for name in ("crop", "beam_size", "max_length"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 1):
                raise ValueError(f"{name} {getattr(self, name)!r} must be a whole number from 1 up")
        if not all(isinstance(name, str) for name in (*self.conditions, *self.vocabulary.tokens)):
            raise ValueError("conditions and vocabulary must be texts")

    def check_data(self, *, crop: int, style: Style) -> None:
        """Raise ValueError where images or reports were not prepared as the model wants them."""
        problems = []
        if self.conditions != CONDITIONS:
            problems.append(f"its labels are {', '.join(self.conditions)}: other observations, or another order")
        if self.crop != crop:
            problems.append(f"it sees {self.crop} pixels, not {crop}: set images.crop={self.crop}")
        if self.style != style:
            problems.append(f"its reports are cleaned as {self.style}, not {style}: set reports.style={self.style}")
        raise_all("model_folder", problems)


def save(
    folder: str | Path,
    model: System,
    card: ModelCard,
    *,
    classifier: str | Path | None = None,
    unfinished: bool = False,
) -> None:
    """Write the folder as a whole or not at all, with a copy of the classifier's; `finish` ends what is unfinished."""
    with replacing(folder) as beside:
        beside.mkdir()
        if classifier:
            shutil.copytree(classifier, beside / "classifier", copy_function=shutil.copyfile)
        save_tensors(model.state_dict(), beside / "weights.safetensors")
        system = {"system": name_of(model), "sizes": asdict(model.config)}
        content = {**vars(card), "vocabulary": card.vocabulary.tokens, **system}
        write_json(beside / "model.json", content)
        if unfinished:
            (beside / UNFINISHED).touch()


def finish(folder: str | Path) -> None:
    """The training has ended."""
    Path(folder, UNFINISHED).unlink(missing_ok=True)


def load(folder: str | Path) -> tuple[System, ModelCard]:
    """The model, in evaluation mode, and its card; a line in the log where its training has not ended.

    Raises:
        ValueError: the folder is not a model folder, weights and sizes disagree, or its templates are of no words.
    """
    folder = Path(folder)
    content = read_json(folder / "model.json")
    try:
        if not isinstance(content, dict):
            raise ValueError("expected an object")
        kind = system_class(content.pop("system", "xpronet"))  # folders were of one system only, once
        config = kind.Config(**content.pop("sizes"))
        model = undrawn(lambda: kind(config))
        content["vocabulary"] = Vocabulary(content["vocabulary"])
        content["conditions"] = tuple(content["conditions"])
        card = ModelCard(**content)
        if len(card.vocabulary) != model.config.vocab_size:
            raise ValueError(f"vocabulary has {len(card.vocabulary)} words, sizes.vocab_size {model.config.vocab_size}")
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
    ) as error:  # whatever PyTorch says of odd sizes
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise ValueError(f"{folder}/model.json: not a model of this version: {reason}") from None
    again = "`dvc repro train` or `xpronet import-official` makes the folder again"
    state = read_weights(folder / "weights.safetensors", again=again)
    load_exactly(model, state, where=folder)
    raise_all(folder, odd_templates(model))
    if (folder / UNFINISHED).exists():
        logger.warning(
            "%s: its training has not ended, and these are the weights of its best epoch so far: `dvc repro`, or the "
            "command that began it, goes on with it where it was begun",
            folder,
        )
    return model.eval(), card


def odd_templates(model: System) -> list[str]:
    """What is wrong with the ids that a system of templates holds, a line each; none of a system without."""
    held, words = dict(model.named_buffers()), model.config.vocab_size
    problems = [
        f"{name} must hold ids of words, from 0 to {words}"
        for name in ("templates", "wordings")
        if name in held and not ((held[name] >= 0) & (held[name] <= words)).all()
    ]
    if "group" in held and held["group"].unique().tolist() != list(range(model.config.templates)):
        problems.append(f"group must name each of the {model.config.templates} templates, and no other")
    return problems


# Where a published key starts, and where ours does.
_ROOMS = [
    ("visual_extractor.model.", "visual.layers."),
    ("encoder_decoder.protypes", "prototypes"),
    ("encoder_decoder.memory_matrix", "memory_matrix"),  # R2GenCMN's
    ("encoder_decoder.att_embed.0.", "patch_embedding."),
    ("encoder_decoder.dim_reduction.", "prototype_projection."),
    ("encoder_decoder.fuse_feature.", "visual_fusion."),
    ("encoder_decoder.model.fuse_feature.", "textual_fusion."),
    ("encoder_decoder.cmn.", "memory."),
    ("encoder_decoder.model.tgt_embed.0.lut.", "word_embedding."),
    ("encoder_decoder.logit.", "head."),
    ("encoder_decoder.model.encoder.", "encoder."),
    ("encoder_decoder.model.decoder.", "decoder."),
]
# What may follow.
_PARTS = [
    *((f"linears.{number}.", f"{name}.") for number, name in enumerate(("query", "key", "value", "out"))),
    (".self_attn.", ".attention."),
    (".src_attn.", ".cross_attention."),
    (".w_1.", ".inner."),
    (".w_2.", ".outer."),
    *((f".sublayer.{number}.norm.", f".norms.{number}.") for number in range(3)),
    (".a_2", ".scale"),
    (".b_2", ".shift"),
]
# Computed (position tables), a second name (`model.cmn`), or heads of the 2022 release that nothing reads.
_IGNORED = re.compile(
    r"encoder_decoder\.(model\.cmn\.|model\.(src_embed\.0|tgt_embed\.1)\.pe$|(img|txt)_(cls_head|dim_reduction)\.)"
)


def our_key(published: str) -> str | None:
    """Our name of a published parameter; None where it has none."""
    return _renamed(published, _ROOMS, _PARTS)


def published_key(ours: str) -> str | None:
    """The published name of one of our parameters."""
    return _renamed(ours, *([(new, old) for old, new in pairs] for pairs in (_ROOMS, _PARTS)))


def _renamed(key: str, rooms: list[tuple[str, str]], parts: list[tuple[str, str]]) -> str | None:
    for old, new in rooms:
        if key.startswith(old):
            key = new + key.removeprefix(old)
            for before, after in parts:
                key = key.replace(before, after)
            return key
    return None


def load_official(state_dict: Mapping[str, Tensor], *, gamma: int, heads: int) -> XProNet:
    """A model from a published state dict; every size but γ and the heads is read off the shapes.

    One with a memory instead of prototypes is R2GenCMN's, and γ how many of its rows respond. Keys may start with
    `module.`; what the 2022 release has beside the network is ignored. Classes stay in the order of the checkpoint:
    `reorder_conditions` brings MIMIC-CXR's into ours (row 19).

    Raises:
        ValueError: keys are missing, unknown or misshaped; they are listed under their published names.
    """
    state, unknown = {}, {}
    for key, tensor in without_prefix(state_dict, "module.", "published state dict").items():
        ours = our_key(key)
        if ours is not None:
            state[ours] = tensor
        elif not _IGNORED.match(key):
            unknown[key] = tensor
    kind = system_class("r2gencmn" if "memory_matrix" in state else "xpronet")
    sizes = _sizes_of(state, gamma=gamma, heads=heads)
    model, number = kind(kind.Config(**sizes)), state.get("memory_matrix", state.get("prototypes")).dtype
    if number.is_floating_point:
        model.to(number)
    load_exactly(model, state | unknown, where="published state dict", name=lambda key: published_key(key) or key)
    return model.eval()


def _sizes_of(state: Mapping[str, Tensor], *, gamma: int, heads: int) -> dict[str, Any]:
    """The sizes that most keys agree on, so that a damaged one is reported and does not decide."""

    def agreed(axis: int, *patterns: str) -> int:
        found = [
            state[key].shape[axis]
            for pattern in patterns
            for key in state
            if re.fullmatch(pattern, key) and isinstance(state[key], Tensor) and state[key].dim() > axis
        ]
        if not found:
            keys = ", ".join(published_key(pattern.replace("\\", "").replace("d+", "0")) for pattern in patterns)
            raise ValueError(f"not a published XProNet state dict: nothing for {keys}")
        return statistics.mode(found)

    if "memory_matrix" in state:
        own = {"memory": agreed(0, "memory_matrix"), "top": gamma}
    else:
        rows = agreed(0, "prototypes")
        if rows % len(CONDITIONS):
            raise ValueError(
                f"published state dict: {rows} prototypes cannot be shared by {len(CONDITIONS)} observations"
            )
        own = {
            "n_conditions": len(CONDITIONS),
            "n_prototypes": rows // len(CONDITIONS),
            "d_prototype": agreed(1, "prototypes", r"prototype_projection\.weight"),
            "gamma": gamma,
        }
    deep = any(key.startswith("visual.layers.6.6.") for key in state)
    bottleneck = any(key.endswith(".conv3.weight") for key in state)
    return own | {
        "vocab_size": agreed(0, r"head\.weight", r"head\.bias", r"word_embedding\.weight") - 1,
        "backbone": ("resnet101" if deep else "resnet50") if bottleneck else "resnet18",
        "d_model": agreed(0, r"patch_embedding\.weight", r"patch_embedding\.bias", r"encoder\.norm\.scale"),
        "d_ff": agreed(0, r"encoder\.layers\.\d+\.feed_forward\.inner\.weight"),
        "heads": heads,
        "layers": len({key.split(".")[2] for key in state if key.startswith("encoder.layers.")}),
    }


def reorder_conditions(model: XProNet, order: Order) -> None:
    """Bring the prototypes of a published model into the order of CONDITIONS, in place (row 19)."""
    rows = model.prototypes.detach().unflatten(0, (len(CONDITIONS), -1))
    with torch.no_grad():
        model.prototypes.copy_(torch.from_numpy(in_our_order(rows.numpy(), order)).flatten(0, 1))
