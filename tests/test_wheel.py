"""What `pip install` brings is enough: the package built as a wheel, away from the repository, with a model folder."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xpronet.classifier import network
from xpronet.data.reports import Vocabulary
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet

ROOT = Path(__file__).resolve().parents[1]
SLOW = {"transformers", "sklearn", "scipy", "dvc", "matplotlib", "pandas", "pycocoevalcap"}  # to import
RUN = f"""
import sys, xpronet
from xpronet.app.cli import app
app(sys.argv[1:], standalone_mode=False)
print(xpronet.__path__[0], *sorted({SLOW} & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, unpacked: what stands on the path of an environment."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "xpronet", source / "xpronet", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", out, source], check=True, capture_output=True, text=True)
    (wheel,) = out.glob("xpronet-*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


def test_the_wheel_holds_every_file_of_the_package(installed):
    """The pages too, which are no Python."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "xpronet").rglob("*") if path.is_file()}
    wanted = {file for file in files if "__pycache__" not in file}
    assert {f"xpronet/app/{name}" for name in ("view.html", "serve.html", "look.css")} <= wanted
    assert {path.relative_to(installed).as_posix() for path in (installed / "xpronet").rglob("*.*")} == wanted


@pytest.fixture(scope="module")
def elsewhere(installed, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """A folder with a model folder, a radiograph and an empty folder, and the environment of the unpacked wheel."""
    folder = tmp_path_factory.mktemp("elsewhere")
    words = Vocabulary(["<unk>", "clear", "lungs"])
    model = XProNet(ModelConfig(3, "resnet18", 16, 16, 2, 1, n_prototypes=2, d_prototype=8, gamma=3))
    card = checkpoint.ModelCard(words, CONDITIONS, "iu_xray", crop=64, beam_size=2, max_length=4)
    network.save(folder / "c", network.StudyClassifier("resnet18"), np.full(14, 0.5, np.float32))
    checkpoint.save(folder / "m", model, card, classifier=folder / "c")
    pixels = np.random.default_rng(0).integers(0, 200, (80, 90), np.uint8)
    Image.fromarray(pixels).save(folder / "chest.png")
    (folder / "empty").mkdir()
    return folder, {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}


def test_a_report_is_written_away_from_the_repository(installed, elsewhere):
    """By the package, its model folder and nothing else; and without what takes seconds to import."""
    folder, environment = elsewhere
    command = [sys.executable, "-c", RUN, "generate", "../chest.png", "--model", "../m", "--json"]
    done = subprocess.run(command, cwd=folder / "empty", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["labels_from"] == "predicted" and set(record["report"].split()) <= {"<unk>", "clear", "lungs"}
    assert done.stderr.split() == [str(installed / "xpronet")]


def test_the_page_is_served_away_from_the_repository(installed, elsewhere):
    """And what it needs is imported before it says that it is there."""
    folder, environment = elsewhere
    command = [sys.executable, "-u", "-c", RUN, "serve", "--port", "0", "--model", "../m"]
    with subprocess.Popen(
        command,
        cwd=folder / "empty",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as server:
        try:
            address = server.stdout.readline().split()[0]
            with urllib.request.urlopen(address) as answer:
                assert "<title>Reports from chest X-rays</title>" in answer.read().decode()
            image = base64.b64encode((folder / "chest.png").read_bytes()).decode()
            body = json.dumps({"images": [{"name": "chest.png", "data": image}]}).encode()
            asked = urllib.request.Request(f"{address}report", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked) as answer:
                assert json.load(answer)["labels_from"] == "predicted"
        finally:
            server.send_signal(signal.SIGINT)
        said, imported = server.communicate(timeout=60)
        assert (server.returncode, said, imported.split()) == (0, "ended\n", [str(installed / "xpronet")])
