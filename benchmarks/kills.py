"""`python -m benchmarks.kills --moments N`: tiny trainings, killed N times at random moments and started again.

Each is a whole stage, started as DVC does, which first removes what the stage is to write: `train`, with a visual
extractor that is frozen at first or without, and `classify`. Most moments are a SIGKILL, some a SIGTERM, into a process
forked from this one, where PyTorch is imported; the first ones are each in a Python of their own. A state is saved
after every step, so that many moments fall into one. What must not differ are the bytes of all that the stage writes.
The last line says how many moments there were and what differs; the exit code is 1 where anything does.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml
from torch import nn

import stages.classify
import stages.train
from stages.stage import run
from xpronet.classifier import network
from xpronet.common.files import write_json
from xpronet.common.params import load_yaml
from xpronet.common.weights import save_tensors
from xpronet.data.studies import Study
from xpronet.encoders import backbones
from xpronet.labels.conditions import CONDITIONS
from xpronet.labels.table import write_labels
from xpronet.model import visual
from xpronet.sources.pack_writer import pack_image, write_pack

ROOT = Path(__file__).resolve().parents[1]
FRESH = 3  # moments in a Python of their own, which takes seconds to start
SIZES = {"train": 14, "val": 4, "test": 2}
WIDTH = 8
CHANGES = {
    "n_prototypes": 2,
    "gamma": 2,
    "images": {"resize": 36, "crop": 32},
    "reports": {"min_count": 1, "max_length": 10},
    "classifier": {"epochs": 2, "batch_size": 4, "lr": 0.1},
    "model": {"d_model": 8, "d_ff": 8, "heads": 2, "layers": 1},
    "train": {
        "epochs": 2,
        "batch_size": 4,
        "lr": 0.03,
        "lr_visual": 0.03,
        "warmup_epochs": 0.5,
        "crops": 2,
        "val_beam_size": 2,
        "val_max_length": 8,
    },
    "runtime": {"device": "cpu", "workers": 0, "batch_size": 4, "save_minutes": 0},
}
KINDS = {  # stage, freeze_epochs
    "train": ("train", 0),
    "train with a frozen extractor": ("train", 1),
    "classify": ("classify", 0),
}


class TinyNet(nn.Module):
    """In place of a ResNet: the names of its parts, batch norm, and so few weights that a state is written at once.

    As there, no weight is one that batch norm takes back: its gradient would be rounding.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, WIDTH, 3, stride=8, bias=False), nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU()
        self.maxpool, self.layer1, self.layer2, self.layer3 = (nn.Identity() for _ in range(4))
        self.layer4 = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, stride=2, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.fc = nn.Linear(WIDTH, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer4(self.relu(self.bn1(self.conv1(images)))).mean(dim=(2, 3)))


def make(folder: Path) -> None:
    """What the stages before have left, drawn at random, and the parameters."""
    generator = np.random.default_rng(1)
    words = [f"word{number}" for number in range(6)]
    annotation: dict[str, list] = {split: [] for split in SIZES}
    studies, packed = [], []
    for split, size in SIZES.items():
        for number in range(size):
            id, views = f"{split}-{number}", 1 + number % 2
            report = " ".join(generator.choice(words, 5)) + " ."
            paths = [f"{id}-{view}.png" for view in range(views)]
            annotation[split].append({"id": id, "split": split, "report": report, "image_path": paths})
            studies.append(Study(id=id, split=split, report=report, image_path=tuple(paths)))
            pictures = generator.integers(0, 256, (views, 36, 40), np.uint8)
            packed += [pack_image(picture, resize=36, crop=32, train=split == "train") for picture in pictures]
    data = folder / "data"
    (data / "prepared").mkdir(parents=True)
    (data / "prepared/annotation.json").write_text(json.dumps(annotation))
    write_pack(data / "prepared/images.u8", data / "prepared/images.jsonl", iter(packed), resize=36, crop=32)
    labels = (generator.random((len(studies), len(CONDITIONS))) < 0.4).astype(np.float32)
    labels[:, 0] = 1
    labels[::2, 1] = 0
    write_labels(data / "labels.csv", studies, labels)
    held_out = sum(SIZES.values()) - SIZES["train"]
    write_labels(data / "predicted_labels.csv", studies[-held_out:], labels[-held_out:])
    torch.manual_seed(1)
    save_tensors({"prototypes": torch.randn(len(CONDITIONS), 2, 12)}, data / "prototypes.safetensors")
    write_json(data / "templates.json", [])
    (data / "classifier").mkdir()
    save_tensors(TinyNet(len(CONDITIONS)).state_dict(), data / "classifier/weights.safetensors")


def configure(folder: Path, kind: str) -> None:
    params = load_yaml(ROOT / "presets/phantom.yaml")
    for key, value in CHANGES.items():
        params[key] = {**params[key], **value} if isinstance(value, dict) else value
    params["train"]["freeze_epochs"] = KINDS[kind][1]
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@cache
def outputs(stage: str) -> list[str]:
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    every = [*described["outs"], *described["metrics"], *described["plots"]]
    return [next(iter(each)) if isinstance(each, dict) else each for each in every]


