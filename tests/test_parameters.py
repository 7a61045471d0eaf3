"""A typing error in params.yaml costs a second and one line, not a night of training with the default."""

import re
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import yaml

from stages.check import Params, without_imagenet
from xpronet.common.params import Part, load_yaml, validate
from xpronet.encoders import backbones

PRESETS = Path(__file__).resolve().parents[1] / "presets"


def preset(name="phantom"):
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text())


def change(content, key, value):
    group, _, name = key.rpartition(".")
    (content[group] if group else content)[name] = value
    return content


@pytest.mark.parametrize("text", ["gamma: 1\nx:\n  gamma: 2\ngamma: 1\n", "{gamma: 1,\n\n gamma: 2}"])
def test_a_key_stands_once(tmp_path, text):
    """YAML takes the last: who changes the first wonders why nothing happens."""
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"p.yaml: not YAML: gamma stands in lines 1 and [34]: keep one"):
        load_yaml(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("2024-13-45", "line 2: '2024-13-45' is no timestamp"),
        ("!!int abc", "line 2: 'abc' is no int"),
        ("!!bool abc", "line 2: 'abc' is no bool"),
        ("!!timestamp abc", "line 2: 'abc' is no timestamp"),
        ("9" * 5000, "line 2: '9999"),
        ("[" * 10_000, "lists or groups within each other, beyond reason"),
    ],
)
def test_what_yaml_takes_for_a_number_or_a_date_and_is_none(tmp_path, value, line):
    """A folder may well be called so; PyYAML's errors of these name neither file nor line."""
    (tmp_path / "p.yaml").write_text(f"seed: 1\nsource: {value}\n")
    with pytest.raises(ValueError, match=f"p.yaml: not YAML: {line}") as error:
        load_yaml(tmp_path / "p.yaml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["phantom", "iu_xray", "mimic_cxr"])
def test_presets_are_valid(name):
    assert validate(Params, preset(name)).dataset == name


def test_presets_have_the_published_hyper_parameters():
    """Rows 10, 12, 27 and 36 of docs/paper-and-code.md."""
    iu, mimic = (validate(Params, preset(name)) for name in ("iu_xray", "mimic_cxr"))
    for params in (iu, mimic):
        assert (params.gamma, params.alpha, params.lambda_visual, params.delta_textual) == (15, 0.4, 1.0, 0.1)
        assert (params.n_prototypes, params.train.epochs, params.train.lr_decay) == (20, 30, 0.8)
        assert params.train.weight_decay == 5e-5
        assert (params.images.resize, params.images.crop, params.decode.beam_size) == (256, 224, 3)
        model = params.model
        assert (model.backbone, model.d_model, model.d_ff, model.heads, model.layers) == ("resnet101", 512, 512, 8, 3)
        assert (model.attention_dropout, model.prototype_dropout) == (0.1, 0.1)
        assert params.test_labels == "predicted"
    assert (iu.theta, iu.train.lr_visual, iu.train.lr, iu.train.lr_step, iu.train.batch_size) == (
        1.5,
        1e-3,
        2e-3,
        10,
        16,
    )
    assert (mimic.theta, mimic.train.lr_visual, mimic.train.lr) == (1.75, 5e-5, 1e-4)
    assert (mimic.train.lr_step, mimic.train.batch_size, mimic.reports.max_length) == (3, 64, 100)
    assert (iu.reports.min_count, iu.reports.max_length, mimic.reports.min_count) == (3, 60, 10)


def test_phantom_s_gamma_is_its_own():
    """The README's `dvc exp run -S gamma=15` must be a real experiment."""
    assert validate(Params, preset()).gamma != 15
    assert validate(Params, change(preset(), "gamma", 15)).gamma == 15


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("gamma", "ten", "gamma = 'ten': Input should be a valid integer"),
        ("gamma", "15", "gamma = '15': Input should be a valid integer"),
        ("gamma", 1.5, "gamma = 1.5: Input should be a valid integer"),
        ("gamma", 0, "gamma = 0: Input should be greater than or equal to 1"),
        ("gamma", 17, "gamma 17 must not exceed n_prototypes 16"),
        ("gama", 15, "gama = 15: no such parameter"),
        ("train.learning_rate", 0.1, "train.learning_rate = 0.1: no such parameter"),
        ("train.lr", "fast", "train.lr = 'fast': Input should be a valid number"),
        ("train.lr", -1.0, "train.lr = -1.0: Input should be greater than 0"),
        ("train.lr", float("nan"), "train.lr = nan: Input should be"),
        ("imlcs", "no", "imlcs = 'no': Input should be a valid boolean"),
        ("imlcs", 1, "imlcs = 1: Input should be a valid boolean"),
        ("train", None, "train = None: Input should be"),
        ("images.crop", 512, "images: crop 512 must not exceed resize 100"),
        ("model.heads", 7, "model: heads 7 must divide d_model 128"),
        ("train.warmup_epochs", 20, "train: warmup_epochs 20 must be below epochs 20: 0 is none"),
        (
            "train",
            {**preset()["train"], "compile": True, "checkpointing": True},
            "train: compile and checkpointing",
        ),
        (
            "systems",
            {**preset()["systems"], "coat": {**preset()["systems"]["coat"], "tags": 15}},
            "systems.coat.tags = 15: Input should be less than or equal to 14",
        ),
        ("labels.labeller", "chexbert", "labels: labeller chexbert needs chexbert_path"),
        ("labels.labeller", "file", "labels: labeller file needs file"),
        ("features.text_encoder", "chexbert", "features.text_encoder chexbert needs labels.chexbert_path"),
        ("openi.min_views", 3, "openi: min_views 3 must not exceed max_views 2"),
        ("images.folder", "pictures", "images.folder must be null for phantom"),
        ("seed", 5_000_000_000, "seed = 5000000000: Input should be less than 4294967296"),
        ("phantom.seed", 2**70, "phantom.seed = 1180591620717411303424: Input should be less than 4294967296"),
        ("openi.seed", -1, "openi.seed = -1: Input should be greater than or equal to 0"),
        ("classifier.lr", 1e30, "classifier.lr: 1e+30 is beyond what any parameter can be"),
        ("train.lr_visual", 1.5, "train.lr_visual = 1.5: Input should be less than or equal to 1"),
        ("train.weight_decay", 1e30, "train.weight_decay: 1e+30 is beyond what any parameter can be"),
        ("lambda_visual", 1e39, "lambda_visual: 1e+39 is beyond what any parameter can be"),
        ("train.epochs", 2**70, "train.epochs: 1180591620717411303424 is beyond what any parameter can be"),
        ("reports.max_length", 2**70, "reports.max_length: 1180591620717411303424 is beyond"),
        ("phantom.size", 10**9, "phantom.size = 1000000000: Input should be less than or equal to 4096"),
        ("model.backbone", "resnet50", "model.visual_weights classifier needs model.backbone resnet50"),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_rule(key, value, line):
    with pytest.raises(ValueError) as error:
        validate(Params, change(preset(), key, value))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_several_processes_compile_nothing():
    content = change(change(preset(), "runtime.processes", 2), "train.compile", True)
    with pytest.raises(ValueError, match="train.compile is for one process"):
        validate(Params, content)


@pytest.mark.parametrize("group", ["classifier", "train"])
def test_a_batch_of_one_patch_is_refused(group):
    """Batch norm cannot norm a single value, and would say so at the end of the first epoch."""
    content = change(change(preset(), "images.crop", 32), "phantom.train", 1001)
    for key in ("classifier.batch_size", "train.batch_size"):
        change(content, key, 15)  # 1001 = 66 x 15 + 11
    change(content, "train.freeze_epochs", 0)
    assert validate(Params, content)
    for size in (1, 8, 1000):
        with pytest.raises(ValueError, match=f"{group}.batch_size {size} leaves a batch of one study, and images"):
            validate(Params, change(content, f"{group}.batch_size", size))
    assert validate(Params, change(content, "images.crop", 33))  # larger pictures have more patches
    content = change(change(preset(), "images.crop", 32), "phantom.train", 1000)
    change(change(content, "train.freeze_epochs", 0), "train.batch_size", 16)
    assert validate(Params, change(content, "train.accumulate", 4))
    with pytest.raises(ValueError, match="train.batch_size 16 leaves a batch or part of one study"):
        validate(Params, change(content, "train.accumulate", 9))


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze_epochs": 3, "epochs": 3, "crops": 1, "warmup_epochs": 0},
        {"phase": "scst", "start": "m", "freeze_epochs": 0},
    ],
)
def test_a_batch_of_one_patch_is_fine_where_batch_norm_is_in_evaluation_mode(changes):
    content = change(change(preset(), "images.crop", 32), "classifier.batch_size", 15)
    content["train"] |= {"batch_size": 1, "accumulate": 1, **changes}
    assert validate(Params, content)
    content["train"] |= {"phase": "cross_entropy", "freeze_epochs": 2}
    with pytest.raises(ValueError, match="train.batch_size 1 leaves a batch of one study"):
        validate(Params, content)


