"""A crash leaves the old file or none: never half of a new one, and never two runs that write the same file."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from stages.stage import only_one
from xpronet.common.files import raise_all, read_json, read_table, replacing, write_json
from xpronet.common.params import load_yaml


@pytest.mark.parametrize("old", [True, False])
def test_a_crash_while_writing_leaves_what_was_there(tmp_path, old):
    path = tmp_path / "a.json"
    if old:
        write_json(path, {"old": 1})
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("{half")
        raise KeyboardInterrupt
    assert [found.name for found in tmp_path.iterdir()] == (["a.json"] if old else [])
    assert not old or read_json(path) == {"old": 1}


def test_a_folder_is_replaced_as_a_whole_and_leftovers_go(tmp_path):
    for name in ("old", "new"):
        (tmp_path / ".model.part").mkdir()  # as a killed run leaves it
        with replacing(tmp_path / "model") as beside:
            beside.mkdir()
            (beside / name).touch()
    assert [found.relative_to(tmp_path).as_posix() for found in tmp_path.rglob("*")] == ["model", "model/new"]


def test_problems_come_together():
    raise_all("file", [])
    with pytest.raises(ValueError, match="^file: one$"):
        raise_all("file", ["one"])
    with pytest.raises(ValueError, match="^file: 2 problems\n  one\n  two$"):
        raise_all("file", ["one", "two"])


MARK = b"\xef\xbb\xbf"  # how Windows' programs begin a text


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    """It would stick to the first column's name, and a spreadsheet's labels have "no column id"."""
    (tmp_path / "a.csv").write_bytes(MARK + b"id,x\nA,1\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "a.json").write_bytes(MARK + b'{"id": 1}')
    (tmp_path / "a.yaml").write_bytes(MARK + b"id: 1\n")
    for name in ("a.csv", "a.csv.gz"):
        assert list(read_table(tmp_path / name, ["id"])) == [(2, {"id": "A", "x": "1"})]
    assert read_json(tmp_path / "a.json") == load_yaml(tmp_path / "a.yaml") == {"id": 1}


def test_a_second_stage_does_not_start_beside_a_running_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    second = "from stages.stage import run; run(lambda: print('started'))"
    command = [sys.executable, "-c", second]
    with only_one():
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another stage is still running" in done.stderr
    assert "Traceback" not in done.stderr
    assert subprocess.run(command, capture_output=True, text=True).stdout == "started\n"
