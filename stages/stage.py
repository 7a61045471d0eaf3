"""What every stage does: read its parameters, log, and turn a user's mistake into one line."""

import fcntl
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ConfigDict, ValidationError

from xpronet.data.params import Strict

Params = TypeVar("Params", bound=Strict)
FILE = Path("params.yaml")


class Part(Strict):
    """Some keys of a group: the others are another stage's business."""

    model_config = ConfigDict(extra="ignore")


def load_yaml(path: Path = FILE) -> dict:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; copy one from presets/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys and values")
    return content


def validate(model: type[Params], content: dict) -> Params:
    """Raise ValueError with one line per mistake: the key, its value and the rule."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = []
        for mistake in error.errors():
            key = ".".join(map(str, mistake["loc"])) or "params"
            rule = mistake["msg"].removeprefix("Value error, ")
            shown = "" if mistake["type"] in ("value_error", "missing") else f" = {mistake['input']!r}"
            rule = "no such parameter" if mistake["type"] == "extra_forbidden" else rule
            lines.append(f"{FILE}: {key}{shown}: {rule}")
        raise ValueError("\n".join(lines)) from None


def read(model: type[Params]) -> Params:
    """The keys of params.yaml that `model` names."""
    content = load_yaml()
    return validate(model, {key: content[key] for key in model.model_fields if key in content})


def run(main: Callable[[], None]) -> None:
    """Run a stage; set XPRONET_DEBUG=1 to see where a mistake was noticed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.monotonic()
    try:
        with only_one():
            main()
        logging.info("done in %.0f s", time.monotonic() - started)
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing half-written is left, run it again")
    except (ValueError, OSError) as error:  # a mistake of the user's, or a machine that lacks something
        if os.environ.get("XPRONET_DEBUG"):
            raise
        sys.exit(str(error))


@contextmanager
def only_one() -> Iterator[None]:
    """A killed dvc leaves its stage running: refuse to start a second one in the same folder."""
    path = Path("data/.lock")
    path.parent.mkdir(exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                "another stage is still running in this folder: end its `python -m stages.…` first"
            ) from None
        yield
