"""Every loop that moves data runs where its tensors are not on the CPU: a GPU run must not die hours into the pipeline.

On a stand-in that refuses what a GPU refuses, everywhere; and on the GPU itself, `pytest -m gpu`, where there is one.
"""

import copy
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from transformers import BertConfig, BertModel

from benchmarks.processes import free_port
from stages import check
from tests.accelerator import stand_in
from tests.conftest import launched
from tests.made import pack_of
from tests.published import RECIPE
from tests.recorded import CLASSIFIER
from tests.test_end_to_end import MINIATURE
from tests.test_processes import normalised
from xpronet.classifier import network as classifier_network
from xpronet.classifier.fit import fit
from xpronet.classifier.network import predict
from xpronet.common import devices
from xpronet.common.processes import Group, together
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import ImagePack
from xpronet.data.reports import Vocabulary
from xpronet.encoders import text_encoders
from xpronet.encoders.backbones import resnet
from xpronet.encoders.bert import packaged_folder, uncased_tokenizer
from xpronet.encoders.chexbert import OUTPUTS
from xpronet.evaluation import extras
from xpronet.evaluation.params import EvaluateParams
from xpronet.labels.chexbert import CheXbert
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.losses import Objective
from xpronet.model.visual import VisualExtractor
from xpronet.model.writing import surprise, write_reports
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.prototypes.features import write_visual_features
from xpronet.training.loop import train

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
GPU = torch.cuda.is_available()
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")  # a process's first backward pass on a GPU
needs_gpu = pytest.mark.skipif(not GPU, reason="needs an NVIDIA GPU: torch.cuda.is_available() is false")
without_gpu = pytest.mark.skipif(GPU, reason="the real one is here")
REPORTS = ["no acute findings .", "", "the heart is enlarged . " * 9]
WORDS = ["<unk>", "clear", "effusion", "heart", "large", "no"]
# Rounding differs between devices; the CPU's result is what a GPU's is held against.
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
AFTER_STEPS = {"rel": 0.02}  # a few steps of an optimiser enlarge it


@pytest.fixture(
    params=[
        pytest.param("stand-in", marks=without_gpu),
        pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu]),
    ]
)
def device(request, monkeypatch):
    if request.param == "cuda":
        monkeypatch.setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee")  # not TF32, 10 bits of mantissa
        yield torch.device("cuda")
    else:
        with stand_in() as there:
            yield there


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> ImagePack:
    images = np.random.default_rng(0).integers(0, 256, (5, 70, 80), np.uint8)
    return pack_of(tmp_path_factory.mktemp("pack"), images, resize=64, crop=64)


def studies(pack: ImagePack, **options) -> StudyDataset:
    """Four studies, one of them with two views, with reports of several lengths and labels of both kinds."""
    tokens = [[0, 3, 4, 5, 0], [0, 1, 0], [0, 2, 2, 2, 2, 2, 0], [0, 5, 1, 0]]
    labels = np.eye(4, len(CONDITIONS), dtype=np.float32)
    labels[3, 0] = 1
    return StudyDataset(pack, [[0, 1], [2], [3], [4]], tokens=tokens, labels=labels, **options)


@pytest.fixture(scope="module")
def start() -> dict[str, nn.Module]:
    """A ResNet and models, on the CPU."""
    torch.manual_seed(1)
    off = dict.fromkeys(("dropout", "feature_dropout", "attention_dropout", "prototype_dropout"), 0.0)
    small = {"backbone": "resnet18", "d_model": 32, "d_ff": 32, "heads": 4, "layers": 1}
    sizes = {"vocab_size": len(WORDS), **small, "n_prototypes": 4, "gamma": 2, "d_prototype": 16, **off}
    return {
        "resnet": resnet("resnet18", classes=1),
        "official": XProNet(ModelConfig(**sizes)),
        "paper": XProNet(ModelConfig(**sizes, formulation="paper")),
        "w/o CMPNet": XProNet(ModelConfig(**sizes, cmpnet=False)),
    }


