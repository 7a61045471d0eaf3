"""RadGraph-F1 and BERTScore: scores that need packages (`pip install -e '.[clinical]'`) and weights of their own.

Neither asks the network: the weights are folders that the parameters name, and RadGraph's encoder must be in the local
Hugging Face cache.
"""

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpronet.evaluation.params import EvaluateParams

if TYPE_CHECKING:
    import torch

Scorer = Callable[[Sequence[str], Sequence[str]], np.ndarray]  # N references, N hypotheses -> (N,)

RADGRAPH = "radgraph-xl"


def load(params: EvaluateParams, *, device: str) -> dict[str, Scorer]:
    """The extra scores that the parameters ask for, by name; none of them by default.

    Args:
        device: as `runtime.device` names it.

    Raises:
        ValueError: one line: a package or its weights are missing.
    """
    if params.radgraph is None and params.bertscore is None:
        return {}
    from xpronet.common.devices import choose  # PyTorch, which costs seconds

    scorers: dict[str, Scorer] = {}
    if params.radgraph is not None:
        scorers["RadGraph_F1"] = radgraph_f1(params.radgraph, device=choose(device))
    if params.bertscore is not None:
        scorers["BERTScore"] = bertscore(params.bertscore, layer=params.bertscore_layer, device=choose(device))
    return scorers


def radgraph_f1(folder: str | Path, *, device: "torch.device") -> Scorer:
    """F1 of the entities of a report and whether they have relations (Delbrouck et al., 2022: reward "partial")."""
    weights = Path(folder) / RADGRAPH
    missing = [name for name in ("config.json", "weights.th", "vocabulary") if not (weights / name).exists()]
    if missing:
        raise ValueError(
            f"evaluate.radgraph: {weights} has no {', '.join(missing)}: unpack {RADGRAPH}.tar.gz of"
            " StanfordAIMI/RRG_scorers (Hugging Face) there"
        )
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the package is imported
    try:
        from radgraph import F1RadGraph
    except ImportError as error:
        raise ValueError(
            f"evaluate.radgraph needs the package radgraph: pip install -e '.[clinical]' ({error})"
        ) from None
    cuda = (device.index or 0) if device.type == "cuda" else -1
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its device
        try:
            scorer = F1RadGraph(reward_level="partial", model_type=RADGRAPH, model_cache_dir=str(folder), cuda=cuda)
        except OSError as error:  # the encoder's tokeniser and configuration
            raise ValueError(
                f"evaluate.radgraph: its encoder is not in the Hugging Face cache: {' '.join(str(error).split())}"
            ) from None
    return lambda references, hypotheses: np.array(scorer(refs=list(references), hyps=list(hypotheses))[1], np.float64)


def bertscore(folder: str | Path, *, layer: int | None = None, device: "torch.device") -> Scorer:
    """F1 of BERTScore (Zhang et al., 2020) with the vectors of a BERT's layer; not rescaled, without idf.

    A pair with an empty text has 0.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(f"evaluate.bertscore: {folder} is no folder with the config.json of a BERT")
    try:
        from bert_score import BERTScorer
    except ImportError as error:
        raise ValueError(
            f"evaluate.bertscore needs the package bert-score: pip install -e '.[clinical]' ({error})"
        ) from None
    from transformers import AutoConfig

    try:
        layers = AutoConfig.from_pretrained(folder, local_files_only=True).num_hidden_layers
        scorer = BERTScorer(model_type=str(folder), num_layers=layer or layers, device=str(device))
    except (OSError, ValueError, AssertionError) as error:  # it asserts that the layer is there
        raise ValueError(f"evaluate.bertscore: {folder}: {' '.join(str(error).split())}") from None

    def score(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        pairs = list(zip(references, hypotheses, strict=True))
        there = [row for row, pair in enumerate(pairs) if all(pair)]  # the package fails on empty texts
        found = np.zeros(len(pairs))
        if there:
            f1 = scorer.score([pairs[row][1] for row in there], [pairs[row][0] for row in there])[2]
            found[there] = f1.double().numpy()
        return found

    return score