def hashes(folder: Path, stage: str) -> dict[str, str]:
    """Of each file that the stage writes."""
    tops = [folder / each for each in outputs(stage)]
    files = [path for top in tops for path in (sorted(top.rglob("*")) if top.is_dir() else [top]) if not path.is_dir()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "none"
        for path in files
    }


def start(folder: Path, kind: str, *, first: bool = True) -> None:
    """Be the stage's process, which DVC starts after it has removed the stage's outputs; does not return.

    Args:
        first: or the only one; others come together with it.
    """
    os.chdir(folder)
    os.environ.pop("DVC_ROOT", None)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    torch.set_num_threads(1)
    stage = KINDS[kind][0]
    sys.argv = [f"stages/{stage}.py"]  # by which it knows itself
    for output in map(Path, outputs(stage)) if first else ():
        shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
    for module in (backbones, network, visual):
        module.resnet = lambda backbone, classes: TinyNet(classes)
    backbones.WIDTH["resnet18"] = WIDTH
    # METEOR without Java: here only that it follows from the texts
    meteor = SimpleNamespace(score=lambda _, texts: (len(" ".join(texts)) / 1e4, np.zeros(len(texts))))
    stages.train.running_meteor = lambda: contextlib.nullcontext(meteor)
    try:
        run(importlib.import_module(f"stages.{stage}").main, together=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code)
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    os._exit(code)


class Forked:
    """A child of this process, with what it has imported."""

    def __init__(self, folder: Path, kind: str):
        self.pid = os.fork()
        if not self.pid:
            try:
                start(folder, kind)
            finally:
                os._exit(70)

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Fresh:
    """A Python of its own."""

    def __init__(self, folder: Path, kind: str):
        command = [sys.executable, "-m", "benchmarks.kills", "--start", kind, "--folder", str(folder)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        while self.process.poll() is None and not (folder / "log").exists():  # until it has imported PyTorch
            time.sleep(0.01)

    def kill(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait()


def moment(source: Path, folder: Path, kind: str, seconds: float, draw: random.Random, process: Callable) -> Counter:
    """Run a stage to its end, killed on the way once or more often -> how it went."""
    shutil.copytree(source, folder)
    configure(folder, kind)
    went: Counter = Counter()
    for attempt in range(100):
        child = process(folder, kind)
        if attempt == 0 or draw.random() < 0.2:
            number = signal.SIGTERM if draw.random() < 0.2 else signal.SIGKILL
            time.sleep(draw.random() * seconds)
            child.kill(number)
            went[number.name] += 1
        code = child.wait()
        if code not in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
            raise ValueError(f"{kind} ended with code {code}: {(folder / 'log').read_text()[-1000:]}")
        went["saved by SIGTERM"] += code == 128 + signal.SIGTERM
        if code == 0:
            break
        (folder / "log").unlink(missing_ok=True)
    return went


def main(moments: int, *, fresh: int = FRESH, seed: int = 1) -> list[str]:
    """What differs, a line each.

    Args:
        fresh: how many of the moments are in a Python of their own.
    """
    draw, began, differs, went = random.Random(seed), time.monotonic(), [], Counter()
    with tempfile.TemporaryDirectory() as place:
        source, expected, seconds = Path(place) / "source", {}, {}
        make(source)
        for kind in KINDS:
            folder = Path(place) / f"never killed, {kind}"
            shutil.copytree(source, folder)
            configure(folder, kind)
            started = time.monotonic()
            code = Forked(folder, kind).wait()
            seconds[kind] = time.monotonic() - started
            if code:
                raise ValueError(f"{kind} ended with code {code}: {(folder / 'log').read_text()[-3000:]}")
            expected[kind] = hashes(folder, KINDS[kind][0])
            left = [path.name for path in (folder / ".resume").rglob("*.safetensors")]
            assert not left, f"{kind} has left {left}"
        for number in range(moments):
            kind, folder = list(KINDS)[number % len(KINDS)], Path(place) / str(number)
            process = Fresh if number < fresh else Forked
            went += moment(source, folder, kind, seconds[kind], draw, process)
            went["went on"] += "goes on in epoch" in (folder / "log").read_text()
            found = hashes(folder, KINDS[kind][0])
            other = sorted(path for path in {**expected[kind], **found} if expected[kind].get(path) != found.get(path))
            if other:
                differs.append(f"moment {number}, {kind}: {', '.join(other)}")
                print(differs[-1], flush=True)
            shutil.rmtree(folder)
            if number % 20 == 19:
                print(f"{number + 1} of {moments} moments, {time.monotonic() - began:.0f} s", flush=True)
    print(", ".join(f"{name}: {count}" for name, count in went.items()))
    print(f"{moments} moments: {'; '.join(differs) or 'nothing differs'}")
    return differs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        start(arguments.folder, arguments.start)
    sys.exit(bool(main(arguments.moments, seed=arguments.seed)))
