"""The study behind docs/table1.md: every system once per seed with one budget, and a page that says what came out."""

import json
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from benchmarks.systems import Recorder, batch, products, stepping
from experiments import runs as experiments
from experiments import study
from experiments.ablations.analysis import LOOKS
from experiments.floors import FLOORS
from experiments.markdown import BEGIN, END
from experiments.results import SHOWN
from experiments.runs import EPOCHS
from experiments.table1 import __main__ as command
from experiments.table1 import analysis
from experiments.table1.page import PAPER, TITLES, above_floors, tables
from stages.check import Params
from tests.test_ablations import git, table
from xpronet.common.params import validate
from xpronet.evaluation import statistics
from xpronet.model.params import SystemName
from xpronet.training.params import TRAINED

ROOT = Path(__file__).resolve().parents[1]
PRESET = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())


def test_every_system_has_a_run_of_the_same_budget_per_seed():
    runs = analysis.plan([1, 2])
    first = [run for run in runs if not run.after]
    assert len({run.name for run in runs}) == len(runs)
    assert len(first) == 2 * len(get_args(SystemName))
    budgets = set()
    for run in first:
        changes = dict(change.split("=") for change in run.changes)
        assert changes.pop("system") == run.row
        train = PRESET["train"] | {key.removeprefix("train."): int(value) for key, value in changes.items()}
        validate(Params, {**PRESET, "system": run.row, "seed": run.seed, "train": train})
        budgets.add((train["epochs"], train["freeze_epochs"], train["batch_size"]))
    assert budgets == {(EPOCHS, EPOCHS, analysis.BATCH)}


def test_a_second_phase_goes_on_from_the_first_of_its_seed(monkeypatch, tmp_path):
    runs = analysis.plan([1, 2], ["xpronet", "hrgr", "cmas_rl"])
    names = [run.name for run in runs]
    second = [run for run in runs if run.after]
    assert [run.name for run in second] == ["hrgr-rl-1", "cmas-rl-1", "hrgr-rl-2", "cmas-rl-2"]
    assert not [run for run in analysis.plan([1], ["xpronet", "st"]) if run.after]
    for run in second:
        assert names.index(f"{run.after}-{run.seed}") < names.index(run.name)
        changes = {key: yaml.safe_load(value) for key, value in (change.split("=") for change in run.changes)}
        train = {key.removeprefix("train."): it for key, it in changes.items() if key.startswith("train.")}
        validate(
            Params, {**PRESET, "system": changes["system"], "train": {**PRESET["train"], **train, "start": "start"}}
        )
    commands = []
    monkeypatch.setattr(experiments, "is_done", lambda name: not name.startswith("hrgr-rl"))
    monkeypatch.setattr(experiments, "_git", lambda *arguments: "")
    monkeypatch.setattr(experiments, "model_of", lambda name: tmp_path / name)
    monkeypatch.setattr(
        experiments.subprocess,
        "run",
        lambda command, **options: commands.append(command) or subprocess.CompletedProcess(command, 0),
    )
    experiments.run_all(runs)
    ran = [command for command in commands if command[1:3] == ["exp", "run"]]
    assert [command[-1] for command in ran] == [f"train.start={tmp_path}/hrgr-{seed}" for seed in (1, 2)]


def test_a_second_phase_begins_with_its_own_first_phase_s_weights(tmp_path, monkeypatch):
    """Not with those of the last run, which lie in the folder; and it finds them from a copy of the repository."""
    monkeypatch.chdir(tmp_path)
    weights = Path(TRAINED, "model.safetensors")
    weights.parent.mkdir(parents=True)
    for line in ("git init --quiet", "dvc init --quiet"):
        subprocess.run(line.split(), check=True)
    for name in ("hrgr-1", "cmas_rl-1"):
        weights.write_text(f"weights of {name}")
        subprocess.run(["dvc", "add", "--quiet", TRAINED], check=True)
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "--quiet", "-m", name)
        git(tmp_path, "tag", name)
    for _ in range(2):  # a folder of an earlier study is in no one's way
        folder = experiments.model_of("hrgr-1")
        assert folder.is_absolute() and (folder / weights.name).read_text() == "weights of hrgr-1"
        (folder / "left.over").touch()
    assert weights.read_text() == "weights of cmas_rl-1"