# ----- the stand-in itself


@without_gpu
@pytest.mark.parametrize(
    "mistake",
    [
        lambda x, device: x + torch.ones(3),
        lambda x, device: x @ torch.ones(3, 2),
        lambda x, device: torch.ones(3, requires_grad=True) @ x[0],
        lambda x, device: torch.cat([x, torch.ones(1, 3)]),
        lambda x, device: torch.stack([x.sum(), torch.tensor(1.0)]),
        lambda x, device: torch.where(torch.ones(2, 3) > 0, x, x),
        lambda x, device: x.masked_fill(torch.ones(2, 3) > 0, 0),
        lambda x, device: torch.ones(2, 3)[x > 1],
        lambda x, device: torch.ones(2, 3).index_put_((torch.tensor([0]),), x[:1]),
        lambda x, device: nn.functional.embedding(torch.tensor([0]), x),
        lambda x, device: nn.Linear(3, 2)(x),
        lambda x, device: x.numpy(),
        lambda x, device: np.asarray(x),
        lambda x, device: np.zeros(3)[x[0].long()],
        lambda x, device: np.ones(3) * x.sum(),
        lambda x, device: torch.randperm(3, device=device, generator=torch.Generator()),
        lambda x, device: x.normal_(generator=torch.Generator()),
        lambda x, device: torch.ones(3).to(device, non_blocking=True),
    ],
)
def test_the_stand_in_refuses_what_a_gpu_refuses(mistake):
    """Else the tests below would pass whatever the loops do."""
    with stand_in() as device:
        x = torch.arange(6.0).view(2, 3).to(device)
        with pytest.raises((RuntimeError, TypeError)):
            mistake(x, device)


def test_the_stand_in_computes_as_the_cpu(device):
    """What is right on a GPU must pass: factories, scalars and indices of the CPU, writing in place, and gradients."""
    x = torch.arange(6.0).view(2, 3).to(device)
    assert x.device.type == device.type
    assert (x + torch.tensor(1.0)).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (x * torch.tensor([2.0, 0, 0], device=device)).sum().item() == 6
    assert x[torch.tensor([False, True])].cpu().numpy().tolist() == [[3, 4, 5]]
    table = torch.zeros(2, 3, device=device)
    table[:, :2], table[x > 4] = x[:, 1:], 9
    assert table.tolist() == [[1, 2, 0], [4, 5, 9]]
    linear = nn.Linear(3, 1).to(device)
    linear(x).sum().backward()
    assert linear.weight.grad.device.type == device.type and linear.weight.grad.tolist() == [[3, 5, 7]]


# ----- the loops


def test_the_classifier_learns_and_predicts(device, pack, tmp_path):
    """Stage classify. Saved from the device and loaded again, it predicts the same on the CPU."""
    data = studies(pack, augment=True), studies(pack)
    settings = {"precision": "float32", "batch_size": 3}
    fitted = fit(*data, CLASSIFIER, seed=1, device=device, batch_size=3)
    found = predict(fitted.classifier, data[1], device=device, **settings)
    classifier_network.save(tmp_path / "classifier", fitted.classifier, fitted.thresholds)
    loaded, _ = classifier_network.load(tmp_path / "classifier")
    assert (found.shape, found.dtype) == ((4, 14), np.float32)
    np.testing.assert_allclose(found, predict(loaded, data[1], device=CPU, **settings), **CLOSE)
    expected = fit(*data, CLASSIFIER, seed=1, device=CPU, batch_size=3)
    assert fitted.history[0]["loss"] == pytest.approx(expected.history[0]["loss"], **AFTER_STEPS)


def extract(folder: Path, network: nn.Module, dataset: StudyDataset, **options) -> list[np.ndarray]:
    folder.mkdir(exist_ok=True)
    paths = [folder / "visual.npy", folder / "flipped.npy"]
    write_visual_features(paths, network, dataset, backbone="resnet18", batch_size=3, **options)
    return [np.load(path) for path in paths]


