"""docs/slurm.sbatch, with stand-ins for a cluster's programs: which stages run how, and what a signal makes of them."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from xpronet.data.dataset import GRACE

SCRIPT = Path(__file__).resolve().parents[1] / "docs/slurm.sbatch"
STANDINS = {
    "srun": """
        while [[ $1 == -* ]]; do shift; done
        for n in 0 1; do SLURM_PROCID=$n SLURM_LOCALID=$n "$@" & done
        wait -n || exit $?
        wait -n""",
    "python": """
        echo "python $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $2" >> log
        if [ $2 = stages.train ] && [ $RANK = 0 ]; then
            trap 'echo saved >> log; exit 143' TERM
            echo "process $$, \\`python -m stages.train\\`" > data/.lock
            touch training
            while [ ! -e trained ]; do sleep 0.05; done
        fi""",
    "dvc": """
        echo "dvc $*" >> log
        if [ $1 = status ]; then [ -e done-$3 ]; elif [ $1 = commit ]; then touch done-$3; fi""",
    "scontrol": """echo "scontrol $*" >> log""",
}
TOGETHER = ("label", "classify", "features", "train", "generate")


@pytest.fixture
def cluster(tmp_path) -> Path:
    """A folder whose programs write down how they were called."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.lock").write_text(f"process {os.getpid()}, `python -m another`\n")  # an id that is another's now
    for name, script in STANDINS.items():
        (tmp_path / ".venv/bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    return tmp_path


def submit(folder: Path) -> subprocess.Popen:
    numbers = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    return subprocess.Popen(["bash", SCRIPT], cwd=folder, env={**os.environ, **numbers})


def test_what_a_shared_stage_reads_is_made_before_it():
    """The stand-ins of the other tests would run it on nothing."""
    stages = yaml.safe_load((SCRIPT.parents[1] / "dvc.yaml").read_text())["stages"]
    makers = {out if isinstance(out, str) else next(iter(out)): name for name in stages for out in stages[name]["outs"]}

    def with_those_before(stage: str) -> set[str]:
        return {stage}.union(*(with_those_before(makers[dep]) for dep in stages[stage]["deps"] if dep in makers))

    done = set()
    for kind, names in re.findall(r"^(run dvc repro|together) (\w[\w ]*)$", SCRIPT.read_text(), re.M):
        for stage in names.split():
            before = with_those_before(stage)
            assert kind != "together" or before - {stage} <= done, stage
            done |= before
    assert {*TOGETHER} <= done


def test_loaders_of_data_live_as_long_as_the_job_has_to_save():
    (seconds,) = re.findall(r"--signal=B:TERM@(\d+)", SCRIPT.read_text())
    assert int(seconds) <= GRACE


def test_shared_stages_run_in_all_processes_and_are_committed(cluster):
    (cluster / "done-classify").touch()  # its results are there
    (cluster / "trained").touch()
    assert submit(cluster).wait(timeout=60) == 0
    log = (cluster / "log").read_text().splitlines()
    started = [stage for stage in TOGETHER if stage != "classify"]
    assert sorted(line for line in log if line.startswith("python")) == sorted(
        f"python {rank} {rank} 2 2 stages.{stage}" for stage in started for rank in range(2)
    )
    assert [line for line in log if line.startswith(("dvc repro", "dvc commit"))] == [
        "dvc repro prepare",
        *("dvc commit --force label", "dvc commit --force features", "dvc repro templates prototypes"),
        *("dvc commit --force train", "dvc commit --force generate", "dvc repro"),
    ]


def test_a_signal_saves_the_training_and_queues_the_job_again(cluster):
    """SLURM's own would come to DVC and to every process, and end what is to save first."""
    job = submit(cluster)
    try:
        until = time.monotonic() + 60
        while not (cluster / "training").exists() and time.monotonic() < until:
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 143
    finally:
        job.kill()
    log = (cluster / "log").read_text().splitlines()
    assert log[-2:] == ["saved", "scontrol requeue 7"] and "dvc commit --force train" not in log
    (cluster / "trained").touch()
    assert submit(cluster).wait(timeout=60) == 0
    again = (cluster / "log").read_text().splitlines()[len(log) :]
    assert {line.split()[-1] for line in again if line.startswith("python")} == {"stages.train", "stages.generate"}
