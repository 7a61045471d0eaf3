"""An epoch over packed images without a model, feature extraction against the bare forward pass, and waits for data."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import alternate, at_least, at_most
from benchmarks.setting import BATCH, OBJECTIVE, labels, model, tokens
from xpronet.common.course import Course
from xpronet.data.dataset import StudyDataset, loader
from xpronet.data.pack import ImagePack, normalise
from xpronet.encoders.backbones import resnet
from xpronet.prototypes.features import write_visual_features
from xpronet.sources.images import read_image, resize_square
from xpronet.sources.pack_writer import pack_image, write_pack
from xpronet.training.loop import step

COUNT, RESIZE, CROP = 256, 256, 224
STEPS = 3


def rows() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        files = draw(Path(folder))
        pack = packed(Path(folder), files)
        return [epoch(pack, files), features(Path(folder), pack), *(waiting(pack, workers) for workers in (0, 2))]


def draw(folder: Path) -> list[Path]:
    """PNG files of the usual size of IU-Xray's (512 x 624), smooth with some noise, as radiographs are."""
    generator, files = np.random.default_rng(1), []
    for number in range(COUNT):
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).resize((512, 624), 3)
        noise = generator.normal(0, 3, (624, 512))
        files.append(folder / f"{number}.png")
        Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8)).save(files[-1])
    return files


def packed(folder: Path, files: list[Path]) -> ImagePack:
    paths = folder / "images.u8", folder / "images.json"
    write_pack(
        *paths,
        (pack_image(read_image(file), resize=RESIZE, crop=CROP, train=True) for file in files),
        resize=RESIZE,
        crop=CROP,
    )
    return ImagePack(*paths)


def epoch(pack: ImagePack, files: list[Path]) -> dict:
    """Two views a study, random crops, batches of 16, as in training."""
    dataset = StudyDataset(
        pack, [[2 * n, 2 * n + 1] for n in range(COUNT // 2)], labels=np.ones((COUNT, 14)), augment=True
    )
    batches = loader(dataset, batch_size=16, shuffle=True)

    def read() -> None:
        for _ in batches:
            pass

    def decode() -> None:
        for file in files:
            resize_square(read_image(file), CROP)

    ours, bare = alternate(read, decode, repeats=5)
    return at_least("epoch over packed images", COUNT / ours, COUNT / bare, 20, "images/s")


def features(folder: Path, pack: ImagePack) -> dict:
    """ResNet-101 on one view a study as pictured and mirrored, from pack to files."""
    count, batch = 48, 16
    dataset = StudyDataset(pack, [[n] for n in range(count)])
    network = resnet("resnet101", classes=1).eval().to(memory_format=torch.channels_last)
    network.fc = torch.nn.Identity()
    images = normalise(torch.from_numpy(np.stack([pack.square(n) for n in range(batch)])))
    images = images.contiguous(memory_format=torch.channels_last)

    def ours() -> None:
        write_visual_features(
            [folder / "visual.npy", folder / "flipped.npy"],
            network,
            dataset,
            backbone="resnet101",
            batch_size=batch,
            device=torch.device("cpu"),
        )

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(2 * count // batch):
                network(images)

    seconds, limit = alternate(ours, bare, repeats=3)
    return at_least("feature extraction, ResNet-101", 2 * count / seconds, 2 * count / limit, 0.95, "images/s")


def waiting(pack: ImagePack, workers: int) -> dict:
    """The share of a few whole training steps, ResNet-101, that goes into waiting for batches, as Course counts it."""
    studies, network = [[2 * n, 2 * n + 1] for n in range(BATCH * STEPS)], model().train()
    words = tokens().tolist() * STEPS
    dataset = StudyDataset(pack, studies, tokens=words, labels=labels(len(studies)).numpy(), augment=True)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
    course = Course(network, adam, schedule, device=torch.device("cpu"), states=None)
    for batch in course.batches(loader(dataset, batch_size=BATCH, shuffle=True, workers=workers), what="steps"):
        step(network, adam, batch, OBJECTIVE, "float32")
    course.finish_epoch({}, 0.0, {})
    return at_most(f"waiting for data, {workers} workers", course.pace[0]["data_wait"], 0.05, 1, "of a step")
