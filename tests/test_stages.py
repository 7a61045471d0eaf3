"""The pipeline reruns what a change touches and nothing else: dvc.yaml says what each stage imports and reads."""

import ast
import importlib
from pathlib import Path
from typing import get_args

import pytest
import yaml

from xpronet.common.params import Strict
from xpronet.model.params import SystemName

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]


def imported_files(module: str, seen: set[str] | None = None) -> set[str]:
    """Files of this project that importing a module runs, the packages' __init__ among them."""
    seen = set() if seen is None else seen
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
    name = path.relative_to(ROOT).as_posix() if path.is_file() else None
    if name is None or name in seen:
        return seen
    seen.add(name)
    if "." in module:
        imported_files(module.rpartition(".")[0], seen)
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in ("xpronet", "stages"):
                imported_files(name, seen)
    return seen


def listed(stage: str, system: str = "xpronet") -> list[str]:
    deps = [dep.replace("${system}", system) for dep in STAGES[stage]["deps"]]
    return [dep for dep in deps if dep.startswith(("stages/", "xpronet/"))]


def run_by(stage: str, system: str = "xpronet") -> set[str]:
    """Files of this project that a stage imports; the module of a system is named by a parameter."""
    found = imported_files(f"stages.{stage}")
    if "xpronet/model/system.py" in found:
        imported_files(f"xpronet.systems.{system}", found)
    return found


@pytest.mark.parametrize("system", get_args(SystemName))
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_from_the_rooms_and_files_that_it_lists(stage, system):
    """What is missing here would be mended without the stage being run again."""
    rooms = listed(stage, system)
    unlisted = [
        path
        for path in sorted(run_by(stage, system))
        if not path.endswith("__init__.py") and not any(path == room or path.startswith(f"{room}/") for room in rooms)
    ]
    assert not unlisted, f"deps of {stage} in dvc.yaml lack {', '.join(unlisted)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_nothing_that_it_does_not_import(stage):
    """A file of another room would run it again for nothing."""
    imported = run_by(stage)
    for dep in listed(stage):
        assert (ROOT / dep).exists(), dep
        assert any(path == dep or path.startswith(f"{dep}/") for path in imported), f"{stage} imports nothing of {dep}"


# What stages/__init__.py does before a stage imports PyTorch; it changes no result.
CALM = ["from xpronet.common.threads import wait_asleep", "wait_asleep()"]


def test_a_package_s_own_file_is_a_docstring():
    """Importing a module runs it, and no stage lists it."""
    for path in [ROOT / "stages/__init__.py", *(ROOT / "xpronet").rglob("__init__.py")]:
        body = ast.parse(path.read_text()).body
        code = [ast.unparse(node) for node in body[ast.get_docstring(ast.Module(body, [])) is not None :]]
        assert code == (CALM if path.parent.name == "stages" else []), path


MENDED = {
    "xpronet/sources/dicom.py": {"prepare"},
    "xpronet/data/reports.py": {"check", "templates", "train", "generate", "evaluate", "figures"},
    "xpronet/data/pack.py": {"classify", "features", "train", "generate", "figures"},
    "xpronet/model/decoding.py": {"train", "generate", "figures"},
    "xpronet/encoders/backbones.py": {"check", "classify", "features", "train", "generate", "figures"},
    "xpronet/labels/rules.py": {"label", "templates", "evaluate"},
    "xpronet/labels/published.py": {"label", "evaluate"},
    "xpronet/evaluation/floors.py": {"evaluate"},
    "xpronet/encoders/bert.py": {"label", "features", "evaluate"},
    "xpronet/prototypes/kmeans.py": {"prototypes", "figures"},
    "xpronet/figures/classifier.py": {"figures"},
    "xpronet/figures/drawing.py": {"curves", "figures"},
    "xpronet/classifier/fit.py": {"classify"},
    "xpronet/training/loop.py": {"train"},
    "xpronet/systems/xpronet.py": {"train", "generate", "figures"},
    "xpronet/systems/st.py": set(),
    "xpronet/app/doctor.py": set(),
}


@pytest.mark.parametrize("path", MENDED)
def test_a_mended_file_reruns_what_it_can_change_and_no_more(path):
    """Hours of training hang on it: DVC goes on from there only where what the stage writes has changed."""
    touched = {stage for stage in STAGES if any(path == dep or path.startswith(f"{dep}/") for dep in listed(stage))}
    assert touched == MENDED[path]


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_keys_that_the_stage_reads(stage):
    params = getattr(importlib.import_module(f"stages.{stage}"), "Params", Strict)
    if stage == "check":  # it reads the whole file
        assert "params.yaml" in STAGES[stage]["deps"]
        return
    keys = set()
    for name, field in params.model_fields.items():
        partial = getattr(field.annotation, "model_config", {}).get("extra") == "ignore"
        keys |= {f"{name}.{key}" for key in field.annotation.model_fields} if partial else {name}
    keys = {"systems.${system}" if key == "systems" else key for key in keys}  # of the one that is trained
    assert set(STAGES[stage].get("params", ())) == keys - {
        "runtime",
        "source",
    }  # runtime changes no result; source is a dep


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_as_a_module_and_imports_no_other(stage):
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"  # a path would import another copy in dvc exp run --temp
    other = {f"stages/{name}.py" for name in STAGES} - {f"stages/{stage}.py"}
    assert not imported_files(f"stages.{stage}") & other


ROOMS = (
    *("common", "data", "sources", "encoders", "labels", "classifier"),
    *("prototypes", "model", "systems", "training", "evaluation", "figures", "app"),
)


def test_no_plot_is_a_file_of_a_folder():
    """DVC would open the folder of the last run in its cache: in a fresh clone `dvc exp run label` fails at its end."""
    outs = {out for stage in STAGES.values() for out in stage.get("outs", ())}
    assert not {str(each) for each in PIPELINE["plots"] if any(str(each).startswith(f"{out}/") for out in outs)}


def test_rooms_import_from_the_rooms_above_only():
    assert {path.name for path in (ROOT / "xpronet").iterdir() if (path / "__init__.py").is_file()} == set(ROOMS)
    for level, room in enumerate(ROOMS):
        for path in (ROOT / "xpronet" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                if module and module.startswith("xpronet."):
                    assert ROOMS.index(module.split(".")[1]) <= level, f"{path} imports {module}"


def test_the_library_package_is_empty():
    assert (ROOT / "xpronet/__init__.py").read_text() == ""


def test_the_dag_fits_on_two_screens():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 128
