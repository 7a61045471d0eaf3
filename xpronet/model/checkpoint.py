"""Model folders, and published checkpoints.

A folder holds `weights.safetensors` and `model.json`; nothing else is needed to generate. Nothing is ever unpickled.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file
from torch import Tensor

from xpronet.data.files import read_json, replacing, write_json
from xpronet.data.reports import Style, Vocabulary
from xpronet.model.xpronet import ModelConfig, XProNet


@dataclass(frozen=True)
class ModelCard:
    """What `model.json` says beside the sizes."""

    vocabulary: Vocabulary
    conditions: tuple[str, ...]  # the order of the labels
    style: Style  # how reports were cleaned
    resize: int  # shorter side before the random crop of training, in pixels
    crop: int  # side of the square that the model sees, in pixels
    beam_size: int
    max_length: int  # of generated reports, in tokens


def save(folder: str | Path, model: XProNet, card: ModelCard) -> None:
    """Write the folder as a whole or not at all."""
    with replacing(folder) as beside:
        beside.mkdir()
        # Contiguous copies: safetensors keeps no strides, and channels-last weights have some.
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, beside / "weights.safetensors"
        )
        content = {**vars(card), "vocabulary": card.vocabulary.tokens, "sizes": asdict(model.config)}
        write_json(beside / "model.json", content)


def load(folder: str | Path) -> tuple[XProNet, ModelCard]:
    """The model, in evaluation mode, and its card.

    Raises:
        ValueError: the folder is not a model folder, or weights and sizes disagree.
    """
    folder = Path(folder)
    content = read_json(folder / "model.json")
    try:
        model = XProNet(ModelConfig(**content.pop("sizes")))
        content["vocabulary"] = Vocabulary(content["vocabulary"])
        content["conditions"] = tuple(content["conditions"])
        card = ModelCard(**content)
        state = load_file(folder / "weights.safetensors")
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder}/model.json: not a model of this version: {error}") from None
    except (FileNotFoundError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder}/weights.safetensors: {error}") from None
    _check(state, model.state_dict(), str(folder))
    model.load_state_dict(state)
    return model.eval(), card


# Published key -> ours, in this order.
_RENAMED = [
    (r"^module\.", ""),
    (r"^visual_extractor\.model\.", "visual.layers."),
    (r"^encoder_decoder\.", ""),
    (r"^model\.(encoder|decoder)\.", r"\1."),
    (r"^protypes$", "prototypes"),
    (r"^att_embed\.0\.", "patch_embedding."),
    (r"^dim_reduction\.", "prototype_projection."),
    (r"^fuse_feature\.", "visual_fusion."),
    (r"^model\.fuse_feature\.", "textual_fusion."),
    (r"^cmn\.", "memory."),
    (r"^model\.tgt_embed\.0\.lut\.", "word_embedding."),
    (r"^logit\.", "head."),
    (r"self_attn\.", "attention."),
    (r"src_attn\.", "cross_attention."),
    (r"linears\.0\.", "query."),
    (r"linears\.1\.", "key."),
    (r"linears\.2\.", "value."),
    (r"linears\.3\.", "out."),
    (r"\.w_1\.", ".inner."),
    (r"\.w_2\.", ".outer."),
    (r"sublayer\.(\d)\.norm\.", r"norms.\1."),
    (r"\.a_2$", ".scale"),
    (r"\.b_2$", ".shift"),
]
# The position tables are computed; `model.cmn` is `cmn` under its second name.
_IGNORED = re.compile(r"^encoder_decoder\.model\.(cmn\.|.*\.pe$)")


def load_official(state_dict: Mapping[str, Tensor], *, gamma: int, heads: int) -> XProNet:
    """A model from a published state dict; every size but γ and the heads is read off the shapes.

    Raises:
        ValueError: keys are missing, unknown or misshaped; all are listed.
    """
    state = {}
    for key, tensor in state_dict.items():
        key = key.removeprefix("module.")
        if _IGNORED.match(key):
            continue
        for pattern, ours in _RENAMED:
            key = re.sub(pattern, ours, key)
        state[key] = tensor
    needed = (
        "prototypes",
        "head.weight",
        "patch_embedding.weight",
        "prototype_projection.weight",
        "encoder.layers.0.feed_forward.inner.weight",
    )
    absent = [key for key in needed if key not in state]
    if absent:
        raise ValueError(f"not a published XProNet state dict: nothing for {', '.join(absent)}")
    bottleneck = "visual.layers.4.0.conv3.weight" in state
    deep = "visual.layers.6.6.conv1.weight" in state
    prototypes = state["prototypes"]
    config = ModelConfig(
        vocab_size=len(state["head.weight"]) - 1,
        backbone=("resnet101" if deep else "resnet50") if bottleneck else "resnet18",
        d_model=len(state["patch_embedding.weight"]),
        d_ff=len(state["encoder.layers.0.feed_forward.inner.weight"]),
        heads=heads,
        layers=len({key.split(".")[2] for key in state if key.startswith("encoder.layers.")}),
        n_prototypes=len(prototypes) // 14,
        d_prototype=prototypes.shape[1],
        gamma=gamma,
    )
    model = XProNet(config).to(prototypes.dtype)
    _check(state, model.state_dict(), "published state dict")
    model.load_state_dict(state)
    return model.eval()


def _check(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: str) -> None:
    problems = [f"missing {key}" for key in sorted(set(wanted) - set(state))]
    problems += [f"unknown {key}" for key in sorted(set(state) - set(wanted))]
    problems += [
        f"{key} has shape {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if problems:
        raise ValueError(f"{where}: {len(problems)} keys do not fit: {'; '.join(problems)}")
