"""From the start of `xpronet generate` to the end of its report, beside importing PyTorch and nothing else.

The model is a small one of random weights, and its report has 60 words.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import alternate, at_most
from xpronet.classifier import network
from xpronet.data.reports import UNKNOWN, Vocabulary
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.xpronet import ModelConfig, XProNet

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"backbone": "resnet18", "d_model": 256, "d_ff": 256, "n_prototypes": 16, "d_prototype": 896, "gamma": 10}
WORDS, TOKENS, CROP = 535, 60, 96


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "model", folder / "classifier")
        (folder / "study").mkdir()
        for view in ("frontal", "lateral"):
            pixels = np.random.default_rng(1).integers(0, 200, (192, 192), np.uint8)
            Image.fromarray(pixels).save(folder / "study" / f"{view}.png")
        command = ["-m", "xpronet.app.cli", "generate", str(folder / "study"), "--model", str(folder / "model")]
        times = alternate(lambda: python(*command), lambda: python("-c", "import torch, torchvision"), repeats=5)
    return [at_most("start to first report", *times, 1.3)]


def make_model(folder: Path, classifier: Path) -> None:
    torch.manual_seed(1)
    model = XProNet(ModelConfig(vocab_size=WORDS, **SIZES))
    with torch.no_grad():
        model.head.bias[0] = -1e9  # no end before the last token
    words = Vocabulary(sorted([UNKNOWN, *(f"w{n}" for n in range(WORDS - 1))]))
    card = checkpoint.ModelCard(words, CONDITIONS, "iu_xray", crop=CROP, beam_size=3, max_length=TOKENS)
    network.save(classifier, network.StudyClassifier("resnet18"), np.full(len(CONDITIONS), 0.5, np.float32))
    checkpoint.save(folder, model, card, classifier=classifier)


def python(*words: str) -> None:
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
