"""Pseudo labels come from CheXbert: a label that differs from the published labeller's changes all that follows."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertModel

from stages import label as label_stage
from tests.conftest import launching
from xpronet.data.studies import Study, write_annotation
from xpronet.encoders.bert import BertEncoder, uncased_tokenizer
from xpronet.labels.chexbert import CheXbert, probabilities
from xpronet.labels.conditions import CONDITIONS, NEGATIVE, NO_FINDING, pseudo_labels
from xpronet.labels.table import read_labels

REPORTS = [
    "no acute findings .",
    "",
    "The heart is enlarged.\n\n  Small left\u2003pleural effusion, possible\tpneumonia.\r\n",
    "lungs are clear . " * 40,
    "stable .",
    "word " * 700,  # more than 512 ids
    "pneumothorax on the right side",
]


@pytest.fixture(scope="module")
def reference():
    """A labeller in the published layout, with large random weights so that every word counts."""
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24)
    heads = nn.ModuleList(nn.Linear(16, 2 if name == "No Finding" else 4) for name in CONDITIONS)
    labeller = nn.ModuleDict({"bert": BertModel(config), "linear_heads": heads}).eval()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in labeller.parameters():
            weights.add_(torch.randn(weights.shape, generator=random), alpha=0.3)
    return labeller


@pytest.fixture(scope="module")
def state(reference):
    return {f"module.{key}": value.contiguous() for key, value in reference.state_dict().items()}


@pytest.fixture(scope="module")
def published(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("chexbert") / "chexbert.pth"
    torch.save({"epoch": 7, "model_state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def labeller(published):
    return CheXbert.from_checkpoint(published, heads=4)


def test_published_labeller_is_reproduced(shared):
    """Ids, classes, logits and [CLS] vectors of 84 texts, long, empty and odd ones included."""
    folder = shared / "golden/chexbert"
    rows = json.loads((folder / "texts.json").read_text(encoding="utf-8"))["rows"]
    expected = np.load(folder / "outputs.npz")
    labeller = CheXbert.from_checkpoint(folder / "model_state_dict.safetensors", heads=2)
    texts = [row["text"] for row in rows]

    assert {row["name"] for row in rows if labeller.encoder.token_ids(row["text"]) != row["input_ids"]} == set()
    vectors = labeller.embed(texts)
    logits = labeller.head_logits(vectors)
    np.testing.assert_allclose(vectors, expected["cls"], rtol=0, atol=1e-4)
    for k in range(len(CONDITIONS)):
        head = expected[f"logits_{k:02d}"]
        np.testing.assert_allclose(logits[:, k, : head.shape[1]], head, rtol=0, atol=1e-3, err_msg=CONDITIONS[k])
    np.testing.assert_array_equal(labeller.label(texts), expected["classes"])


def test_a_killed_labelling_goes_on_to_the_same_logits(labeller, tmp_path, monkeypatch):
    """270,000 reports take hours on one GPU: a power cut must not cost them."""
    reports = [f"{text} {n}" for n in range(30) for text in REPORTS[:5]]  # five batches
    expected, encode, encoded = labeller.logits(reports), BertEncoder._encode, []

    def dying(self, ids):
        if len(encoded) == 3:
            raise KeyboardInterrupt
        encoded.append(len(ids))
        return encode(self, ids)

    monkeypatch.setattr(BertEncoder, "_encode", dying)
    with pytest.raises(KeyboardInterrupt):
        labeller.logits_beside(tmp_path / "chexbert", reports)
    monkeypatch.setattr(BertEncoder, "_encode", lambda self, ids: encoded.append(len(ids)) or encode(self, ids))
    found = labeller.logits_beside(tmp_path / "chexbert", reports)
    assert len(encoded) == 5 and (found == expected).all()
    assert list(tmp_path.iterdir()) == []


def test_probabilities_are_those_of_the_classes_that_count_as_present(labeller):
    logits = labeller.logits(REPORTS)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    found = probabilities(logits, uncertain="positive")
    np.testing.assert_allclose(found, shares[:, :, 1] + shares[:, :, 3], atol=1e-6)
    np.testing.assert_allclose(probabilities(logits, uncertain="negative"), shares[:, :, 1], atol=1e-6)
    assert (found[:, NO_FINDING] == probabilities(logits, uncertain="negative")[:, NO_FINDING]).all()  # never uncertain


@torch.inference_mode()
def test_each_report_gets_the_model_s_own_answer_in_input_order(reference, labeller):
    """Reports are batched by length: labels must still come back to the report that they belong to."""
    logits, vectors = labeller.logits(REPORTS), labeller.embed(REPORTS)

    assert (logits.shape, logits.dtype) == ((7, 14, 4), np.float32)
    assert (vectors.shape, vectors.dtype) == ((7, 16), np.float32)
    tokenizer = uncased_tokenizer()
    for report, own_logits, own_vector in zip(REPORTS, logits, vectors, strict=True):
        pieces = tokenizer.tokenize(report)[:510]
        ids = [101, *tokenizer.convert_tokens_to_ids(pieces), 102]  # alone, without padding
        vector = reference["bert"](input_ids=torch.tensor([ids])).last_hidden_state[0, 0]
        np.testing.assert_allclose(own_vector, vector, rtol=0, atol=1e-4, err_msg=report[:30])
        for k, head in enumerate(reference["linear_heads"]):
            np.testing.assert_allclose(own_logits[k, : head.out_features], head(vector), rtol=0, atol=1e-4)


def test_a_report_s_logits_do_not_depend_on_its_neighbours(labeller):
    """A study's label would otherwise change when another study joins the dataset."""
    together = labeller.logits(REPORTS)
    np.testing.assert_allclose(labeller.logits(REPORTS[::-1])[::-1], together, rtol=0, atol=1e-4)
    alone = np.concatenate([labeller.logits([report]) for report in REPORTS])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-4)
    many = labeller.logits(REPORTS + [f"report {i}" for i in range(60)])[: len(REPORTS)]  # several batches
    np.testing.assert_allclose(many, together, rtol=0, atol=1e-4)


