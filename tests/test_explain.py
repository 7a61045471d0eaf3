"""What is shown of a report is what the network computed when it wrote it."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle

from xpronet.data.pack import normalise
from xpronet.data.reports import Vocabulary
from xpronet.figures.explanation import draw, explanation_picture, telling_words
from xpronet.labels.conditions import CONDITIONS
from xpronet.model.explain import END_WORD, Explanation, Selection, explain, to_json
from xpronet.model.visual import VisualExtractor, patch_borders
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.sources.images import resize_square

CONFIG = ModelConfig(
    vocab_size=11, backbone="resnet18", d_model=16, d_ff=24, heads=4, layers=2, n_prototypes=3, d_prototype=20, gamma=4
)
VOCABULARY = Vocabulary([*"abcdefghij", "<unk>"])
VIEWS = torch.tensor([[True, True], [True, False], [True, True]])
TOKENS = torch.tensor([[3, 4, 9, 0, 0], [5, 6, 7, 8, 2], [2, 9, 1, 4, 0]])  # of three reports, the second without end


def a_model(**sizes):
    torch.manual_seed(0)
    return XProNet(dataclasses.replace(CONFIG, **sizes)).eval()


def inputs():
    torch.manual_seed(1)
    labels = torch.zeros(3, 14)
    labels[0, 13] = labels[1, 2] = labels[2, 2] = labels[2, 7] = (
        1  # the first two may ask for 3 prototypes, less than γ
    )
    return torch.randn(3, 2, 3, 64, 96), labels


def explained(model):
    images, labels = inputs()
    return explain(model, images, TOKENS, labels, views=VIEWS)


@pytest.fixture(scope="module")
def model():
    return a_model()


@pytest.fixture(scope="module")
def found(model):
    return explained(model)


def close(a, b, atol=2e-5):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=atol)


@pytest.mark.parametrize("end", [-1.0, 1.0])
@pytest.mark.parametrize("sizes", [{}, {"formulation": "paper"}, {"cmpnet": False}], ids=str)
def test_log_probabilities_are_those_of_the_search(sizes, end):
    """Of reports that end, and of those that do not."""
    model = a_model(**sizes)
    model.head.bias.data[0] += end
    images, labels = inputs()
    written = model.generate(images, labels, beam_size=3, max_length=6, views=VIEWS)
    for each, tokens, log_prob in zip(
        explain(model, images, written.tokens, labels, views=VIEWS),
        written.tokens.tolist(),
        written.log_probs,
        strict=True,
    ):
        length = tokens.index(0) + 1 if 0 in tokens else len(tokens)
        assert each.tokens.tolist() == tokens[:length]
        assert len(each.log_probs) == len(each.attention) == length
        close(each.log_probs.sum(), log_prob)


def test_alternatives_are_the_likeliest_others(model, found):
    images, labels = inputs()
    start = torch.zeros(3, 1, dtype=torch.int64)
    log_probs = model(images, torch.cat([start, TOKENS], dim=1), labels, views=VIEWS).log_probs
    for each, values in zip(found, log_probs.detach().numpy(), strict=True):
        for row, token in enumerate(each.tokens):
            others = [other for other in np.argsort(-values[row]) if other != token][: each.alternatives.shape[1]]
            assert each.alternatives[row].tolist() == others
            close(each.alternative_log_probs[row], values[row][others])


def test_attention_sums_to_one_over_the_views_that_are_there(found):
    for each, there in zip(found, VIEWS.numpy(), strict=True):
        assert each.attention.shape == (len(each.tokens), 2, 2, 3)
        assert each.views.tolist() == there.tolist()
        close(each.attention.sum(axis=(1, 2, 3)), 1.0)
        assert (each.attention[:, ~there] == 0).all()
        assert (each.attention[:, there] > 0).all()


def test_attention_weighs_what_the_decoder_mixes(model):
    """The weights that `forward` never holds give what it returns."""
    torch.manual_seed(2)
    module = model.decoder.layers[1].cross_attention
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = False
    keys, values = module.project(memory)
    mixed = (module.weights(x, keys, mask) @ values).transpose(1, 2).flatten(2)
    close(module.out(mixed).detach(), module(x, keys, values, mask).detach())


def test_attention_is_the_mean_over_heads_and_layers(model, found):
    images, labels = inputs()
    seen = []
    hooks = [
        layer.cross_attention.register_forward_hook(lambda module, given, _: seen.append((module, *given)))
        for layer in model.decoder.layers
    ]
    start = torch.zeros(3, 1, dtype=torch.int64)
    model(images, torch.cat([start, TOKENS], dim=1), labels, views=VIEWS)
    for hook in hooks:
        hook.remove()
    study = 2  # both views, two labels
    expected = 0
    for module, x, keys, _, _ in seen:
        queries = module.query(x[study]).unflatten(-1, (4, 4))  # (T, heads, d/heads)
        scores = torch.einsum("thd,hsd->hts", queries, keys[study]) / 4**0.5
        expected = expected + scores.softmax(-1).mean(0) / len(seen)
    attention = found[study].attention
    close(attention.reshape(len(attention), -1), expected[: len(attention)].detach())


@pytest.mark.parametrize("formulation", ["official", "paper"])
def test_prototypes_shown_are_those_that_answered(formulation):
    """The network's own responses, from the γ and weights shown and nothing else of the query."""
    model = a_model(formulation=formulation)
    images, labels = inputs()
    explanations = explained(model)
    edge = torch.zeros(3, 1, dtype=torch.int64)
    with torch.no_grad():
        output = model(images, torch.cat([edge, TOKENS, edge], dim=1), labels, views=VIEWS)
        _, values = model.memory.project(model.prototype_projection(model.prototypes))  # (h, M, d/h)

        def response(shown):
            rows = torch.stack([each[torch.from_numpy(own)] for each, own in zip(values, shown.chosen, strict=True)])
            answers = (torch.from_numpy(shown.weights).unsqueeze(-1) * rows).sum(dim=-2)  # (h, ..., d/h)
            return model.memory.out(answers.movedim(0, -2).flatten(-2))

        for study, each in enumerate(explanations):
            words = int((each.tokens > 0).sum())
            assert (each.words.weights[:, words:] == 0).all()  # the end asks for nothing
            close(response(each.words)[:words], output.textual_responses[study, 1 : words + 1])
            there = torch.from_numpy(each.views)
            shown = output.visual_responses[study].unflatten(0, (2, 2, 3))
            close(response(each.patches)[there], shown[there])
            assert (each.patches.weights[:, ~each.views] == 0).all()
            allowed = np.flatnonzero(np.repeat(each.labels, 3))
            for selection in (each.words, each.patches):
                assert np.isin(selection.chosen[selection.weights != 0], allowed).all()