def test_all_mistakes_come_at_once():
    content = change(change(preset(), "gamma", "x"), "train.epochs", 0)
    del content["theta"]
    with pytest.raises(ValueError) as error:
        validate(Params, content)
    assert str(error.value).count("\n") == 2
    assert "theta: Field required" in str(error.value)


def test_an_exponent_without_a_point_is_a_number():
    """DVC writes 5e-05 for -S train.lr=5e-5, which YAML 1.1 reads as text."""
    content = change(preset(), "train.lr", yaml.safe_load("5e-05"))
    assert isinstance(content["train"]["lr"], str)
    assert validate(Params, content).train.lr == 5e-5


def test_some_keys_of_a_group():
    class Some(Part):
        beam_size: int

    assert validate(Some, {"beam_size": 3, "max_length": 5}).beam_size == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "not YAML"), ("- 1", "expected keys and values"), (None, "copy one from presets/")],
)
def test_a_broken_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_yaml(path)
    assert "\n" not in str(error.value)


OFFLINE = URLError("no network")


@pytest.mark.parametrize(
    ("classifier", "model"),
    [
        (("resnet101", "imagenet"), ("resnet101", "imagenet")),
        (("resnet18", "imagenet"), ("resnet101", "imagenet")),
        (("resnet18", "random"), ("resnet101", "imagenet")),
        (("resnet18", "resnet.pth"), ("resnet101", "imagenet")),
        (("resnet18", "imagenet"), ("resnet18", "classifier")),
    ],
)
def test_without_a_network_check_says_which_keys_do_without_imagenet(monkeypatch, tmp_path, classifier, model):
    """Stage classify would say it, hours in; and what is advised is a combination that check accepts."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(backbones, "urlopen", Mock(side_effect=OFFLINE))
    content = preset("iu_xray")
    content["classifier"] |= {"backbone": classifier[0], "weights": classifier[1]}
    content["model"] |= {"backbone": model[0], "visual_weights": model[1]}
    (line,) = without_imagenet(validate(Params, content))
    assert "= 'imagenet': the weights of resnet" in line and "no network" in line
    changes = re.findall(r"(\w+\.\w+)=(\w+)", line)
    for key, value in changes:
        change(content, key, value)
    params = validate(Params, content)
    assert "imagenet" not in (params.classifier.weights, params.model.visual_weights)
    assert params.model.backbone == model[0] and list(without_imagenet(params)) == []


def test_imagenet_weights_that_are_there_need_no_network(monkeypatch, tmp_path):
    """In torch's cache; or the server answers."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    params = validate(Params, preset("iu_xray"))
    ask = Mock()
    monkeypatch.setattr(backbones, "urlopen", ask)
    assert list(without_imagenet(params)) == []
    request = ask.call_args.args[0]
    assert request.get_method() == "HEAD" and re.search(r"/resnet101-[0-9a-f]+\.pth$", request.full_url)
    ask.side_effect = OFFLINE
    assert len(list(without_imagenet(params))) == 1
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints" / request.full_url.rpartition("/")[2]).touch()
    assert list(without_imagenet(params)) == []
