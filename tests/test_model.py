"""A study's report depends on the study: not on padding, on absent views, or on what else is in the batch."""

import copy
import dataclasses

import pytest
import torch

from xpronet.common.files import read_json, write_json
from xpronet.data.reports import Vocabulary
from xpronet.model import checkpoint
from xpronet.model.losses import Objective, training_losses
from xpronet.model.xpronet import ModelConfig, XProNet

CONFIG = ModelConfig(
    vocab_size=11, backbone="resnet18", d_model=16, d_ff=24, heads=4, layers=2, n_prototypes=3, d_prototype=20, gamma=3
)
OBJECTIVE = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return XProNet(CONFIG).eval()


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    labels = torch.zeros(3, 14)
    labels[0, 13] = labels[1, 2] = labels[2, 2] = labels[2, 7] = 1
    tokens = torch.tensor([[0, 3, 4, 0, 0, 0], [0, 5, 6, 7, 8, 0], [0, 2, 9, 1, 0, 0]])
    return torch.randn(3, 2, 3, 64, 64), tokens, labels


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_shapes(model, batch):
    images, tokens, labels = batch
    output = model(images, tokens, labels)
    assert output.log_probs.shape == (3, 5, 12)
    assert output.visual_responses.shape == (3, 8, 16)  # two views of 2 x 2 patches
    assert output.textual_responses.shape == (3, 5, 16)
    close(output.log_probs.exp().sum(dim=-1), torch.ones(3, 5))
    result = model.generate(images, labels, beam_size=3, max_length=7)
    assert (result.tokens.shape, result.log_probs.shape) == ((3, 7), (3,))


def test_an_absent_view_says_nothing(model, batch):
    images, tokens, labels = batch
    views = torch.tensor([[True, False], [True, True], [True, False]])
    noise = images.clone()
    noise[0, 1] = 1000.0
    alone = model(images[:1, :1], tokens[:1], labels[:1])
    together = model(noise, tokens, labels, views=views)
    close(together.log_probs[:1], alone.log_probs)
    expected = model.generate(images[:1, :1], labels[:1], beam_size=2, max_length=6)
    found = model.generate(noise, labels, beam_size=2, max_length=6, views=views)
    assert found.tokens[0].tolist() == expected.tokens[0].tolist()
    losses = [
        training_losses(output, tokens[:1], labels[:1], objective=OBJECTIVE).total
        for output in (alone, model(noise[:1], tokens[:1], labels[:1], views=views[:1]))
    ]
    close(*losses)


def test_padding_of_the_report_changes_no_word(model, batch):
    images, tokens, labels = batch
    longer = torch.cat([tokens, torch.zeros(3, 4, dtype=torch.int64)], dim=1)
    close(model(images, longer, labels).log_probs[:, :5], model(images, tokens, labels).log_probs)


@pytest.mark.parametrize("length", [6, 38])
def test_decoding_step_by_step_is_teacher_forcing(model, batch, length):
    """The caches of the search give the log-probabilities of the whole prefix at once."""
    images, _, labels = batch
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.head.bias[0] -= 20 * (length > 6)  # no report ends early
    result = model.generate(images, labels, beam_size=3, max_length=length)
    tokens = torch.cat([torch.zeros(3, 1, dtype=torch.int64), result.tokens], dim=1)
    log_probs = model(images, tokens, labels).log_probs
    picked = log_probs.gather(-1, result.tokens.unsqueeze(-1)).squeeze(-1)
    ended = (result.tokens == 0).cumsum(dim=1) - (result.tokens == 0).long()  # the first 0 counts
    close((picked * (ended == 0)).sum(dim=1), result.log_probs)


def test_only_prototypes_of_a_study_s_labels_answer(model, batch):
    images, tokens, labels = batch
    before = model(images, tokens, labels).log_probs
    changed = XProNet(CONFIG).eval()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        changed.prototypes[2 * 3 : 3 * 3] += 1.0  # of observation 2
    after = changed(images, tokens, labels).log_probs
    close(after[0], before[0])
    assert (after[1:] - before[1:]).abs().amax(dim=(1, 2)).min() > 1e-4


