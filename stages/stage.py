"""What every stage does: say what it read and wrote, keep a second one away, make a user's mistake one line."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from xpronet.common.lock import alone
from xpronet.common.params import load_yaml
from xpronet.common.shortage import one_line

CODE = Path(__file__).resolve().parents[1]


def run(main: Callable[[], str], *, together: bool = False) -> None:
    """Run a stage, whose `main` says in half a line what it made.

    Args:
        together: whether several processes, as a launcher starts them, can be one run of this stage.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started, stage = time.monotonic(), Path(sys.argv[0]).stem
    rank, others = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)) - 1
    if others and not together:
        sys.exit(f"{_command()} is for one process, and is one of {others + 1} here: start it without a launcher")
    who = f"process {rank + 1} of {others + 1}: " if others else ""
    try:
        with one_line(who), nullcontext() if rank else only_one():
            if rank:
                main()
                return
            read, written = files_of(stage)
            logging.info("%s: reads %s", stage, read)
            made = main()
        logging.info("%s: wrote %s in %.1f s: %s", stage, written, time.monotonic() - started, made)
    except KeyboardInterrupt:
        sys.exit("interrupted; nothing half-written is left, run it again")


def shared(params: Any, work: Callable[..., str]) -> str:
    """What `work(params, device, group)` says, done by as many processes as group `runtime` of the parameters asks."""
    from xpronet.common.devices import choose  # with PyTorch, whose import takes seconds
    from xpronet.common.processes import together

    device = choose(params.runtime.device)
    with together(params.runtime.processes, device, threads=params.runtime.threads) as group:
        return work(params, group.place(device), group)


def files_of(stage: str) -> tuple[str, str]:
    """What a stage reads, code aside, and what it writes, by dvc.yaml."""
    entry = load_yaml(CODE / "dvc.yaml")["stages"][stage]
    read = [path for path in dependencies(entry, load_yaml()) if not path.startswith(("stages/", "xpronet/"))]
    kinds = (entry.get(kind, ()) for kind in ("outs", "metrics", "plots"))
    written = [path if isinstance(path, str) else next(iter(path)) for of in kinds for path in of]
    return by_folder(read), by_folder(written)


class _Key(Template):
    """`${source}`, or `${train.start}` of a group."""

    idpattern = r"\w+(?:\.\w+)*"


def dependencies(entry: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """The paths that a stage of dvc.yaml lists as `deps`; a key in one that the parameters lack stays as it is."""
    keys: dict[str, Any] = {}
    for key, value in params.items():
        keys |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    return [_Key(path).safe_substitute(keys) for path in entry["deps"]]


def by_folder(paths: list[str]) -> str:
    """`data/{labels.csv,x.csv}, metrics/figures/*`: short enough for a line."""
    places = []
    for folder, within in groupby(sorted(path.rpartition("/") for path in paths), lambda parts: parts[0]):
        names = [name for _, _, name in within]
        shown = names[0] if len(names) == 1 else "*" if len(names) > 5 else f"{{{','.join(names)}}}"
        places.append(f"{folder}/{shown}" if folder else shown)
    return ", ".join(places)


def only_one() -> AbstractContextManager[None]:
    """A killed dvc leaves its stage running: refuse to start a second one in the same folder.

    Raises:
        ValueError: a stage runs; the line has the process's id.
    """
    return alone(
        "data/.lock",
        name=_command(),
        refused="another stage is still running in this folder",
    )


def _command() -> str:
    return f"`python -m stages.{Path(sys.argv[0]).stem}`"
