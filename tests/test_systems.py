"""Every system of Table 1 behind the one interface: it learns, it writes what it read, and its cell is the paper's."""

import base64
import itertools
import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from tests.test_what_the_model_reads import no_meteor
from xpronet.app.answers import Answers, request
from xpronet.app.cli import app
from xpronet.data.reports import Vocabulary
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.explain import explain
from xpronet.model.losses import Objective, training_losses
from xpronet.model.params import SystemName
from xpronet.model.system import Material, name_of, system_class
from xpronet.sources.phantom import source
from xpronet.systems.adaatt import AdaptiveAttention
from xpronet.systems.att2in import Att2In
from xpronet.systems.ratchet import PostNormLayer
from xpronet.systems.st import ShowAndTell
from xpronet.systems.topdown import TopDown

SYSTEMS = get_args(SystemName)
RECURRENT = ("st", "att2in", "adaatt", "topdown")
OBJECTIVE = Objective(theta=1.5, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
WIDTH, PATCHES, CHANNELS, WORDS = 16, 4, 512, 7
PERIOD = 1  # the word that ends a sentence, as each report does
TEMPLATES = {"templates": 2, "wordings": 3, "longest": 4}  # of `material`
SIZES = {
    "xpronet": {"d_model": WIDTH, "d_ff": 24, "heads": 2, "layers": 2, "n_prototypes": 3, "d_prototype": 8, "gamma": 3},
    "r2gencmn": {"d_model": WIDTH, "d_ff": 24, "heads": 2, "layers": 2, "memory": 12, "top": 3},
    "ratchet": {"d_model": WIDTH, "d_ff": 24, "heads": 2, "layers": 2},
    **{name: {"width": WIDTH, "attention": 12} for name in RECURRENT},
    "coat": {"width": WIDTH, "attention": 12, "tags": 3, "period": PERIOD},
    "cmas_rl": {"width": 64, "attention": 12, "period": PERIOD},
    "sentsat_kg": {"width": 64, "attention": 12, "period": PERIOD},
    "hrgr": {"width": 64, "attention": 12, "period": PERIOD, **TEMPLATES},
    "kerp": {"width": WIDTH, "d_ff": 24, "heads": 2, "slots": 4, "period": PERIOD, **TEMPLATES},
}


def build(name, words=WORDS, **sizes):
    torch.manual_seed(0)
    kind = system_class(name)
    model = kind(kind.Config(vocab_size=words, backbone="resnet18", **(SIZES[name] | sizes)))
    if hasattr(model.config, "templates"):
        model.furnish(material(words))
    return model


def material(words=WORDS):
    """Of a made-up train split: words are `.`, <unk>, w3, w4, …; two templates, of which one has two wordings."""
    vocabulary = Vocabulary([".", "<unk>", *(f"w{n}" for n in range(3, words + 1))])
    last = vocabulary.tokens[-1]
    labels = (torch.arange(20 * len(CONDITIONS)).reshape(20, -1) % 3 == 0).float()
    return Material(vocabulary, labels, torch.empty(0), [["<unk> .", f"{last} <unk> ."], [f"{last} {last} {last} ."]])


def studies(count=3, length=6, words=WORDS):
    """Patch features of two views, of which the last study has one; reports that end before the batch does; labels."""
    torch.manual_seed(1)
    images = torch.randn(count, 2, PATCHES, CHANNELS)
    views = torch.ones(count, 2, dtype=torch.bool)
    views[-1, 1] = False
    images[~views] = 0
    tokens = F.pad(torch.randint(1, words + 1, (count, length)), (1, 1))
    tokens[0, -3:] = 0
    tokens[:, 3] = PERIOD  # two sentences
    tokens[torch.arange(count), (tokens != 0).sum(dim=1)] = PERIOD
    labels = torch.zeros(count, len(CONDITIONS))
    labels[torch.arange(count), torch.arange(count) % len(CONDITIONS)] = 1
    return images, tokens, labels, views


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_name_is_its_module(name):
    assert name_of(build(name)) == name


def test_an_unknown_system_is_one_line():
    with pytest.raises(ValueError, match="system 'lstm' must be one of xpronet, r2gencmn, st"):
        system_class("lstm")


@pytest.mark.parametrize("name", SYSTEMS)
def test_log_probabilities_are_some_and_every_weight_learns(name):
    model = build(name).train()
    images, tokens, labels, views = studies()
    output = model(images, tokens, labels, views=views)
    assert output.log_probs.shape == (3, tokens.shape[1] - 1, WORDS + 1)
    torch.testing.assert_close(output.log_probs.logsumexp(dim=-1), torch.zeros(3, tokens.shape[1] - 1))
    training_losses(output, tokens, labels, objective=OBJECTIVE).total.backward()
    visual = {id(parameter) for parameter in model.visual.parameters()}  # not asked: the images are patch features
    for key, parameter in model.named_parameters():
        if id(parameter) not in visual and not key.endswith("key.bias"):  # a key's bias moves all scores alike
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", SYSTEMS)
def test_images_go_through_the_extractor(name):
    model = build(name).eval()
    _, tokens, labels, views = studies()
    torch.manual_seed(2)
    images = torch.randn(3, 2, 3, 64, 64)
    with torch.no_grad():
        patches, _ = model.patch_features(images, views)
        expected = model(patches.unflatten(1, (2, PATCHES)), tokens, labels, views=views).log_probs
        torch.testing.assert_close(model(images, tokens, labels, views=views).log_probs, expected)


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_absent_view_is_not_read(name):
    model = build(name).eval()
    images, tokens, labels, views = studies()
    with torch.no_grad():
        both = model(images, tokens, labels, views=views).log_probs
        alone = model(images[-1:, :1], tokens[-1:], labels[-1:]).log_probs
    torch.testing.assert_close(both[-1:], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_says_what_teacher_forcing_says(name):
    """Beams that fork carry their own past with them."""
    model = build(name).eval()
    images, tokens, labels, views = studies(length=5)
    others = torch.randint(1, WORDS + 1, tokens.shape, generator=torch.Generator().manual_seed(3))
    others[:, 0] = 0
    with torch.no_grad():
        step = model.begin(images, labels, views, beams=2, max_length=5)
        first = [model(images, own, labels, views=views).log_probs for own in (tokens, others)]
        parents = None
        for position in range(5):
            # From the third step on both beams go on from the first one.
            given = torch.stack([tokens[:, position], others[:, position]], dim=1)
            if position == 2:
                parents = torch.zeros(3, 2, dtype=torch.int64)
                given[:, 1] = others[:, 2]
                mixed = torch.cat([tokens[:, :2], others[:, 2:]], dim=1)
                first[1] = model(images, mixed, labels, views=views).log_probs
            elif position:
                parents = torch.arange(2).expand(3, 2)
            found = step(given, position, parents)
            for beam in range(2):
                alive = (tokens[:, : position + 1] != 0).sum(
                    dim=1
                ) == position  # the words of a report, not its padding
                wanted = first[beam][:, position]
                torch.testing.assert_close(found[alive, beam], wanted[alive], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_wide_search_finds_the_likeliest_report_and_one_beam_is_greedy(name):
    words, length = 2, 3
    model = build(name, words=words).eval()
    with torch.no_grad():
        model.head.weight.mul_(8)  # so that reports differ
    images, _, labels, views = studies(words=words)
    bodies = [body for n in range(length) for body in itertools.product((1, 2), repeat=n)]
    reports = [(*body, 0) for body in bodies] + list(itertools.product((1, 2), repeat=length))
    padded = torch.tensor([(0, *report, *(0,) * (length - len(report))) for report in reports])
    with torch.no_grad():
        sums = []
        for given in padded:
            log_probs = model(images, F.pad(given, (0, 1)).expand(3, -1), labels, views=views).log_probs
            own = log_probs[:, :length].gather(-1, given[1:].expand(3, -1).unsqueeze(-1)).squeeze(-1)  # (B, length)
            counted = (given[1:] != 0).cumprod(0).sum() + 1
            sums.append(own[:, :counted].sum(dim=1))
        sums = torch.stack(sums, dim=1)  # (B, reports)
    result = model.generate(images, labels, views=views, beam_size=(words + 1) ** length, max_length=length)
    assert result.tokens.tolist() == padded[sums.argmax(dim=1), 1:].tolist()
    torch.testing.assert_close(result.log_probs, sums.max(dim=1).values, atol=1e-4, rtol=0)
    greedy = model.generate(images, labels, views=views, beam_size=1, max_length=length).tokens
    report = torch.zeros(3, 1, dtype=torch.int64)
    with torch.no_grad():
        for position in range(length):
            log_probs = model(images, F.pad(report, (0, 1)), labels, views=views).log_probs[:, -1]
            newest = log_probs.argmax(dim=-1)
            if position:
                newest = torch.where(report[:, -1] == 0, 0, newest)
            report = torch.cat([report, newest[:, None]], dim=1)
    assert greedy.tolist() == report[:, 1:].tolist()


@pytest.mark.parametrize("name", SYSTEMS)
def test_eight_studies_are_learnt_by_heart(name):
    model = build(name, words=9, dropout=0.0).train()
    images, tokens, labels, views = studies(8, words=9)
    learnt = [each for key, each in model.named_parameters() if not key.startswith("visual.")]
    adam = torch.optim.Adam(learnt, lr=4e-3)
    for _ in range(900):
        adam.zero_grad()
        losses = training_losses(model(images, tokens, labels, views=views), tokens, labels, objective=OBJECTIVE)
        loss = losses.cross_entropy + (losses.auxiliary if name == "kerp" else 0)  # it learns to retrieve by that
        loss.backward()
        adam.step()
        if losses.cross_entropy < 0.01 and loss < 0.02:
            break
    model.eval()
    written = model.generate(images, labels, views=views, beam_size=3, max_length=8).tokens
    assert [row.tolist()[:7] for row in written] == [row[1:].tolist()[:7] for row in tokens]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_model_folder_says_which_system_it_is(tmp_path, name):
    model = build(name).eval()
    vocabulary = Vocabulary(["<unk>", *(f"w{n}" for n in range(WORDS - 1))])
    card = checkpoint.ModelCard(vocabulary, CONDITIONS, "iu_xray", crop=64, beam_size=3, max_length=5)
    checkpoint.save(tmp_path / "m", model, card)
    again, _ = checkpoint.load(tmp_path / "m")
    assert type(again) is type(model) and again.config == model.config
    images, tokens, labels, views = studies()
    with torch.no_grad():
        both = [each(images, tokens, labels, views=views).log_probs for each in (model, again)]
    assert torch.equal(*both)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_has_attention_is_explained(name):
    """Teacher forcing over what was written says what the search said, and where each word looked."""
    model = build(name).eval()
    images, _, labels, views = studies()
    written = model.generate(images, labels, views=views, beam_size=2, max_length=6)
    assert model.has_attention == (name != "st")
    for row, found in enumerate(explain(model, images, written.tokens, labels, views=views)):
        assert found.log_probs.sum() == pytest.approx(written.log_probs[row].item(), abs=1e-4)
        sums = found.attention.sum(axis=(1, 2, 3))
        assert ((sums > 0) & (sums < 1) if name == "adaatt" else abs(sums - model.has_attention) < 1e-5).all()
        assert not found.attention[:, ~views[row].numpy()].any()
        assert (found.words is not None) == (name == "xpronet")


@pytest.mark.parametrize("name", SYSTEMS[1:])
def test_a_system_goes_through_the_stages_and_writes_for_new_images(made, monkeypatch, name):
    """One parameter, and nothing else, puts another system in XProNet's place."""
    monkeypatch.setattr("stages.train.running_meteor", lambda: nullcontext(no_meteor()))
    made.run("train", system=name)
    made.run("generate", system=name)
    model, card = checkpoint.load("data/model")
    assert name_of(model) == name and not model.has_prototypes
    records = [json.loads(line) for line in Path("data/predictions/test.jsonl").read_text().splitlines()]
    assert {study["id"] for study in records} == set(made.ids("test"))
    for record in records:
        assert record["predicted"] == record["none"] == record["reference"]
    shutil.rmtree("data/model/classifier")  # the made-up one has no thresholds
    answers = Answers(Path("data/model"))
    assert answers.about()["prototypes"] == 0
    (study,) = source.studies(train=0, val=0, test=1, seed=3)
    Image.fromarray(source.draw(study, study.views[0], size=192)).save("x.png")
    upload = {"name": "x.png", "data": base64.b64encode(Path("x.png").read_bytes()).decode()}
    assert answers.report(request({"images": [upload]}))["words"]
    asked = CliRunner().invoke(app, ["generate", "x.png", "--model", "data/model", "--explain", "why.json"])
    if name == "st":
        assert str(asked.exception) == "--explain why.json: system st has no attention to show"
    else:
        assert asked.exit_code == 0 and "prototype" not in asked.output
    (written,) = answers.reporter.reports([made.images[records[0]["id"]]])
    assert written.labels_from == "none" and set(written.text.split()) <= set(card.vocabulary.tokens)


# Each cell once more, from the equations: one study, one report, one step after another.


def lstm(cell, x, h, c):
    """PyTorch's cell by its documentation, from its own weights."""
    sums = cell.lstm.weight_ih @ x + cell.lstm.bias_ih + cell.lstm.weight_hh @ h + cell.lstm.bias_hh
    i, f, g, o = sums.chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def scores(attention, keys, h):
    """w^T tanh(keys_i + W h + b), one patch after another."""
    bias = 0 if attention.query.bias is None else attention.query.bias
    query = attention.query.weight @ h + bias
    return torch.stack([attention.score.weight[0] @ torch.tanh(key + query) for key in keys])


def show_and_tell(m: ShowAndTell, patches, words):
    zero = torch.zeros(WIDTH)
    h, c = lstm(m.cell, m.image_embedding(patches.mean(dim=0)), zero, zero)
    for word in words:
        h, c = lstm(m.cell, m.word_embedding.weight[word], h, c)
        yield h


def att2in(m: Att2In, patches, words):
    h, c = torch.zeros(WIDTH), torch.zeros(WIDTH)
    for word in words:
        weights = torch.softmax(scores(m.attention, [m.keys.weight @ patch for patch in patches], h), dim=0)
        seen = sum(weight * patch for weight, patch in zip(weights, patches, strict=True))
        x = m.word_embedding.weight[word]
        i, f, o, z1, z2 = (m.words.weight @ x + m.words.bias + m.hidden.weight @ h).chunk(5)
        seen1, seen2 = (m.image.weight @ seen).chunk(2)
        c = torch.sigmoid(i) * torch.max(z1 + seen1, z2 + seen2) + torch.sigmoid(f) * c
        h = torch.sigmoid(o) * torch.tanh(c)
        yield h


def adaatt(m: AdaptiveAttention, patches, words):
    regions = [torch.relu(m.patch_embedding(patch)) for patch in patches]
    whole = torch.relu(m.image_embedding(patches.mean(dim=0)))
    h, memory = torch.zeros(WIDTH), torch.zeros(WIDTH)
    for word in words:
        x = torch.cat([m.word_embedding.weight[word], whole])
        gate = torch.sigmoid(m.gate_input(x) + m.gate_hidden.weight @ h)
        h, memory = lstm(m.cell, x, h, memory)
        sentinel = gate * torch.tanh(memory)
        keys = [*(m.keys.weight @ region for region in regions), m.sentinel_key.weight @ sentinel]
        alpha = torch.softmax(scores(m.attention, keys, h), dim=0)
        beta = alpha[-1]
        assert 0 < beta < 1
        context = beta * sentinel + sum(weight * region for weight, region in zip(alpha[:-1], regions, strict=True))
        yield context + h


def topdown(m: TopDown, patches, words):
    h1, c1, h2, c2 = (torch.zeros(WIDTH) for _ in range(4))
    for word in words:
        x1 = torch.cat([h2, patches.mean(dim=0), m.word_embedding.weight[word]])
        h1, c1 = lstm(m.looking, x1, h1, c1)
        alpha = torch.softmax(scores(m.attention, [m.keys.weight @ patch for patch in patches], h1), dim=0)
        seen = sum(weight * patch for weight, patch in zip(alpha, patches, strict=True))
        h2, c2 = lstm(m.speaking, torch.cat([seen, h1]), h2, c2)
        yield h2


@pytest.mark.parametrize(("name", "cell"), zip(RECURRENT, (show_and_tell, att2in, adaatt, topdown), strict=True))
def test_a_captioner_is_its_paper_s_equations(name, cell):
    model = build(name).eval()
    images, tokens, labels, views = studies()
    with torch.no_grad():
        found = model(images, tokens, labels, views=views).log_probs
        for row, own in enumerate(tokens):
            patches = images[row][views[row]].flatten(0, 1)
            hidden = torch.stack(list(cell(model, patches, own[:-1])))
            torch.testing.assert_close(found[row], torch.log_softmax(model.head(hidden), dim=-1), atol=2e-5, rtol=0)


def test_ratchet_is_pytorch_s_post_norm_decoder():
    model = build("ratchet").eval()
    d, layers = WIDTH, []
    for own in model.decoder.layers:
        assert isinstance(own, PostNormLayer)
        layer = nn.TransformerDecoderLayer(d, 2, 24, batch_first=True, layer_norm_eps=1e-6)
        for theirs, ours in ((layer.self_attn, own.attention), (layer.multihead_attn, own.cross_attention)):
            parts = (ours.query, ours.key, ours.value)
            theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
            theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
            theirs.out_proj.load_state_dict(ours.out.state_dict())
        layer.linear1.load_state_dict(own.feed_forward.inner.state_dict())
        layer.linear2.load_state_dict(own.feed_forward.outer.state_dict())
        for number, norm in enumerate(own.norms, start=1):
            getattr(layer, f"norm{number}").load_state_dict(norm.state_dict())
        layers.append(layer.eval())
    images, tokens, labels, views = studies()
    words = tokens[1:, :-1]  # without padding in them
    with torch.no_grad():
        found = model(images, tokens, labels, views=views).log_probs[1:]
        memory = torch.relu(model.patch_embedding(images[1:].flatten(1, 2)))
        absent = ~views[1:].repeat_interleave(PATCHES, dim=1)
        place, pair = torch.arange(words.shape[1])[:, None], torch.arange(0, d, 2)
        angle = place / 10000 ** (pair / d)
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
        y = model.word_embedding(words) * d**0.5 + table
        mask = nn.Transformer.generate_square_subsequent_mask(words.shape[1])
        for layer in layers:
            y = layer(y, memory, tgt_mask=mask, memory_key_padding_mask=absent)
        torch.testing.assert_close(found, torch.log_softmax(model.head(y), dim=-1), atol=2e-5, rtol=0)


def test_ratchet_drops_out_embeddings_and_branches_alone():
    """As its code: once, and after each of the three sublayers of each layer; not within the feed-forward."""
    model, seen = build("ratchet").train(), []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and module.p:
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    images, tokens, labels, views = studies()
    model(images, tokens, labels, views=views)
    assert seen == ["dropout", *(f"decoder.layers.{number}.dropout" for number in (0, 0, 0, 1, 1, 1))]
