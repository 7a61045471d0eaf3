"""Memory and speed at the size of MIMIC-CXR: `python -m benchmarks.scale [folder]`, some 20 minutes and 25 GB of disk.

Packs 100,000 image files, asks DVC for its status with the packed file and with the folder of images, and clusters
2 x 270,000 rows of 2,816 generated features. Prints what docs/speed.md says and draws docs/scale.png.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure
from sklearn.cluster import KMeans

from benchmarks.images import CROP, RESIZE, draw
from xpronet.data.studies import Study
from xpronet.labels.conditions import CONDITIONS
from xpronet.prototypes import kmeans
from xpronet.sources.images import read_image, resize_shorter, resize_square
from xpronet.sources.packing import Folder, pack_studies

IMAGES, STUDIES, WIDTHS, N_PROTOTYPES = 100_000, 270_000, (2048, 768), 20
# Share of MIMIC-CXR's reports with each observation, in our order, as CheXpert labels them; a study has several.
PREVALENCE = (0.07, 0.2, 0.26, 0.03, 0.18, 0.07, 0.17, 0.25, 0.05, 0.27, 0.01, 0.02, 0.3, 0.33)


def main(folder: Path) -> None:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    packing(folder, left)
    clustering(folder, right)
    figure.savefig("docs/scale.png", dpi=110)


def packing(folder: Path, axes) -> None:
    """100,000 paths to 256 different files, as hard links: what a file costs is paid, what a disk costs is not."""
    source = folder / "images"
    source.mkdir()
    drawn = draw(source)
    for number in range(len(drawn), IMAGES):
        os.link(drawn[number % len(drawn)], source / f"{number}.png")
    studies = [Study(f"S{n}", "train", "x", (f"{n}.png",)) for n in range(IMAGES)]
    started = time.perf_counter()
    for path in drawn:
        image = read_image(path)
        resize_square(image, CROP), resize_shorter(image, RESIZE)
    bare = len(drawn) / (time.perf_counter() - started)
    workers = os.cpu_count()
    started = time.perf_counter()
    with sampled_memory() as samples:
        pack_studies(
            studies,
            Folder(source),
            folder / "images.u8",
            folder / "images.jsonl",
            resize=RESIZE,
            crop=CROP,
            workers=workers,
        )
    rate = IMAGES / (time.perf_counter() - started)
    size = (folder / "images.u8").stat().st_size / 1e9
    print(f"packed {IMAGES:,} images to {size:.1f} GB: {rate:.0f} images/s, {rate / workers:.0f} per core")
    print(
        f"bare decoding and resizing: {bare:.0f} images/s on one core; ours per core {rate / workers / bare:.2f} of it"
    )
    early, late = samples[len(samples) // 10][2], samples[-1][2]
    print(f"memory of all processes that no file backs: {early:.2f} GB after a tenth, {late:.2f} GB at the end")
    for what, dependency in (("the packed file", "images.u8"), ("the folder of images", "images")):
        print(f"dvc status with {what}: {status(folder, dependency):.1f} s")
    plot(axes, samples, f"packing {IMAGES:,} images")


def status(folder: Path, dependency: str) -> float:
    """Seconds of a second `dvc status`, when DVC has hashed the dependency already."""
    with tempfile.TemporaryDirectory(dir=folder) as project:
        (Path(project) / dependency).symlink_to(folder / dependency)
        (Path(project) / "dvc.yaml").write_text(f"stages:\n  one:\n    cmd: echo\n    deps: [{dependency}]\n")
        for command in (
            ["git", "init", "--quiet"],
            ["dvc", "init", "--quiet"],
            ["dvc", "commit", "--force", "--quiet"],
        ):
            subprocess.run(command, cwd=project, check=True)
        started = time.perf_counter()
        subprocess.run(["dvc", "status", "--quiet"], cwd=project, check=True)
        return time.perf_counter() - started


def clustering(folder: Path, axes) -> None:
    """The prototype matrix of generated features: clouds around 40 centres, memory-mapped as the stage has them."""
    random = np.random.default_rng(1)
    arrays = []
    for name, width in (("visual", WIDTHS[0]), ("flipped", WIDTHS[0]), ("textual", WIDTHS[1])):
        centres = random.normal(size=(40, width)).astype(np.float32)
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (STUDIES, width))
        for first in range(0, STUDIES, 10_000):
            noise = random.standard_normal((10_000, width), dtype=np.float32)
            array[first : first + 10_000] = centres[random.integers(0, 40, 10_000)] + noise
        array.flush()
        del array  # or its pages would count twice
        arrays.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    labels = (random.random((STUDIES, len(CONDITIONS))) < PREVALENCE).astype(np.float32)
    started = time.perf_counter()
    with sampled_memory() as samples:
        kmeans.prototype_matrix(
            *arrays, labels, conditions=CONDITIONS, n_prototypes=N_PROTOTYPES, flips="joint", seed=1
        )
    seconds = time.perf_counter() - started
    peak, own = max(total for _, total, _ in samples), max(own for _, _, own in samples)
    print(f"prototypes of 2 x {STUDIES:,} rows of {sum(WIDTHS):,}: {seconds:.0f} s")
    print(f"memory: {peak:.1f} GB at most, {own:.1f} GB without the pages of the mapped files")
    plot(axes, samples, f"prototypes of 2 × {STUDIES:,} rows")

    rows = kmeans.Rows(tuple(arrays[:2]), arrays[2], np.arange(50_000))  # 100,000 rows
    started = time.perf_counter()
    _, ours = kmeans._cluster_in_batches(rows, N_PROTOTYPES, np.random.RandomState(1))
    middle = time.perf_counter()
    exact = KMeans(N_PROTOTYPES, n_init=1, random_state=1).fit(rows.take(np.arange(len(rows)))).inertia_
    print(
        f"100,000 rows: inertia {ours:.5g} in mini-batches ({middle - started:.0f} s), {exact:.5g} by KMeans "
        f"({time.perf_counter() - middle:.0f} s), ratio {ours / exact:.4f}"
    )


@contextmanager
def sampled_memory():
    """[(seconds, GB resident of this process and its children, GB of it that no file backs)], while the block runs."""
    samples, over, started, process = [], threading.Event(), time.perf_counter(), psutil.Process()

    def sample() -> None:
        while not over.wait(0.5):
            total = own = 0
            for each in (process, *process.children(recursive=True)):
                try:
                    memory = each.memory_info()
                except psutil.NoSuchProcess:
                    continue
                total += memory.rss
                own += memory.rss - memory.shared
            samples.append((time.perf_counter() - started, total / 1e9, own / 1e9))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def plot(axes, samples, title: str) -> None:
    seconds, total, own = zip(*samples, strict=True)
    axes.plot(seconds, total, color="#9aa5b1", label="resident")
    axes.plot(seconds, own, color="#0b5394", label="of it not backed by a file")
    axes.set(xlabel="seconds", ylabel="GB", ylim=(0, None), title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as temporary:
        main(Path(temporary))
