"""The network is the published function: same weights, same numbers (fixtures and limits of the published code)."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.published import (
    FEATURES,
    FLOAT64,
    GRADIENTS,
    LOG_PROBABILITIES,
    LOSSES,
    OBJECTIVE,
    SEQUENCES,
    Full,
    Tiny,
    Watch,
    both_sets,
    close,
    committed_set,
    golden,  # noqa: F401
    shared_set,
)
from xpronet.model.checkpoint import load_official, our_key
from xpronet.model.losses import Losses, contrastive_loss, training_losses
from xpronet.systems.r2gencmn import R2GenCMN

SCALARS = {
    "total": "total_loss",
    "cross_entropy": "ce",
    "visual_contrastive": "img_con_loss",
    "textual_contrastive": "txt_con_loss",
}


def limits(dtype):
    return (FEATURES, LOG_PROBABILITIES, LOSSES) if dtype == torch.float32 else (FLOAT64,) * 3


@both_sets
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_and_losses(golden, dtype):  # noqa: F811
    tiny = Tiny(golden / "tiny_iu", dtype)
    model = tiny.model()
    watch = Watch(
        model, "patch_embedding", "visual_fusion", "textual_fusion", "encoder", "decoder", "prototype_projection"
    )
    with torch.no_grad():
        output = model(tiny.images, tiny.tokens, tiny.labels)
        patches, _ = model.patch_features(tiny.images, None)
        losses = training_losses(output, tiny.tokens, tiny.labels, objective=OBJECTIVE)
    features, log_probability, loss = limits(dtype)
    ours = {
        "att_feats": patches,
        "att_embed": F.relu(watch["patch_embedding"]),
        "protypes_reduced": watch["prototype_projection"],
        "img_responses": output.visual_responses,
        "fused_visual": watch["visual_fusion"],
        "memory": watch["encoder"],
        "txt_responses": output.textual_responses,
        "fused_text": watch["textual_fusion"],
        "dec_out": watch["decoder"],
    }
    compared = set(ours) & set(tiny.outputs)
    assert len(compared) >= 8  # the float64 file has no att_feats
    for name in compared:
        close(ours[name], tiny.outputs[name], features, name, tiny.every)
    close(output.log_probs, tiny.outputs["logprobs"], log_probability, "logprobs", tiny.every)
    for name, published in SCALARS.items():
        close(getattr(losses, name), tiny.outputs[published], loss, name)


@both_sets
def test_edge_labels(golden):  # noqa: F811
    """A study with all 14 labels is the published one; one without any is an error here (row 35)."""
    tiny = Tiny(golden / "tiny_iu")
    edge = np.load(golden / "tiny_iu/outputs_edge_labels.npz")
    labels, model = torch.from_numpy(edge["labels"]), tiny.model()
    with pytest.raises(ValueError, match=r"studies \[1\] of the batch have no label"):
        model(tiny.images, tiny.tokens, labels)
    rows = labels.any(dim=1).nonzero().flatten()
    assert 14 in labels.sum(dim=1)
    with torch.no_grad():
        output = model(tiny.images[rows], tiny.tokens[rows], labels[rows])
    close(output.visual_responses, edge["img_responses"][rows], FEATURES, every=tiny.every)
    close(output.textual_responses, edge["txt_responses"][rows], FEATURES, every=tiny.every)
    close(output.log_probs, edge["logprobs"][rows], LOG_PROBABILITIES, every=tiny.every)
    case = tiny.generation["edge_labels_case"]
    result = model.generate(tiny.images[rows], labels[rows], beam_size=case["beam_size"], max_length=30)
    assert result.tokens.tolist() == [case["seq"][row] for row in rows]


@pytest.mark.parametrize(
    ("golden", "dtype"),
    [("committed", torch.float64), ("shared", torch.float32), ("shared", torch.float64)],
    indirect=["golden"],
)
def test_gradients(golden, dtype):  # noqa: F811
    tiny = Tiny(golden / "tiny_iu", dtype)
    model = tiny.model()
    output = model(tiny.images, tiny.tokens, tiny.labels)
    training_losses(output, tiny.tokens, tiny.labels, objective=OBJECTIVE).total.backward()
    assert len(tiny.gradients.files) >= 40
    for key in tiny.gradients.files:
        ours = model.get_parameter(our_key(key)).grad
        # A key's bias moves all scores alike: its true gradient is zero.
        single = 1e-6 if key.endswith("linears.1.bias") else GRADIENTS * ours.abs().max().item()
        close(ours, tiny.gradients[key], single if dtype == torch.float32 else FLOAT64, key, tiny.every)
    for published, norm in tiny.meta[f"grad_norm_by_tensor{tiny.suffix}"].items():
        gradient = model.get_parameter(our_key(published)).grad
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), published


@both_sets
def test_beam_search_tokens_and_scores(golden):  # noqa: F811
    tiny = Tiny(golden / "tiny_iu")
    compare_reports(tiny.model(), tiny, tiny.labels)
    lengths = {length for case in tiny.generation["cases"] for length in case["lengths"]}
    assert {0, 30} <= lengths  # from an empty report to the longest


def compare_full(full: Full) -> Losses:
    """One forward pass of the full model, which keeps its patch features from then on."""
    model = full.model
    patches = model.patch_features(full.images, None)
    model.patch_features = lambda *_: patches
    watch = Watch(model, "visual_fusion", "textual_fusion", "encoder")
    output = model(full.images, full.tokens, full.labels)
    losses = training_losses(output, full.tokens, full.labels, objective=OBJECTIVE)
    close(patches[0][:, :2], full.outputs["att_feats_first2"], FEATURES, every=full.every)
    close(output.log_probs, full.outputs["logprobs"], LOG_PROBABILITIES, every=full.every)
    for name, published in SCALARS.items():  # cross-entropy is 12.6 here: its float32 step is 1e-6
        assert getattr(losses, name).item() == pytest.approx(full.meta["scalars_f64"][published], abs=LOSSES, rel=2e-7)
    close(output.visual_responses.mean(dim=1), full.outputs["img_responses_mean"], FEATURES, every=full.every)
    close(output.textual_responses.mean(dim=1), full.outputs["txt_responses_mean"], FEATURES, every=full.every)
    close(watch["encoder"][:, :4], full.outputs["memory_first4"], FEATURES, every=full.every)
    norms = {"encoder": "memory_norm", "visual_fusion": "fused_visual_norm", "textual_fusion": "fused_text_norm"}
    for name, published in norms.items():
        np.testing.assert_allclose(watch[name].detach().norm(dim=-1), full.outputs[published], rtol=1e-5)
    return losses


@committed_set
def test_full_size(golden):  # noqa: F811
    """ResNet-101, d 512, 8 heads, 3 layers, γ 15, N^p 20 on four studies."""
    with torch.no_grad():
        compare_full(Full(golden))


@shared_set
def test_full_size_gradients_and_reports(golden):  # noqa: F811
    full = Full(golden)
    model = full.model
    compare_full(full).total.backward()
    for published, norm in full.meta["grad_norm_by_tensor"].items():
        if not published.endswith("linears.1.bias"):
            gradient = model.get_parameter(our_key(published)).grad
            limit = GRADIENTS * gradient.abs().max().item() * gradient.numel() ** 0.5
            assert gradient.norm().item() == pytest.approx(norm, abs=limit), published
    for case in full.meta["generation"]:
        with torch.no_grad():
            model.head.bias[0] = case["logit_bias_0"]
        result = model.generate(full.images, full.labels, beam_size=case["beam_size"], max_length=60)
        assert result.tokens.tolist() == case["seq"]
        np.testing.assert_allclose(result.log_probs, case["sum_logprob"], rtol=1e-6, atol=SEQUENCES)


@both_sets
def test_contrastive_loss(golden):  # noqa: F811
    arrays = np.load(golden / "loss/arrays.npz")
    cases = json.loads((golden / "loss/cases.json").read_text())["cases"]
    assert len(cases) >= 17
    for case in cases:
        features = torch.from_numpy(arrays[f"features_{case['i']}"]).double().requires_grad_()
        labels = torch.from_numpy(arrays[f"labels_{case['i']}"]).double()
        loss = contrastive_loss(features, labels, theta=case["alpha"], alpha=case["margin"])
        loss.backward()
        assert abs(loss.item() - case["loss_f64"]) < FLOAT64, case
        single = contrastive_loss(features.float(), labels.float(), theta=case["alpha"], alpha=case["margin"])
        assert abs(single.item() - case["loss_f64"]) < LOSSES, case
        if case["alpha"] == 1:  # θ = 1 is w/o IMLCS
            plain = contrastive_loss(features, labels, theta=1.5, alpha=case["margin"], adaptive=False)
            assert abs(plain.item() - case["loss_f64"]) < FLOAT64, case
        if case["feature_kind"] == "zero_row":  # published without a gradient: it is undefined there
            continue
        np.testing.assert_allclose(
            features.grad, arrays[f"grad_f64_{case['i']}"], rtol=0, atol=FLOAT64, err_msg=str(case)
        )


@shared_set
def test_r2gencmn(golden):  # noqa: F811
    """In float64, where rounding hides nothing, with gradients."""
    tiny = Tiny(golden / "tiny_r2gencmn", torch.float64)
    model, labels = tiny.model(), torch.zeros(len(tiny.images), 14)
    assert isinstance(model, R2GenCMN)
    watch = Watch(model, "encoder", "decoder", "memory")
    output = model(tiny.images, tiny.tokens, labels)
    ours = {
        "txt_responses": watch["memory"],
        "memory": watch["encoder"],
        "dec_out": watch["decoder"],
        "logprobs": output.log_probs,
        "ce": training_losses(output, tiny.tokens, labels, objective=OBJECTIVE).total,
    }
    compared = set(ours) & set(tiny.outputs)
    assert {"memory", "logprobs", "ce"} <= compared
    for name in compared:
        close(ours[name], tiny.outputs[name], FLOAT64, name)
    ours["ce"].backward()
    for key in tiny.gradients.files:
        close(model.get_parameter(our_key(key)).grad, tiny.gradients[key], FLOAT64, key)


@shared_set
def test_r2gencmn_reports(golden):  # noqa: F811
    """From the published patch features: this fixture's first linear makes of a rounding in them ten."""
    tiny = Tiny(golden / "tiny_r2gencmn")
    model, labels = tiny.model(), torch.zeros(len(tiny.images), 14)
    patches = torch.from_numpy(tiny.outputs["att_feats"])
    model.patch_features = lambda images, views: (patches, torch.ones(patches.shape[:2], dtype=torch.bool))
    with torch.no_grad():
        close(model(tiny.images, tiny.tokens, labels).log_probs, tiny.outputs["logprobs"], LOG_PROBABILITIES)
    compare_reports(model, tiny, labels)


