"""The pipeline reruns what a change touches and nothing else: dvc.yaml says what each stage imports and reads."""

import ast
import importlib
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.parametrize("stage", STAGES)
def test_module_dependencies_are_the_imports(stage):
    listed = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    imported = imported_files(f"stages.{stage}")
    text = "\n".join(f"      - {path}" for path in sorted(imported))
    assert listed == imported, f"deps of {stage} in dvc.yaml should list these modules:\n{text}"


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_keys_that_the_stage_reads(stage):
    params = importlib.import_module(f"stages.{stage}").Params
    if stage == "check":  # it reads the whole file
        assert "params.yaml" in STAGES[stage]["deps"]
        return
    keys = set()
    for name, field in params.model_fields.items():
        partial = getattr(field.annotation, "model_config", {}).get("extra") == "ignore"
        keys |= {f"{name}.{key}" for key in field.annotation.model_fields} if partial else {name}
    assert set(STAGES[stage]["params"]) == keys - {"runtime", "source"}  # runtime changes no result; source is a dep


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_as_a_module_and_imports_no_other(stage):
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"  # a path would import another copy in dvc exp run --temp
    other = {f"stages/{name}.py" for name in STAGES} - {f"stages/{stage}.py"}
    assert not imported_files(f"stages.{stage}") & other


def test_rooms_import_from_the_rooms_above_only():
    rooms = ["data", "labels", "prototypes", "model", "training", "evaluation", "figures", "app"]
    for level, room in enumerate(rooms):
        for path in (ROOT / "xpronet" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                if module and module.startswith("xpronet."):
                    assert rooms.index(module.split(".")[1]) <= level, f"{path} imports {module}"


def test_the_library_package_is_empty():
    """Every stage depends on it: a line in it would rerun everything."""
    assert (ROOT / "xpronet/__init__.py").read_text() == ""
