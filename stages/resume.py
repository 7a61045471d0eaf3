"""Which training a saved state belongs to: its parameters, its code and its inputs, as dvc.yaml lists them."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from stages.stage import CODE, dependencies
from xpronet.common.params import Strict
from xpronet.common.states import States


def states(stage: str, params: Strict, device: torch.device) -> States:
    """The saved states of a stage's training; `params` are all that the stage reads.

    They lie in `.resume/` of the repository, or of the one whose copy this folder is (`dvc exp run --temp`, `--queue`).
    """
    about = {"device": device.type, "torch": torch.__version__}
    values = dict(_flat(params.model_dump(mode="json", exclude={"runtime"})))
    about |= {key: json.dumps(value) for key, value in values.items()}
    for value in values.values():  # weights that a parameter names are no dependency of the stage
        if isinstance(value, str) and Path(value).is_file():
            about[os.path.join(".", value)] = _sha256(Path(value))
    pipeline = yaml.safe_load((CODE / "dvc.yaml").read_text(encoding="utf-8"))
    for dep in dependencies(pipeline["stages"][stage], params.model_dump(mode="json")):
        top = CODE / dep if dep.startswith(("stages/", "xpronet/")) else Path(dep)
        for path in _files(top):
            about[(Path(dep) / path.relative_to(top)).as_posix()] = _sha256(path)
    root = Path(os.environ.get("DVC_ROOT", ""))  # DVC sets it, in a copy to the repository that the copy is of
    home = root if Path.cwd().is_relative_to(root.resolve()) else Path()
    return States(home / ".resume" / stage, about, minutes=params.runtime.save_minutes)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _files(path: Path) -> list[Path]:
    """The file, or those in the folder, compiled ones aside; none where nothing is there."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [each for each in found if each.is_file() and each.parent.name != "__pycache__"]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