def test_no_finding_is_never_negative_or_uncertain(labeller):
    """Its head has two outputs: a filler that could win would invent classes that CheXbert does not have."""
    logits = labeller.logits(REPORTS)
    assert np.isneginf(logits[:, NO_FINDING, NEGATIVE:]).all()
    assert np.isfinite(np.delete(logits, NO_FINDING, axis=1)).all()
    classes = labeller.label(REPORTS)
    assert classes[:, NO_FINDING].max() <= 1
    np.testing.assert_array_equal(classes, logits.argmax(2))


def test_no_reports_give_empty_arrays(labeller):
    """An empty split must not crash the labelling of the others."""
    assert labeller.label([]).shape == (0, 14)
    assert labeller.logits([]).shape == (0, 14, 4)
    assert labeller.embed([]).shape == (0, 16)


def test_one_text_instead_of_a_list_is_refused(labeller):
    """It would be labelled letter by letter."""
    with pytest.raises(ValueError, match="reports is one text, 'no acute findings .': give a list"):
        labeller.label("no acute findings .")


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_checkpoints_of_other_versions_load_alike(state, labeller, prefix, tmp_path):
    """Position ids, pooler and prefix come and go with the version that wrote the file."""
    other = {prefix + key.removeprefix("module."): value for key, value in state.items() if "pooler" not in key}
    other[f"{prefix}bert.embeddings.position_ids"] = torch.arange(512)[None]
    save_file(other, tmp_path / "chexbert.safetensors")
    again = CheXbert.from_checkpoint(tmp_path / "chexbert.safetensors", heads=4)
    np.testing.assert_array_equal(again.logits(REPORTS), labeller.logits(REPORTS))


def test_keys_that_do_not_fit_are_listed(state, tmp_path):
    """Half a labeller would label with random heads."""
    broken = dict(state)
    del broken["module.linear_heads.3.weight"]
    broken["module.linear_heads.14.bias"] = torch.zeros(4)
    broken["module.linear_heads.13.bias"] = torch.zeros(4)
    broken["module.bert.encoder.layer.1.output.dense.weight"] = torch.zeros(16, 16)
    torch.save({"model_state_dict": broken}, tmp_path / "broken.pth")
    with pytest.raises(ValueError) as error:
        CheXbert.from_checkpoint(tmp_path / "broken.pth", heads=4)
    assert str(error.value) == (
        f"labels.chexbert_path: {tmp_path / 'broken.pth'}: 4 problems\n  missing linear_heads.3.weight\n"
        "  unknown linear_heads.14.bias\n"
        "  bert.encoder.layer.1.output.dense.weight has shape (16, 16), expected (16, 24)\n"
        "  linear_heads.13.bias has shape (4,), expected (2,)"
    )