def test_views_and_patches_are_where_they_are_said_to_be(model, found):
    """Row and column of a view, from the features of that view alone."""
    images, labels = inputs()
    keys, _, mask = model.query_prototypes(labels)
    study = 2
    for view in range(2):
        with torch.no_grad():
            features = model.visual.layers(images[study, view][None])[0]  # (C, h, w)
            for row in range(2):
                for column in range(3):
                    x = F.relu(model.patch_embedding(features[:, row, column]))
                    chosen, weights = model.memory.select(x[None, None], keys, mask[[study]])
                    shown = found[study].patches
                    assert shown.chosen[:, view, row, column].tolist() == chosen[:, 0, 0].tolist()
                    close(shown.weights[:, view, row, column], weights[:, 0, 0])


def test_shares_and_overlap_by_hand():
    """Two heads of γ 2, two classes of two prototypes, one word, one view of two patches."""
    words = Selection(np.array([[[0, 1]], [[0, 2]]]), np.array([[[0.75, 0.25]], [[0.5, -0.5]]], np.float32))
    patches = Selection(
        np.array([[[[[0, 3], [2, 3]]]], [[[[0, 3], [2, 3]]]]]),
        np.array([[[[[1.0, 0.0], [0.5, 0.5]]]], [[[[1.0, 0.0], [0.5, 0.5]]]]], np.float32),
    )
    one, two = np.ones(1, np.float32), np.ones((1, 1), np.float32)
    attention = np.array([[[[0.4, 0.6]]]], np.float32)
    each = Explanation(
        one, one, two, two, attention, np.ones(1, bool), np.ones(2, bool), words, patches, prototypes=4, gamma=2
    )
    close(each.word_shares(), [[0.625, 0.125, 0.25, 0]])
    close(each.seen_shares(), [[0.4, 0, 0.3, 0.3]])
    close(each.overlap(), [[0.4, 0.25]])