def test_the_paper_s_systems_are_those_that_are_here():
    assert set(TITLES) == {*get_args(SystemName), *analysis.PHASES}
    assert all(set(rows) <= set(TITLES) for rows in PAPER.values())


@pytest.fixture(scope="module")
def result() -> dict:
    found = {name: [table(seed, 0.2 - 0.015 * n) for seed in (1, 2)] for n, name in enumerate(TITLES)}
    against = study.against(found, "xpronet", seed=1)
    looks = {name: study.summary([0.1, 0.2]) for name in LOOKS} | {"distinct_reports": study.summary([5, 14])}
    return {
        "seeds": [1, 2],
        "studies": 50,
        "labeller": "rules",
        "steps": 750,
        "rewarded_steps": 250,
        "systems": {
            name: {
                "scores": study.scores_of(each),
                "intervals": statistics.intervals(study.pooled(each), seed=1),
                "against_xpronet": against.get(name),
                "looks": looks,
                "parameters": 1_234_567,
                "seconds_per_step": None if name in analysis.PHASES else 0.1234,
            }
            for name, each in found.items()
        },
        "floors": {floor: {metric: study.summary([0.1, 0.1]) for metric in SHOWN} for floor in FLOORS},
    }


def test_the_page_has_every_system_beside_floors_and_the_paper(result):
    page = tables(result)
    for name in TITLES.values():
        assert page.count(f"| {name} |") == (3 if name == "XProNet" else 4)
    assert "1.23 M" in page and "123 ms" in page and "0.199" in page
    assert all(f"*{floor}* (floor)" in page for floor in FLOORS.values())
    assert "All are above every floor" in page


def test_a_system_that_a_floor_beats_is_named(result):
    scores = {metric: study.summary([0.1, 0.1]) for metric in SHOWN}
    high = scores | {"micro_F1_14": study.summary([0.99, 0.99])}
    assert above_floors(result["systems"]["st"], {"constant": scores})
    assert not above_floors(result["systems"]["st"], {"constant": high})
    assert "Not above every floor by BLEU_4 and micro F1: ST" in tables({**result, "floors": {"constant": high}})


def test_the_study_is_drawn_again_without_any_run(result, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_all", lambda runs: pytest.fail("runs were started"))
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\n{END}\n")
    page.with_suffix(".json").write_text(json.dumps(result))
    command.main(page=page, redraw=True)
    assert "| XProNet |" in page.read_text()
    assert page.with_suffix(".png").stat().st_size > 10_000 < page.with_suffix(".svg").stat().st_size


def test_a_table_of_some_systems_has_xpronet(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "run_all", lambda runs: asked.append([run.name for run in runs]))
    monkeypatch.setattr(command, "analyse", lambda *given: (_ for _ in ()).throw(ValueError("enough")))
    with pytest.raises(SystemExit, match="^enough$"):
        command.main(seeds="1,2", systems="xpronet,st", page=tmp_path / "p.md")
    assert asked == [["xpronet-1", "st-1", "xpronet-2", "st-2"]]
    for systems in ("st,att2in", "xpronet,lstm"):
        with pytest.raises(SystemExit, match=f"^--systems {systems}: xpronet and others of xpronet, r2gencmn, st"):
            command.main(systems=systems, page=tmp_path / "p.md")


def test_the_table_in_docs_is_of_the_numbers_in_docs(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "draw", lambda *values: None)
    for name in ("table1.md", "table1.json"):
        (tmp_path / name).write_bytes((ROOT / "docs" / name).read_bytes())
    command.main(page=tmp_path / "table1.md", redraw=True)
    assert (tmp_path / "table1.md").read_text() == (ROOT / "docs/table1.md").read_text()
    systems = json.loads((ROOT / "docs/table1.json").read_text())["systems"]
    assert {"xpronet", "r2gencmn"} <= set(systems) and all(
        {"scores", "intervals"} <= set(it) for it in systems.values()
    )


@pytest.mark.parametrize("name", get_args(SystemName))
def test_a_step_of_each_is_timed_beside_its_products(name):
    network = analysis.network_of(PRESET, name)
    work = stepping(network, batch(2, 512))
    with Recorder() as seen:
        work()
    inner = sum(count for _, count in seen.pairs.items())
    assert inner > 10 and any(left[-1] == 512 for left, _ in seen.pairs)  # of the patch features, too
    products(work)()