def test_batch_norm_statistics_are_per_view(batch):
    """Row 33: two passes over the views, each with its own mean."""
    torch.manual_seed(0)
    model = XProNet(CONFIG).train()
    images = batch[0]
    model.patch_features(images, None)
    assert model.visual.layers[1].num_batches_tracked.item() == 2


def moved(images, views=None):
    """How far the running mean of the first batch norm goes from zero in one training pass, (64,)."""
    torch.manual_seed(0)
    model = XProNet(CONFIG).train()
    model.patch_features(images, views)
    return model.visual.layers[1].running_mean, model.visual.layers[0](images.flatten(0, 1)).mean(dim=(2, 3))


def test_a_rare_view_weighs_as_its_images_do():
    """Row 33: one picture in eight studies that has a third view is one of seventeen, and not a third of all."""
    torch.manual_seed(2)
    images = torch.randn(8, 3, 3, 64, 64) + torch.randn(8, 3, 3, 1, 1)
    views = torch.ones(8, 3, dtype=torch.bool)
    views[1:, 2] = False
    running, means = moved(images, views)
    means = means.unflatten(0, (8, 3))
    share = 1 - 0.9 ** (9 / 8)  # of a batch of nine images among eight studies
    second = torch.cat([means[:, 1], means[:1, 2]]).mean(dim=0)
    close(running, (1 - share) * 0.1 * means[:, 0].mean(dim=0) + share * second)


def test_views_that_not_all_have_are_a_batch_with_the_others():
    """A picture by itself would be normed by itself: 2 x 2 patches of it, or one, which torch refuses."""
    torch.manual_seed(2)
    images, views = torch.randn(4, 2, 3, 32, 32), torch.ones(4, 2, dtype=torch.bool)
    views[1:, 1] = False
    running, means = moved(images, views)
    close(running, (1 - 0.9 ** (5 / 4)) * torch.cat([means[::2], means[1:2]]).mean(dim=0))
    views = torch.tensor([[True, False], [False, True], [True, False], [True, False]])
    running, means = moved(images, views)
    close(running, 0.1 * means[[0, 3, 4, 6]].mean(dim=0))


def test_gradients_reach_every_parameter(batch):
    torch.manual_seed(0)
    model = XProNet(dataclasses.replace(CONFIG, gamma=3)).train()
    images, tokens, labels = batch
    training_losses(model(images, tokens, labels), tokens, labels, objective=OBJECTIVE).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_bf16_keeps_softmaxes_and_losses_in_float32(model, batch):
    images, tokens, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images, tokens, labels)
    losses = training_losses(output, tokens, labels, objective=OBJECTIVE)
    assert {output.log_probs.dtype, *(loss.dtype for loss in losses)} == {torch.float32}
    torch.testing.assert_close(output.log_probs.exp().sum(dim=-1), torch.ones(3, 5), rtol=0, atol=1e-5)
    expected = training_losses(model(images, tokens, labels), tokens, labels, objective=OBJECTIVE)
    torch.testing.assert_close(losses.total, expected.total, rtol=0.02, atol=0)


def test_without_cmpnet_labels_do_not_matter(batch):
    torch.manual_seed(0)
    images, tokens, labels = batch
    model = XProNet(dataclasses.replace(CONFIG, cmpnet=False)).eval()
    output = model(images, tokens, labels)
    close(output.log_probs, model(images, tokens, torch.zeros_like(labels)).log_probs)
    losses = training_losses(output, tokens, labels, objective=OBJECTIVE)
    assert losses.total == losses.cross_entropy
    assert not any("memory" in name or "prototype" in name or "fusion" in name for name in model.state_dict())