def test_without_prototypes_there_is_attention():
    found = explained(a_model(cmpnet=False))
    assert all(each.words is None and each.patches is None for each in found)
    content = to_json(found[0], VOCABULARY, CONDITIONS, crop=64)
    assert content["patches"] is None and content["gamma"] is None and "prototypes" not in content["words"][0]
    close(np.sum(content["words"][0]["attention"]), 1.0, 1e-3)


def test_stored_patch_features_of_any_grid(model):
    torch.manual_seed(3)
    labels, tokens = inputs()[1], torch.tensor([[1, 2, 0]] * 3)
    found = explain(model, torch.randn(3, 1, 49, 512), tokens, labels)
    assert found[0].attention.shape == (3, 1, 7, 7)
    features = torch.randn(3, 1, 6, 512)
    assert explain(model, features, tokens, labels, grid=(2, 3))[0].attention.shape == (3, 1, 2, 3)
    with pytest.raises(ValueError, match="6 patches are no square"):
        explain(model, features, tokens, labels)


def test_explaining_leaves_the_model_as_it_was(model):
    images, labels = inputs()
    tokens = torch.tensor([[0, 3, 4, 0], [0, 5, 6, 7], [0, 2, 9, 1]])
    before = model(images, tokens, labels, views=VIEWS)
    explain(model, images, tokens[:, 1:], labels, views=VIEWS)
    after = model(images, tokens, labels, views=VIEWS)
    assert before.attention is before.auxiliary is after.attention is after.auxiliary is None
    assert all(torch.equal(old, new) for old, new in zip(before[:4], after[:4], strict=True))
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="evaluation mode"):
        explain(a_model().train(), images, tokens, labels)


def test_data_say_what_was_computed(found):
    each = found[2]
    probabilities = dict.fromkeys(CONDITIONS, 0.25)
    sizes = [(300, 200), (64, 64)]
    content = json.loads(
        json.dumps(to_json(each, VOCABULARY, CONDITIONS, crop=64, sizes=sizes, probabilities=probabilities))
    )
    assert content["report"] == VOCABULARY.decode(each.tokens.tolist())
    assert content["labels"] == ["Lung Opacity", "Atelectasis"]
    assert content["probabilities"] == probabilities
    assert content["views"][0]["size"] == [300, 200]
    assert content["views"][0]["rows"] == [0, 77.3, 300] and content["views"][0]["columns"] == [0, 51.6, 200]
    assert [len(each.tokens), 2, 2, 3] == [
        len(content["words"]), len(content["words"][0]["attention"]), 2, len(content["patches"][0][0])
    ]  # fmt: skip
    word = content["words"][0]
    close(word["log_prob"], each.log_probs[0], 1e-4)
    view, row, column = word["patch"]
    assert word["attention"][view][row][column] == max(np.ravel(word["attention"]))
    assert len(word["prototypes"]) <= CONFIG.gamma
    shares = each.word_shares()[0]
    assert [prototype for prototype, _ in word["prototypes"]] == np.argsort(-shares)[: len(word["prototypes"])].tolist()
    others = {prototype for prototype, _ in content["patches"][view][row][column]}
    assert set(word["shared"]) == others & {prototype for prototype, _ in word["prototypes"]}
    assert word["shared_by_chance"] == round(len(word["prototypes"]) * len(others) / 6, 2)
    close(sum(word["classes"].values()), 1.0, 1e-3)
    assert set(word["classes"]) <= set(content["labels"])


def test_the_end_is_named_and_asks_for_nothing(found):
    ended = [each for each in found if each.tokens[-1] == 0]
    assert ended
    for each in ended:
        last = to_json(each, VOCABULARY, CONDITIONS, crop=64)["words"][-1]
        assert last["word"] == END_WORD and "prototypes" not in last