class Malicious:
    """Would run on unpickling."""

    def __reduce__(self):
        return (pytest.fail, ("code from the checkpoint was run",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_state_dict": Malicious()}, "cannot be read as tensors"),
        ({"state_dict": {}}, "has no model_state_dict"),
        ([1, 2], "has no model_state_dict"),
        ({"model_state_dict": {"module.conv1.weight": torch.zeros(3)}}, "is not a BERT: missing embeddings"),
    ],
)
def test_other_files_are_refused_in_one_line(content, message, tmp_path):
    """A wrong or hostile file must neither run nor end in a stack of library errors."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message) as error:
        CheXbert.from_checkpoint(tmp_path / "other.pth")
    assert "other.pth" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_download_cut_short_is_named(published, name, tmp_path):
    """The file is large: a broken download is the likeliest fault."""
    (tmp_path / name).write_bytes(published.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read as tensors.*download chexbert.pth again") as error:
        CheXbert.from_checkpoint(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_where_to_get_it(tmp_path):
    """The weights are not ours to ship: the first thing that a user of CheXbert sees is this line."""
    with pytest.raises(ValueError, match=r"labels\.chexbert_path: .*none\.pth .*StanfordAIMI/RRG_scorers") as error:
        CheXbert.from_checkpoint(tmp_path / "none.pth")
    assert "Hugging Face hub" in str(error.value)
    assert "chexbert.pth" in str(error.value)


@pytest.mark.parametrize(("heads", "message"), [(3, "width 16, which heads=3 does not divide"), (0, "heads=0")])
def test_impossible_heads_are_named(published, heads, message):
    """The number of heads is the one size that the checkpoint does not show."""
    with pytest.raises(ValueError, match=message):
        CheXbert.from_checkpoint(published, heads=heads)


def test_another_vocabulary_is_refused(state, tmp_path):
    """A labeller with other word pieces would read other words."""
    other = dict(state)
    other["module.bert.embeddings.word_embeddings.weight"] = torch.zeros(28996, 16)
    torch.save({"model_state_dict": other}, tmp_path / "cased.pth")
    with pytest.raises(ValueError, match="28996 word pieces, bert-base-uncased 30522"):
        CheXbert.from_checkpoint(tmp_path / "cased.pth", heads=4)


def test_the_stage_writes_labels_and_probabilities(published, tmp_path, monkeypatch):
    """`labels.labeller: chexbert` on one study per text."""
    monkeypatch.chdir(tmp_path)
    whole = CheXbert.from_checkpoint(published, heads=4)
    labeller = replace(whole, encoder=replace(whole.encoder, batch_size=1))
    monkeypatch.setattr(CheXbert, "from_checkpoint", lambda path, device: labeller)
    splits = ["train", "val", "test"]
    studies = [
        Study(id=f"s{n}", split=split, image_path=["a.png"], report=text or ".", state=None)
        for n, (split, text) in enumerate(zip(splits, REPORTS[2:5], strict=True))
    ]
    write_annotation("data/prepared/annotation.json", studies)
    params = yaml.safe_load((Path(__file__).parents[1] / "presets/phantom.yaml").read_text())
    params["labels"] |= {"labeller": "chexbert", "chexbert_path": str(published)}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    label_stage.main()
    texts = [study.report for study in studies]
    assert (read_labels("data/labels.csv", studies) == pseudo_labels(labeller.label(texts))).all()
    written = read_labels("data/label_probabilities.csv", studies)
    np.testing.assert_allclose(written, probabilities(labeller.logits(texts)), atol=1e-6)

    files = [Path(f"data/{name}.csv") for name in ("labels", "label_probabilities")]
    alone = [path.read_bytes() for path in files]
    encode = BertEncoder._encode

    def noting(self, ids):
        with open("encoded", "a") as file:
            file.write(f"{os.environ['RANK']}\n")
        return encode(self, ids)

    monkeypatch.setattr(BertEncoder, "_encode", noting)
    assert launching(label_stage.main) == [0, 0]
    assert sorted(Path("encoded").read_text().split()) == ["0", "0", "1"]
    assert [path.read_bytes() for path in files] == alone and not list(Path("data").glob("chexbert*"))


def test_a_launcher_s_other_processes_leave_the_rules_to_the_first(made, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    Path("data/labels.csv").unlink()
    made.run("label")
    assert not Path("data/labels.csv").exists()
