"""The command as a terminal and a log have it: colours, progress, completion. A silent minute looks like a hang."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xpronet.app.cli import app
from xpronet.common import progress

ROOT = Path(__file__).resolve().parents[1]
COLOUR = re.compile(r"\x1b\[[\d;]*\b[34]\d(;\d+)*m")


def said(*words: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'xpronet'; from xpronet.app.cli import main; main()"]
    done = subprocess.run(
        [*command, *words], cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_no_color_is_respected():
    assert COLOUR.search(said("score", "--help", FORCE_COLOR="1"))
    assert not COLOUR.search(said("score", "--help", FORCE_COLOR="1", NO_COLOR="1"))


def test_help_lists_every_command_before_anything_heavy_is_loaded():
    """A command's module that imports what one of its commands needs makes each --help and completion wait for it."""
    ask = """import sys
from xpronet.app.cli import app
from typer.main import get_command
print(*get_command(app).commands)
print(*sorted({"torch", "numpy", "pydantic", "yaml", "PIL"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = "import-official generate export doctor compare score view figures serve"
    assert done.stdout.split("\n")[:2] == [commands, ""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(shell):
    words = {"_TYPER_COMPLETE_ARGS": "xpronet gen", "COMP_WORDS": "xpronet gen", "COMP_CWORD": "1"}
    found = said(_XPRONET_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **words)
    assert "generate" in found and "score" not in found


def test_the_command_says_in_a_log_how_far_long_work_is(monkeypatch):
    """Lines of our own to standard error, now and then; of other packages no chatter."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("xpronet"), "level", logging.NOTSET)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1)

    @app.command()
    def work() -> None:
        assert list(progress.track(range(3), what="work", unit="items")) == [0, 1, 2]
        logging.getLogger("other").info("chatter")

    try:
        done = CliRunner().invoke(app, ["work"])
    finally:
        app.registered_commands.pop()
    lines = done.stderr.splitlines()
    assert (done.exit_code, done.stdout, len(lines)) == (0, "", 2), done.output
    assert lines[0].startswith("work: 1 of 3, ") and "s left" in lines[0]
