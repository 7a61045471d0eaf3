"""What docs/scaling.md and docs/experiments.md say of remotes: files and experiments reach another machine.

On a project of two tiny stages; tests/test_end_to_end.py pushes and pulls a whole run of the pipeline.
"""

import contextlib
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from dvc.cli import main
from dvc.repo import Repo

PIPELINE = """
stages:
  one:
    cmd: echo one > one
    outs: [one]
  two:
    cmd: mkdir two && echo ${gamma} > two/file && echo 1 > m.json
    params: [gamma]
    outs: [two]
    metrics: [m.json: {cache: false}]
"""


def dvc(folder: Path, *command: str) -> None:
    """A command line without the seconds that its program takes to start."""
    with contextlib.chdir(folder):
        assert main([*command, "--quiet"]) == 0, command


def git(folder: Path, *command: str) -> None:
    me = ("-c", "user.name=n", "-c", "user.email=e")
    subprocess.run(["git", *me, *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Committed after a run; the git remote `origin` is a bare repository."""
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "n")
    git(tmp_path, "init", "--quiet", "--bare", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "here")
    folder = tmp_path / "here"
    dvc(folder, "init")
    dvc(folder, "config", "core.analytics", "false")
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text("gamma: 3\n")
    (folder / ".gitignore").write_text("/one\n/two\n")
    dvc(folder, "repro")
    return folder


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "Run the pipeline")
    git(project, "push", "--quiet", "origin", "HEAD")


def test_an_s3_server_is_a_remote(project, monkeypatch):
    """A server of its own protocol, as MinIO, Ceph and Amazon speak it, in this process; on no network."""
    pytest.importorskip("dvc_s3", reason="the extra s3 is not installed")
    moto = pytest.importorskip("moto.server", reason="the extra s3-server is not installed")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
        dvc(project, "remote", "add", "--default", "store", "s3://bucket/xpronet")
        dvc(project, "remote", "modify", "store", "endpointurl", url)
        dvc(project, "push")
        for place in (".dvc/cache", "two"):
            shutil.rmtree(project / place)
        (project / "one").unlink()
        dvc(project, "pull")
        assert (project / "one").read_text() == "one\n" and (project / "two/file").read_text() == "3\n"
        with contextlib.chdir(project), Repo() as repo:
            assert repo.status() == {}
    finally:
        server.stop()


def test_an_experiment_goes_from_one_machine_to_another(project, tmp_path):
    """By name, with what it computed: git has its parameters and metrics, the remote its files."""
    dvc(project, "remote", "add", "--default", "store", str(tmp_path / "store"))
    commit(project)
    git(tmp_path, "clone", "--quiet", "origin.git", "there")
    there = tmp_path / "there"
    dvc(there, "exp", "run", "--name", "more", "--set-param", "gamma=5")
    dvc(there, "exp", "push", "origin", "more")
    dvc(project, "exp", "pull", "origin", "more")
    dvc(project, "exp", "apply", "more")
    assert (project / "two/file").read_text() == "5\n" and "gamma: 5" in (project / "params.yaml").read_text()
