"""Threads that wait leave their core to whoever computes on it, and a process has as many as it is told."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from xpronet.common import processes
from xpronet.common.threads import SPINS, take, wait_asleep

ROOT = Path(__file__).resolve().parents[1]
SET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Runs a module as `python -m` does, or what follows -c, and says what OpenMP would read when PyTorch is first imported,
# which ends it; else what it would read at the end.
WATCHED = """
import os, runpy, sys

out = os.dup(1)  # which pytest takes for itself

def say():
    os.write(out, f"{os.environ.get('OMP_WAIT_POLICY')} {os.environ.get('GOMP_SPINCOUNT')}".encode())
    os._exit(0)

class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            say()

sys.meta_path.insert(0, Watch())
kind, what, *sys.argv[1:] = sys.argv[1:]
try:
    exec(what) if kind == "-c" else runpy.run_module(what, run_name="__main__", alter_sys=True)
except BaseException:
    pass
say()
"""
XPRONET = "from xpronet.app.cli import main; main()"  # as pyproject.toml names it
ENTRIES = [
    *(["-m", f"stages.{stage}"] for stage in ("train", "evaluate")),
    ["-c", XPRONET, "generate", str(ROOT / "docs/explanation.png"), "--model", "none"],
    *(["-m", name] for name in ("benchmarks", "benchmarks.kills", "benchmarks.beside")),
    ["-c", "import experiments, torch"],
    ["-m", "pytest", "-p", "no:cacheprovider", str(ROOT / "tests/test_losses.py")],
]


@pytest.mark.parametrize(
    ("own", "read"),
    [
        ({}, f"PASSIVE {SPINS}"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "PASSIVE None"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"),
    ],
)
def test_threads_wait_asleep_wherever_we_compute(own, read, tmp_path):
    """OpenMP reads it once, when PyTorch loads it: a moment later is too late. A user's own word stands."""
    environment = {name: value for name, value in os.environ.items() if name not in SET}
    environment |= {"PYTHONPATH": str(ROOT), **own}
    entries = ENTRIES[:1] if own else ENTRIES
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WATCHED, *entry],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for entry in entries
    ]
    said = {
        " ".join(entry[1:3]): process.communicate()[0].strip() for entry, process in zip(entries, running, strict=True)
    }
    assert said == dict.fromkeys(said, read)


def test_the_watch_would_see_it_missing(tmp_path, monkeypatch):
    """And processes that this one starts have it, worker processes among them."""
    for name in SET:
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-c", WATCHED, "-c", "import torch"]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "None None"
    wait_asleep()
    assert subprocess.run(command, capture_output=True, text=True).stdout == f"PASSIVE {SPINS}"


def test_a_process_computes_with_the_threads_it_is_told():
    before = torch.get_num_threads()
    try:
        take(before + 1)
        take(None)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


class Taken(Exception):
    """With how many."""


@pytest.mark.parametrize("stage", ["classify", "features", "train", "generate", "evaluate", "figures"])
def test_a_stage_that_computes_takes_them_before_it_does(stage, tmp_path, monkeypatch):
    """Else `runtime.threads` is a promise that nobody keeps."""

    def taken(threads: int | None) -> None:
        raise Taken(threads)

    module = importlib.import_module(f"stages.{stage}")
    monkeypatch.setattr(module if hasattr(module, "take") else processes, "take", taken)
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    Path("params.yaml").write_text(yaml.safe_dump(params | {"runtime": params["runtime"] | {"threads": 3}}))
    with pytest.raises(Taken, match="3"):
        module.main()
