"""The encoder of CheXbert (Smit et al., 2020; row 16), and the heads that its labeller needs, from one checkpoint.

The weights are not ours to ship: `chexbert.pth` of StanfordAIMI/RRG_scorers on the Hugging Face hub, read without
unpickling code.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from xpronet.common.weights import load_exactly, read_weights, without_prefix
from xpronet.encoders.bert import UNUSED, BertEncoder, bert_from_sizes, first_token, uncased_tokenizer

OUTPUTS = (*[4] * 13, 2)  # of the heads, in CheXbert's order of the observations: No Finding, the last, has two


def load(path: str | Path, *, heads: int = 12, device: str | torch.device = "cpu") -> tuple[BertEncoder, nn.ModuleList]:
    """The encoder on `device`, the 14 linear heads on the CPU; from the published `.pth` or the same as `.safetensors`.

    Args:
        heads: attention heads of the BERT; all other sizes are read off the shapes.

    Raises:
        ValueError: no such file, not a checkpoint, or keys that are missing, unknown or misshaped.
    """
    source = f"labels.chexbert_path: {path}"
    state = without_prefix(_read(Path(path), source), "module.", source)
    bert_state = {key.removeprefix("bert."): value for key, value in state.items() if key.startswith("bert.")}
    tokenizer = uncased_tokenizer()
    bert = bert_from_sizes(bert_state, heads=heads, source=source)
    if bert.config.vocab_size != len(tokenizer):
        raise ValueError(f"{source} has {bert.config.vocab_size} word pieces, bert-base-uncased {len(tokenizer)}")
    linear_heads = nn.ModuleList(nn.Linear(bert.config.hidden_size, outputs) for outputs in OUTPUTS)
    whole = nn.ModuleDict({"bert": bert, "linear_heads": linear_heads})
    load_exactly(whole, state, where=source, unused=[f"bert.{key}" for key in UNUSED])
    longest = min(BertEncoder.max_tokens, bert.config.max_position_embeddings)
    return BertEncoder(bert.eval().to(device), tokenizer, first_token, max_tokens=longest), linear_heads


def _read(path: Path, source: str) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f"{source} is not a file: download chexbert.pth of StanfordAIMI/RRG_scorers from the Hugging Face hub"
            " and set labels.chexbert_path to it"
        )
    try:
        loaded = read_weights(path)
    except ValueError as error:
        raise ValueError(f"labels.chexbert_path: {error}; download chexbert.pth again") from None
    if path.suffix == ".safetensors":
        return loaded
    state = loaded.get("model_state_dict") if isinstance(loaded, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{source} has no model_state_dict: it is not the published chexbert.pth")
    return state