def compare_reports(model, tiny, labels):
    bias = model.head.bias.detach().clone()
    for case in tiny.generation["cases"]:
        if case.get("block_trigrams"):  # a branch of R2GenCMN's greedy search that XProNet's lacks
            continue
        with torch.no_grad():
            model.head.bias[0] = bias[0] + case["logit_bias_0_delta"]
        result = model.generate(tiny.images, labels, beam_size=case["beam_size"], max_length=30)
        best = slice(None, None, case["sample_n"])  # of several returned beams the first
        assert result.tokens.tolist() == case["seq"][best]
        close(result.log_probs, case["sum_logprob"][best], SEQUENCES)


@committed_set
def test_missing_unknown_and_misshaped_keys_are_all_listed_by_their_published_names(golden):  # noqa: F811
    state = dict(Tiny(golden / "tiny_iu").state)
    state["encoder_decoder.extra"] = torch.zeros(1)
    state["encoder_decoder.img_cls_head.0.weight"] = torch.zeros(1)  # of the 2022 release: ignored
    state["encoder_decoder.att_embed.0.weight"] = torch.zeros(31, 512)
    state["encoder_decoder.model.decoder.layers.1.src_attn.linears.2.weight"] = torch.zeros(3)
    del state["encoder_decoder.logit.weight"], state["visual_extractor.model.0.weight"]
    with pytest.raises(ValueError) as error:
        load_official(state, gamma=5, heads=4)
    assert "5 problems" in str(error.value)
    for problem in (
        "missing encoder_decoder.logit.weight",
        "missing visual_extractor.model.0.weight",
        "unknown encoder_decoder.extra",
        "encoder_decoder.att_embed.0.weight has shape (31, 512), expected (32, 512)",
        "encoder_decoder.model.decoder.layers.1.src_attn.linears.2.weight has shape (3,), expected (32, 32)",
    ):
        assert problem in str(error.value)
