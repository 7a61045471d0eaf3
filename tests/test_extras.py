"""Extra scores must be asked for, say what they lack in one line, and be the packages' own."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from xpronet.encoders.bert import packaged_folder
from xpronet.evaluation import extras, statistics
from xpronet.evaluation.params import EvaluateParams


def params(**given) -> EvaluateParams:
    return EvaluateParams(**{"radgraph": None, "bertscore": None, "bertscore_layer": None, **given})


@pytest.fixture
def radgraph(tmp_path, monkeypatch):
    """A folder with weights, and a package that scores a pair by the share of equal words."""
    (tmp_path / "radgraph-xl/vocabulary").mkdir(parents=True)
    for name in ("config.json", "weights.th"):
        (tmp_path / "radgraph-xl" / name).touch()
    package = ModuleType("radgraph")

    class F1RadGraph:
        def __init__(self, reward_level, **options):
            assert reward_level == "partial"
            assert options == {"model_type": "radgraph-xl", "model_cache_dir": str(tmp_path), "cuda": -1}
            print("Using device: cpu")

        def __call__(self, refs, hyps):
            rewards = [len(set(a.split()) & set(b.split())) / 10 for a, b in zip(refs, hyps, strict=True)]
            return np.mean(rewards), rewards, [], []

    package.F1RadGraph = F1RadGraph
    monkeypatch.setitem(sys.modules, "radgraph", package)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_without_asking_there_are_none():
    assert extras.load(params(), device="cpu") == {}


def test_a_score_stands_beside_the_others_with_its_interval(radgraph, capsys):
    found = extras.load(params(radgraph=str(radgraph)), device="cpu")
    assert list(found) == ["RadGraph_F1"] and capsys.readouterr().out == ""
    references, hypotheses = ["a b c", "d e"], ["a b", "d e"]
    labels = np.ones((2, 14), np.float32)
    meteor = SimpleNamespace(statistics=lambda references, hypotheses: np.zeros((2, 23)))  # its Java is not needed here
    table = statistics.table(references, hypotheses, labels, labels, meteor=meteor, extras=found)
    assert statistics.of_all(table)["RadGraph_F1"] == pytest.approx(0.2)
    assert set(statistics.intervals(table, seed=1)) == set(statistics.of_all(table))


@pytest.mark.parametrize("package", ["radgraph", "bert_score"])
def test_a_missing_package_is_one_line(package, radgraph, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    asked = {"radgraph": str(radgraph)} if package == "radgraph" else {"bertscore": str(packaged_folder())}
    with pytest.raises(ValueError, match=r"pip install -e '.\[clinical\]'") as error:
        extras.load(params(**asked), device="cpu")
    assert "\n" not in str(error.value)


def test_missing_weights_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="has no config.json, weights.th, vocabulary: unpack radgraph-xl.tar.gz"):
        extras.load(params(radgraph=str(tmp_path)), device="cpu")
    with pytest.raises(ValueError, match="no folder with the config.json of a BERT"):
        extras.load(params(bertscore=str(tmp_path)), device="cpu")


def test_bertscore_is_the_greedy_match_of_token_vectors():
    """Against its formula, on the packaged encoder's last layer: only where the extra is installed."""
    pytest.importorskip("bert_score", reason="needs the extra: pip install -e '.[clinical]'")
    from transformers import AutoModel, AutoTokenizer

    folder = packaged_folder()
    references, hypotheses = ["the heart is large .", "no effusion .", "stable"], ["heart size is large .", "clear", ""]
    found = extras.load(params(bertscore=str(folder)), device="cpu")["BERTScore"](references, hypotheses)
    tokenizer, bert = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def vectors(text: str) -> torch.Tensor:
        return torch.nn.functional.normalize(bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0], dim=1)

    for row in range(2):
        similar = vectors(references[row]) @ vectors(hypotheses[row]).T  # special tokens may be met, but weigh nothing
        recall, precision = (similar.max(dim=side).values[1:-1].mean() for side in (1, 0))
        assert found[row] == pytest.approx(float(2 * precision * recall / (precision + recall)), abs=1e-5)
    assert found[2] == 0
