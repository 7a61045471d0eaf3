"""Fixtures that many tests share."""

import contextlib
import hashlib
import importlib
import io
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

if "PYTEST_XDIST_WORKER" in os.environ:  # each of several test processes computes alone; before PyTorch is loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from dvc.repo import Repo

from benchmarks.processes import free_port  # the package lets threads wait asleep before PyTorch is loaded
from xpronet.common.processes import Group, together
from xpronet.common.threads import wait_asleep
from xpronet.evaluation.meteor import Meteor, running_meteor

wait_asleep()

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """All numbers of the published implementation and real IU-Xray material, whose licence keeps them outside."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared: real IU-Xray studies and most published numbers are not part of the project")
    return SHARED


@pytest.fixture(scope="session")
def jar():
    """One running METEOR for all tests that score something: starting it costs 5 s."""
    with running_meteor() as running:
        yield running


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is marked `apart` runs in a pytest of its own, for the reason that `forking` gives."""
    if pyfuncitem.get_closest_marker("apart") is None or "XPRONET_APART" in os.environ:
        return None
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    environment = os.environ | {"XPRONET_APART": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return True


def forking(code: str) -> str:
    """Run Python that forks and then trains, apart from other tests, and return what it says.

    A process that has computed gradients on an accelerator, or the stand-in for one, has threads that its forks lack.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def forked(work: Callable[[], int | None]) -> int:
    """A child's id, whose exit code is what `work` returns or exits with."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = work() or 0
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code)


def ended(child: int, *, within: float) -> int:
    """Its exit code, and at once."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"still running after {within} s")


def launched(rank: int, size: int, port: int) -> None:
    """Be a process as torchrun starts it."""
    import torch  # not before wait_asleep

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}


def launching(work: Callable[[], object]) -> list[int]:
    """Two processes as torchrun starts them -> their exit codes."""
    port = free_port()

    def one(rank: int) -> None:
        launched(rank, 2, port)
        work()

    children = [forked(lambda rank=rank: one(rank)) for rank in range(2)]
    return [ended(child, within=60) for child in children]


def sharing(work: Callable[[Group], object]) -> list[int]:
    """The same, which find each other before the work."""

    def find() -> None:
        import torch  # not before wait_asleep

        with together(1, torch.device("cpu")) as group:
            work(group)

    return launching(find)


@contextmanager
def largest_file(size: int):
    """As on a full disk, no file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Project:
    """A copy of the project in a git repository of its own, with a preset and changes to it."""

    def __init__(self, folder: Path, preset: str, changes: dict, jar: Callable[[], Meteor]):
        self.folder, self.preset, self.changes, self.jar = folder, preset, changes, jar
        for name in ("xpronet", "stages", "presets"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.configure({})
        self.run("git", "init", "--quiet")

    def configure(self, changes: dict) -> None:
        """Write params.yaml: the preset, the project's changes, and these."""
        params = yaml.safe_load((ROOT / f"presets/{self.preset}.yaml").read_text())
        for source in (self.changes, changes):
            for key, value in source.items():
                params[key] = {**params[key], **value} if isinstance(value, dict) else value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))

    def run(self, *command: str, code: int = 0) -> str:
        """Output of a command that must end with `code`."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def stages(self, *names: str) -> str:
        """What stages log, one after the other in this process: importing PyTorch and starting METEOR cost seconds."""
        import torch  # not before wait_asleep

        said, threads = io.StringIO(), torch.get_num_threads()
        handler = logging.StreamHandler(said)
        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging.getLogger(), "level", logging.INFO)
            logging.getLogger().addHandler(handler)
            torch.set_num_threads(1)  # as `run` has it
            try:
                for name in names:
                    stage = importlib.import_module(f"stages.{name}")
                    if hasattr(stage, "running_meteor"):
                        patch.setattr(stage, "running_meteor", lambda: contextlib.nullcontext(self.jar()))
                    assert stage.main(), f"{name} says nothing of what it made"
            finally:
                torch.set_num_threads(threads)
                logging.getLogger().removeHandler(handler)
        return said.getvalue()

    def json(self, path: str):
        return json.loads((self.folder / path).read_text())

    def sha256(self, path: str) -> str:
        return hashlib.sha256((self.folder / path).read_bytes()).hexdigest()

    def changed(self) -> set[str]:
        """Stages whose own dependencies or parameters differ from the last run, `check` aside."""
        with contextlib.chdir(self.folder), Repo(".") as repo:  # the command imports itself for a second each time
            return set(repo.status()) - {"check"}


@pytest.fixture(scope="module")
def new_project(tmp_path_factory, request):
    """new_project(preset, changes) -> Project"""

    def jar() -> Meteor:
        return request.getfixturevalue("jar")

    return lambda preset, changes: Project(tmp_path_factory.mktemp("project"), preset, changes, jar)


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """The made-up data folder of tests/made.py; not to be changed."""
    from tests.made import make  # PyTorch and more, which not every test needs

    return make(tmp_path_factory.mktemp("made") / "origin")


@pytest.fixture
def made(origin, tmp_path, monkeypatch):
    """What is in that folder, with a copy of its own, in which the test runs."""
    shutil.copytree(origin.folder / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    yield origin
    shutil.rmtree(tmp_path / "data")  # weights of 45 MB each