def test_visual_features(device, start, pack, tmp_path):
    """Stage features, which calls it twice with one network: for the train split, then for the others."""
    there, dataset = copy.deepcopy(start["resnet"]), studies(pack)
    expected = extract(tmp_path / "cpu", copy.deepcopy(start["resnet"]), dataset, device=CPU)
    for call in ("train", "held_out"):
        for found, other in zip(extract(tmp_path / call, there, dataset, device=device), expected, strict=True):
            np.testing.assert_allclose(found, other, **CLOSE)


def extract_together(rank: int, folder: Path, network: nn.Module, dataset: StudyDataset, device, port: int) -> None:
    """As one of two processes that a launcher has started."""
    launched(rank, 2, port)
    with together(1, device) as group:
        extract(folder, network, dataset, device=group.place(device), group=group)


@pytest.mark.gpu
@needs_gpu
def test_two_processes_share_the_gpus(start, pack, tmp_path):
    """Each must find a GPU, all each other, and together the same features."""
    cuda = torch.device("cuda")
    one = extract(tmp_path / "one", copy.deepcopy(start["resnet"]), studies(pack), device=cuda)
    (tmp_path / "two").mkdir()
    work = (tmp_path / "two", copy.deepcopy(start["resnet"]), studies(pack), cuda, free_port())
    torch.multiprocessing.spawn(extract_together, args=work, nprocs=2)
    two = [np.load(tmp_path / f"two/{name}.npy") for name in ("visual", "flipped")]
    np.testing.assert_allclose(two, one, **CLOSE)


def normalise_together(rank: int, device: torch.device, port: int) -> None:
    launched(rank, 2, port)
    with together(1, device) as group:
        for precision, layout in itertools.product(
            (torch.float32, torch.bfloat16), (torch.contiguous_format, torch.channels_last)
        ):
            normalised(group, 3, precision, layout, device=group.place(device))


@pytest.mark.gpu
@needs_gpu
def test_two_processes_normalise_on_the_gpus():
    """By other kernels than a CPU's."""
    torch.multiprocessing.spawn(normalise_together, args=(torch.device("cuda"), free_port()), nprocs=2)