def test_a_study_without_a_label_is_an_error(model, batch):
    images, tokens, labels = batch
    with pytest.raises(ValueError, match=r"studies \[1\] of the batch have no label"):
        model(images, tokens, labels * torch.tensor([[1.0], [0.0], [1.0]]))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"gamma": 43}, "gamma 43 must lie between 1 and 42"),
        ({"heads": 5}, "heads 5 must divide"),
        ({"heads": 0}, "heads 0 must be a whole number from 1 up"),
        ({"d_model": -8}, "d_model -8 must be"),
        ({"layers": "1"}, "layers '1' must be"),
        ({"backbone": "resnet99"}, "backbone 'resnet99' must be one of resnet18, "),
        ({"formulation": "x"}, "formulation 'x' must be one of official, paper"),
    ],
)
def test_impossible_sizes_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **sizes)


def test_a_model_folder_is_all_that_generation_needs(model, batch, tmp_path):
    vocabulary = Vocabulary([*sorted("abcdefghij"), "<unk>"])
    card = checkpoint.ModelCard(vocabulary, ("x",) * 14, "iu_xray", 56, 3, 6)
    checkpoint.save(tmp_path / "model", model, card)
    loaded, found = checkpoint.load(tmp_path / "model")
    assert found.vocabulary.tokens == vocabulary.tokens
    assert (found.conditions, found.style, found.crop, found.beam_size) == (card.conditions, "iu_xray", 56, 3)
    images, tokens, labels = batch
    assert torch.equal(loaded(images, tokens, labels).log_probs, model(images, tokens, labels).log_probs)
    (tmp_path / "model/weights.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="weights.safetensors"):
        checkpoint.load(tmp_path / "model")
    with pytest.raises(ValueError, match="model.json: no such file"):
        checkpoint.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop": "56"}, "crop '56' must be a whole number from 1 up"),
        ({"beam_size": 0}, "beam_size 0 must be"),
        ({"max_length": None}, "max_length None must be"),
        ({"vocabulary": []}, "a vocabulary needs distinct tokens"),
        ({"vocabulary": ["<unk>", *"abcdefghi", 1]}, "conditions and vocabulary must be texts"),
        ({"vocabulary": ["<unk>", "a"]}, "vocabulary has 2 words, sizes.vocab_size 11"),
        ({"conditions": list(range(14))}, "conditions and vocabulary must be texts"),
        ({"sizes": {**dataclasses.asdict(CONFIG), "heads": 0}}, "heads 0 must be"),
        ({"sizes": {**dataclasses.asdict(CONFIG), "n_prototypes": 1.5}}, "n_prototypes 1.5 must be"),
        ({"sizes": {**dataclasses.asdict(CONFIG), "dropout": 2}}, "dropout probability"),
    ],
)
def test_an_edited_card_is_one_line_with_the_file(model, tmp_path, wrong, message):
    card = checkpoint.ModelCard(Vocabulary([*"abcdefghij", "<unk>"]), ("x",) * 14, "iu_xray", 56, 3, 6)
    checkpoint.save(tmp_path / "model", model, card)
    path = tmp_path / "model/model.json"
    write_json(path, {**read_json(path), **wrong})
    with pytest.raises(ValueError, match=f"model.json: not a model of this version: {message}") as error:
        checkpoint.load(tmp_path / "model")
    assert "\n" not in str(error.value)


def test_a_loaded_model_lies_in_memory_as_a_fresh_one(model, tmp_path):
    """Nothing is drawn that is filled anyway, and products of few rows stay as fast."""
    card = checkpoint.ModelCard(Vocabulary([*"abcdefghij", "<unk>"]), ("x",) * 14, "iu_xray", 56, 3, 6)
    checkpoint.save(tmp_path / "model", model, card)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loaded, _ = checkpoint.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    fresh = XProNet(CONFIG).state_dict()
    assert all(tensor.stride() == fresh[name].stride() for name, tensor in loaded.state_dict().items())
    assert loaded.head.weight.t().is_contiguous()