@pytest.mark.parametrize("crop, size", [(160, (300, 420)), (96, (96, 96))])
def test_a_bright_square_changes_most_the_patch_that_it_lies_in(crop, size):
    """In the original picture; a border half a patch off, as an even grid has it, would fail."""
    torch.manual_seed(0)
    visual = VisualExtractor("resnet18").eval()
    rows, columns = (patch_borders(crop, length) for length in size)
    count = len(rows) - 1
    assert count == len(columns) - 1 == visual(torch.zeros(1, 3, crop, crop)).shape[1] ** 0.5
    dark = np.full(size, 60, np.uint8)
    pictures = [dark]
    for row in range(count):
        for column in range(count):
            bright = dark.copy()
            inside = [slice(*np.rint(edges[at : at + 2]).astype(int)) for edges, at in ((rows, row), (columns, column))]
            bright[tuple(inside)] = 255
            pictures.append(bright)
    seen = normalise(torch.from_numpy(np.stack([resize_square(picture, crop) for picture in pictures])))
    with torch.no_grad():
        features = visual(seen)
    change = (features[1:] - features[0]).norm(dim=-1)  # (squares, patches)
    assert change.argmax(dim=1).tolist() == list(range(count**2))


@pytest.mark.parametrize("side", [20, 32, 33, 64, 65, 96, 224, 225])
def test_there_are_as_many_patches_as_the_extractor_makes(side):
    borders = patch_borders(side, 1000)
    assert len(borders) - 1 == -(-side // 32)
    assert borders[0] == 0 and borders[-1] == 1000 and (np.diff(borders) > 0).all()


def a_record(words, attention, **other):
    """What `to_json` would say of words that had this attention each, in one view of 2 x 3 patches."""
    places = [[0, 16.5, 64]], [[0, 16.5, 48.5, 96]]
    return {
        "report": " ".join(words),
        "labels": ["Edema"],
        "probabilities": None,
        "views": [{"size": [64, 96], "rows": places[0][0], "columns": places[1][0]}],
        "patches": None,
        "words": [
            {
                "word": word,
                "log_prob": -0.5,
                "alternatives": {"of": -1.0},
                "attention": [np.reshape(own, (2, 3)).tolist()],
            }
            for word, own in zip(words, attention, strict=True)
        ],
        **other,
    }


EVEN = [1 / 6] * 6


def test_words_that_look_somewhere_are_shown_then_those_that_name_findings():
    words = ["the", "heart", "is", "large", ".", "no", "pleural", "effusion", ".", "the", "shadow", "grows", "."]
    attention = {"the": [1, 0, 0, 0, 0, 0], "grows": [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]}
    record = a_record(words, [attention.get(word, EVEN) for word in words])
    chosen = telling_words(record, count=3)
    assert [words[place] for place in chosen] == ["large", "effusion", "grows"]


def test_the_frame_lies_around_the_patch_that_had_most():
    record = a_record(["heart", "large"], [[0.1, 0.1, 0.1, 0.1, 0.1, 0.5], EVEN])
    figure = draw(record, [np.zeros((64, 96), np.uint8)], title="t", words=[0])
    frames = [
        patch.get_bbox().extents.tolist()
        for axes in figure.axes
        for patch in axes.patches
        if isinstance(patch, Rectangle) and not patch.get_fill()
    ]
    assert frames == [[48.5, 16.5, 96, 64]]
    assert "3.0×" in [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("count", [1, 2, 5], ids=lambda count: f"{count} views")
def test_pictures_of_any_model_and_number_of_views(suffix, count, tmp_path):
    """Twice the same bytes, too."""
    torch.manual_seed(4)
    model = a_model(cmpnet=count > 1)
    labels = torch.zeros(1, 14)
    labels[0, [4, 9]] = 1
    each = explain(model, torch.randn(1, count, 3, 64, 64), torch.tensor([[3, 4, 9, 0]]), labels)[0]
    vocabulary = Vocabulary(["and", "cardiomegaly", "effusion", *"abcdefg", "<unk>"])
    probabilities = dict.fromkeys(CONDITIONS, 0.4) if count == 2 else None
    record = to_json(each, vocabulary, CONDITIONS, crop=64, probabilities=probabilities)
    for name in ("one", "two"):
        explanation_picture(
            tmp_path / f"{name}.{suffix}", record, [np.full((64, 64), 90, np.uint8)] * count, title="Study"
        )
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert first == second
    assert first.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