@pytest.mark.parametrize(("process", "gpus", "its"), [(0, 2, 0), (1, 2, 1), (2, 2, 0), (1, 1, 0)])
def test_each_process_takes_the_next_gpu(monkeypatch, process, gpus, its):
    """Else all processes would crowd onto the first of the GPUs that one paid for."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert Group(8 + process, 11, process).place(torch.device("cuda")) == torch.device("cuda", its)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A folder with a tiny BERT, and beside it a CheXbert made of it."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(1)
    model = BertModel(BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16))
    model.save_pretrained(folder)
    uncased_tokenizer().save_pretrained(folder)
    heads = nn.ModuleList(nn.Linear(16, outputs) for outputs in OUTPUTS)
    state = nn.ModuleDict({"bert": model, "linear_heads": heads}).state_dict()
    torch.save({"model_state_dict": state}, folder.with_name("chexbert.pth"))
    return folder


def test_chexbert_labels(device, bert, tmp_path):
    """Stage label with labels.labeller: chexbert, and stage evaluate with its reports."""
    path = bert.with_name("chexbert.pth")
    there, expected = (CheXbert.from_checkpoint(path, heads=2, device=place) for place in (device, CPU))
    assert there.encoder.bert.device.type == device.type  # on the CPU it would work too, and take days
    logits = expected.logits(REPORTS)
    np.testing.assert_allclose(there.logits_beside(tmp_path / "chexbert", REPORTS), logits, **CLOSE)
    np.testing.assert_array_equal(there.label(REPORTS), logits.argmax(axis=2))


@pytest.mark.parametrize("name", ["minilm", "a folder"])
def test_text_features(device, bert, tmp_path, name):
    """Stage features: the textual half of a prototype."""
    there, expected = (
        text_encoders.load(str(bert) if name == "a folder" else name, device=place) for place in (device, CPU)
    )
    assert there.bert.device.type == device.type
    there.write(tmp_path / "textual.npy", REPORTS)
    np.testing.assert_allclose(np.load(tmp_path / "textual.npy"), expected.embed(REPORTS), **CLOSE)


PARAMS = RECIPE.model_copy(
    update={"epochs": 1, "batch_size": 2, "lr_visual": 1e-4, "lr": 1e-3, "val_beam_size": 2, "val_max_length": 6}
)
CARD = checkpoint.ModelCard(Vocabulary(WORDS), CONDITIONS, "iu_xray", crop=64, beam_size=2, max_length=6)


@pytest.mark.parametrize("name", ["official", "paper", "w/o CMPNet"])
def test_the_model_learns(device, start, pack, tmp_path, name):
    """Stage train: steps, validation, and the model folder, which has to load on another machine's CPU."""

    def run(place: torch.device) -> tuple[XProNet, dict[str, float]]:
        model = copy.deepcopy(start[name])

        def validate(model: XProNet) -> dict[str, float]:
            _, log_probs = written(model, studies(pack), place)
            assert np.isfinite(log_probs).all()
            return dict.fromkeys(("BLEU_1", "BLEU_4", "METEOR"), 0.5)

        objective = Objective(1.5, 0.5, 1.0, 0.1, formulation="paper" if name == "paper" else "official")
        (row,) = train(
            model,
            studies(pack, augment=True),
            PARAMS,
            objective,
            validate=validate,
            save=lambda model: checkpoint.save(tmp_path / place.type, model, CARD),
            seed=1,
            device=place,
        )
        return model, row

    model, row = run(device)
    state, loaded = model.state_dict(), checkpoint.load(tmp_path / device.type)[0].state_dict()
    assert {tensor.device.type for tensor in state.values()} == {device.type}
    assert all(torch.equal(loaded[key], tensor.cpu()) for key, tensor in state.items())
    _, expected = run(CPU)
    for loss in ("total", "cross_entropy", "visual_contrastive", "textual_contrastive"):
        assert row[loss] == pytest.approx(expected[loss], **AFTER_STEPS), loss


def written(model: XProNet, dataset: StudyDataset, device: torch.device) -> tuple[list[str], list[float]]:
    return write_reports(model, CARD.vocabulary, dataset, beam_size=2, max_length=6, batch_size=3, device=device)


@pytest.mark.parametrize("name", ["official", "paper", "w/o CMPNet"])
def test_reports_and_their_likelihood(device, start, pack, name):
    """Stage generate."""
    dataset, there = studies(pack), copy.deepcopy(start[name]).to(device)
    reports, log_probs = written(there, dataset, device)
    expected, expected_log_probs = written(start[name], dataset, CPU)
    assert reports == expected
    np.testing.assert_allclose(log_probs, expected_log_probs, **CLOSE)
    nats = surprise(there, dataset, batch_size=3, device=device)
    np.testing.assert_allclose(nats, surprise(start[name], dataset, batch_size=3, device=CPU), **CLOSE)


@pytest.mark.parametrize(
    ("device", "radgraph", "bertscore"),
    [("cpu", -1, "cpu"), ("cuda", 0, "cuda"), ("cuda:1", 1, "cuda:1"), ("mps", -1, "mps")],
)
def test_extra_scores_are_told_the_device(tmp_path, monkeypatch, device, radgraph, bertscore):
    """Else these packages choose one: hours on the CPU beside a GPU, or a GPU that somebody wanted left alone."""
    told = {}

    def fake(package: str, name: str, key: str):
        module = ModuleType(package)
        setattr(module, name, lambda **options: told.update({package: options[key]}))
        monkeypatch.setitem(sys.modules, package, module)

    fake("radgraph", "F1RadGraph", "cuda")
    fake("bert_score", "BERTScorer", "device")
    (tmp_path / "radgraph-xl/vocabulary").mkdir(parents=True)
    for name in ("config.json", "weights.th"):
        (tmp_path / "radgraph-xl" / name).touch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    params = EvaluateParams(radgraph=str(tmp_path), bertscore=str(packaged_folder()), bertscore_layer=None)
    monkeypatch.setattr(devices, "choose", torch.device)  # none of them need be there
    extras.load(params, device=device)
    assert told == {"radgraph": radgraph, "bert_score": bertscore}


