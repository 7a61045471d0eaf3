"""`python -m benchmarks.processes`: the same epoch with 1, 2 and 4 processes of one thread each, on the CPU.

In float32: the tiny stage `train` of benchmarks/kills.py, with dropout and with batch norm, whose visual extractor
learns in one run and is frozen in another, and stage `classify`. The last batch is smaller than four processes. The
last line is the largest difference of losses and weights from those of one process; the exit code is 1 where it is
above 1e-5.

Apart stand the biases of attention's keys: they shift all scores of a query alike, so that their gradient is 0 but for
rounding, and Adam makes a whole step of that. No output depends on them.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

import stages.train
from benchmarks import kills
from xpronet.common.params import load_yaml

SIZES = (1, 2, 4)
LIMIT = 1e-5
CHANGES = {
    "train": {"epochs": 1, "lr": 1e-3, "lr_visual": 1e-3, "warmup_epochs": 0},
    "classifier": {"epochs": 1, "lr": 1e-3},
}
NOISE = "key.bias"


def configure(folder: Path, kind: str) -> None:
    kills.configure(folder, kind)
    params = load_yaml(folder / "params.yaml")
    for group, changes in CHANGES.items():
        params[group] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def fork(folder: Path, kind: str, rank: int, size: int, port: int) -> int:
    """One of the processes, as a launcher starts it -> its id."""
    child = os.fork()
    if child:
        return child
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        write_rows = stages.train.write_rows

        def exactly(path: str, rows: list) -> None:
            write_rows(path, rows)
            (folder / f"{Path(path).stem}.json").write_text(json.dumps(rows))

        stages.train.write_rows = exactly
        kills.start(folder, kind, first=rank == 0)
    finally:
        os._exit(70)


def trained(source: Path, folder: Path, kind: str, size: int) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """The epoch's row of the history, and the weights after it."""
    shutil.copytree(source, folder)
    configure(folder, kind)
    port = free_port()
    children = [fork(folder, kind, rank, size, port) for rank in range(size)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise ValueError(f"{kind}, {size} processes ended with codes {codes}: {(folder / 'log').read_text()[-3000:]}")
    if kind == "classify":
        (row,) = json.loads((folder / "metrics/details/classifier.json").read_text())["epochs"]
        return row, load_file(folder / "data/classifier/weights.safetensors")
    (row,) = json.loads((folder / "history.json").read_text())
    return row, load_file(folder / "data/model/weights.safetensors")


def main(sizes: tuple[int, ...] = SIZES) -> float:
    """The largest difference."""
    largest = 0.0
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        kills.make(source)
        for kind in kills.KINDS:
            runs = [trained(source, Path(place) / f"{kind} {size}", kind, size) for size in sizes]
            row, weights = runs[0]
            for size, (other, others) in zip(sizes[1:], runs[1:], strict=True):
                losses = max(abs(row[name] - other[name]) for name in row)
                far = {name: (weights[name].double() - others[name].double()).abs().max().item() for name in weights}
                noise = max([0.0, *(difference for name, difference in far.items() if name.endswith(NOISE))])
                name = max((name for name in far if not name.endswith(NOISE)), key=far.get)
                print(
                    f"{kind}, {size} processes: losses and scores differ by {losses:.1e}, weights by {far[name]:.1e} "
                    f"({name}), biases of keys by {noise:.1e}"
                )
                largest = max(largest, losses, far[name])
    print(f"largest difference {largest:.1e}")
    return largest


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__.partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    sys.exit(main() > LIMIT)