@pytest.mark.gpu
@needs_gpu
def test_bertscore_on_the_gpu_is_the_cpu_s():
    pytest.importorskip("bert_score", reason="needs the extra: pip install -e '.[clinical]'")
    found, expected = (extras.bertscore(packaged_folder(), device=torch.device(name)) for name in ("cuda", "cpu"))
    np.testing.assert_allclose(found(REPORTS, REPORTS[::-1]), expected(REPORTS, REPORTS[::-1]), **CLOSE)


# ----- runtime.device


@pytest.mark.parametrize(
    ("asked", "cuda", "mps", "chosen"),
    [
        ("auto", True, False, "cuda"),
        ("auto", True, True, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("cuda", True, False, "cuda"),
        ("cuda", False, True, None),
        ("mps", True, False, None),
    ],
)
def test_the_device_is_the_one_that_was_asked_for(monkeypatch, asked, cuda, mps, chosen):
    """A run on a CPU that was meant for a GPU would take weeks: it must say so at once."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if chosen is None:
        with pytest.raises(ValueError, match=f"runtime.device: {asked} is not available here; use auto or cpu"):
            devices.choose(asked)
    else:
        assert devices.choose(asked) == torch.device(chosen)


def test_compiling_changes_no_name_of_a_weight(monkeypatch):
    """Else a saved model or state could not be read again; and no compiler is a line, not a traceback of pages."""
    network = VisualExtractor("resnet18").layers
    names = list(network.state_dict())
    monkeypatch.setenv("CXX", "no-such-compiler")
    line = "^train.compile: torch.compile needs a C.. compiler, and no-such-compiler is not there: "
    with pytest.raises(ValueError, match=line):
        devices.compile_in_place(network, key="train.compile")
    assert network._compiled_call_impl is None
    monkeypatch.setenv("CXX", sys.executable)
    devices.compile_in_place(network, key="train.compile")  # its first run would compile
    assert list(network.state_dict()) == names and network._compiled_call_impl is not None


@without_gpu
def test_a_gpu_that_is_not_there_stops_the_run_before_any_work(tmp_path, monkeypatch):
    """Else the run packs all images, for hours, before stage classify asks for the GPU."""
    params = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    params |= {"source": str(tmp_path), "runtime": {**params["runtime"], "device": "cuda"}}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match=r"runtime\.device: cuda is not available here"):
        check.main()
    assert not Path("data").exists()


@pytest.mark.parametrize("name", ["cpu", "mps", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_half_precision_is_on_where_it_is_asked_for(name):
    """PyTorch switches it off with a warning where a device lacks it."""
    for precision, half in (("float32", None), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        with devices.autocast(torch.device(name), precision):
            assert torch.is_autocast_enabled(name) == (half is not None)
            assert half is None or torch.get_autocast_dtype(name) == half


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_the_whole_pipeline_runs_on_the_gpu(new_project, precision):
    """`runtime.device: cuda`, from nothing to the metrics."""
    changes = {group: {**MINIATURE[group], "precision": precision} for group in ("classifier", "train")}
    runtime = {**MINIATURE["runtime"], "device": "cuda", "processes": 1}
    project = new_project("phantom", {**MINIATURE, **changes, "runtime": runtime})
    project.run("dvc", "repro")
    for split in ("val", "test"):
        metrics = project.json(f"metrics/details/{split}.json")
        assert all(1 < metrics[source]["cross_entropy"] < 9 for source in ("predicted", "reference", "none"))  # nats
