"""A crash leaves the old file or none: never half of a new one, and never two runs that write the same file."""

import errno
import gzip
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stages import stage
from stages.stage import by_folder, files_of, only_one, run
from tests.conftest import largest_file
from xpronet.common.files import (
    FullDisk,
    json_lines,
    keyed,
    parse_json,
    raise_all,
    read_json,
    read_table,
    replacing,
    write_json,
)
from xpronet.common.lock import alone
from xpronet.common.params import load_yaml
from xpronet.common.weights import read_weights, save_tensors


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


def test_a_file_takes_no_folder_s_place(tmp_path, monkeypatch):
    """`xpronet compare --out data` would leave a file where the data lay."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/kept").touch()
    with pytest.raises(ValueError, match="data: a folder, in whose place no file is written"):
        write_json(tmp_path / "data", {})
    monkeypatch.chdir(tmp_path)
    for folder in (".", "/"):
        with pytest.raises(ValueError, match=f"^{folder}: a folder"):
            write_json(folder, {})
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "kept"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused_by_its_key(tmp_path, value):
    """JSON has neither NaN nor Infinity: other programs would refuse the whole file."""
    with pytest.raises(ValueError, match=rf"a\.json: test\.epochs\.1\.loss = {value}: no number that JSON has$"):
        write_json(tmp_path / "a.json", {"id": "x", "test": {"epochs": ({"loss": 1.5}, {"loss": value})}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("old", [True, False])
def test_a_full_disk_is_one_line_with_the_place_and_the_bytes(tmp_path, old):
    path = tmp_path / "a.json"
    if old:
        write_json(path, {"old": 1})
    line = r"/a\.json: no room for 2,\d\d\d bytes, [\d,]+ are free \(File too large\): make room there, and run again$"
    with largest_file(1000), pytest.raises(FullDisk, match=line):
        write_json(path, {"text": "x" * 2000})
    with pytest.raises(FullDisk, match=r"/a\.json: no room, [\d,]+ are free \(No space left"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [found.name for found in tmp_path.iterdir()] == (["a.json"] if old else [])
    assert not old or read_json(path) == {"old": 1}


def test_weights_for_which_there_is_no_room_are_one_line(tmp_path):
    """safetensors raises a class of its own, which is no OSError; the old weights stay."""
    path = tmp_path / "w.safetensors"
    save_tensors({"a": torch.zeros(10)}, path)
    line = r"/w\.safetensors: no room for 40,000 bytes, .* \(File too large\)"
    with largest_file(1000), pytest.raises(FullDisk, match=line), replacing(path) as beside:
        save_tensors({"a": torch.zeros(10_000)}, beside)
    assert [found.name for found in tmp_path.iterdir()] == ["w.safetensors"]
    assert read_weights(path)["a"].tolist() == [0] * 10


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
    with pytest.raises(ValueError, match="^file: 2 problems; do this\n  one\n  two$"):
        raise_all("file", ["one", "two"], help="do this")
    with pytest.raises(ValueError, match="^file: one; do this$"):
        raise_all("file", ["one"], help="do this")


def test_of_thousands_of_problems_the_first_are_named():
    """A folder with few of a dataset's images has one for each of the others."""
    with pytest.raises(ValueError) as error:
        raise_all("images", [f"no image {n}" for n in range(5874)])
    first, *lines = str(error.value).splitlines()
    assert first == "images: 5,874 problems" and len(lines) == 21
    assert lines[0] == "  no image 0" and lines[-1] == "  and 5,854 more"
    for count, last in ((20, "  p19"), (21, "  and 1 more")):
        with pytest.raises(ValueError) as error:
            raise_all("file", [f"p{n}" for n in range(count)])
        assert str(error.value).splitlines()[-1] == last


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


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a": 1,\n"b": 2,\n"a": 3}', "'a' stands twice in lines 1 and 3, as 1 and as 3: keep one"),
        ('{"train": [{"id": "x", "report": "Clear.", "report": "Large."}]}', "'report' stands twice, as 'Clear.' and"),
    ],
)
def test_json_says_one_thing_under_a_key(tmp_path, content, line):
    """Python keeps the last and says nothing: the labels of one study would be another's."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=f"a.json: {line}") as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value)
    assert parse_json('{"a": [1], "a": [1]}') == {"a": [1]}


def test_json_lines_name_the_line():
    with pytest.raises(ValueError, match="p.jsonl: line 2: 'id' stands twice, as 'a' and as 'b'"):
        list(json_lines('{"id": "a"}\n{"id": "a", "id": "b"}\n', "p.jsonl"))
    with pytest.raises(ValueError, match="p.jsonl: line 1: not JSON"):
        list(json_lines("{\n", "p.jsonl"))


def test_a_key_has_one_value():
    assert keyed("t.csv", [(2, "a", 1), (3, "b", 2), (4, "a", 1)]) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="t.csv: a stands in lines 2 and 5, with different values: keep one"):
        keyed("t.csv", [(2, "a", 1), (3, "b", 2), (4, "a", 1), (5, "a", 2)])


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_nested_beyond_reason_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="a.json: lists or objects within each other, beyond reason$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="^a: line 2: lists or objects within each other"):
        list(json_lines(f"1\n{content}", "a"))


def test_json_with_half_a_character_is_one_line(tmp_path):
    """It could be read and scored, and not be written again: the error of that names neither file nor place."""
    (tmp_path / "a.json").write_text(r'{"id": "x\uD83D"}')
    with pytest.raises(ValueError, match=r"a.json: half of a character, \\ud83d, without its other half"):
        read_json(tmp_path / "a.json")
    assert parse_json(r'["\ud83d\ude00", "\\ud800"]') == ["\U0001f600", "\\ud800"]


def test_a_folder_in_a_file_s_place_is_called_so(tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}: a folder: name the file in it$"):
        read_json(tmp_path)


def test_a_folder_that_takes_no_files_is_said(tmp_path):
    """Not as `[Errno 30] Read-only file system: '.reports.part.jsonl'`, a name that the user never wrote."""
    (tmp_path / "frontal.png").write_bytes(b"")
    with pytest.raises(ValueError, match="^.*frontal.png/why.json: a file stands where its folder would be"):
        write_json(tmp_path / "frontal.png/why.json", {})
    with pytest.raises(ValueError, match=r"^/dev/null/why.json: a file stands where its folder would be"):
        write_json("/dev/null/why.json", {})
    with pytest.raises(ValueError, match=r"^/proc/why.json: cannot be written there \(.*\): name another folder$"):
        write_json("/proc/why.json", {})  # for root, too
    with pytest.raises(FileNotFoundError, match="other.json"), replacing(tmp_path / "why.json"):
        (tmp_path / "other.json").read_bytes()  # what is read meanwhile keeps its name


def test_text_that_is_not_utf8_is_called_so_in_a_table_too(tmp_path):
    (tmp_path / "a.csv").write_bytes("id,x\nA,Bronchialgefäße\n".encode("latin-1"))
    for read in (lambda path: list(read_table(path, ["id", "x"])), read_json):
        with pytest.raises(ValueError, match=r"a.csv: not text in UTF-8 \(.*byte 0xe4\): save it as UTF-8$"):
            read(tmp_path / "a.csv")


def test_a_quote_that_nothing_closes_swallows_no_rows(tmp_path):
    """The rest of the table would be the text of one cell."""
    for rows in ('1,"fine\n2,large heart\n3,effusion\n', '1,"fine" heart\n2,large\n'):
        (tmp_path / "a.csv").write_text(f"id,findings\n{rows}")
        with pytest.raises(ValueError, match="a.csv: not a whole table: "):
            list(read_table(tmp_path / "a.csv", ["id", "findings"]))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("id;x\nA;1\n", "no column id, x: its first line is 'id;x', without commas"),
        ("id\tx\nA\t1\n", r"no column id, x: its first line is 'id\\tx', without commas"),
        ("", "no column id, x: it is empty"),
        ("id,x,x\nA,1,2\n", "twice the column x"),
        ("id,y\nA,1\n", "no column x: there are 'id, y'"),
        ("id,x,y\nA,1\n", "line 2: more or fewer cells than the 3 columns"),
        ("id,x\nA,1\nB,2,3\n", "line 3: more or fewer cells than the 2 columns"),
    ],
)
def test_a_table_has_each_column_once_and_whole_rows(tmp_path, content, line):
    """The second column of a name would replace the first, and a file that was cut would end in blanks."""
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=f"a.csv: {line}"):
        list(read_table(tmp_path / "a.csv", ["id", "x"]))


def test_a_second_stage_does_not_start_beside_a_running_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    (tmp_path / "params.yaml").write_text("{}")
    second = "import sys; sys.argv[0] = 'check.py'; from stages.stage import run; run(lambda: print('started'))"
    command = [sys.executable, "-c", second]
    with only_one():
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    line = f"another stage is still running in this folder: process {os.getpid()}, `python -m stages"
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1
    assert subprocess.run(command, capture_output=True, text=True).stdout == "started\n"


def test_a_killed_process_keeps_nobody_away(tmp_path):
    """Although what it has forked lives on, as data loaders do for seconds, and another process has its id by now."""
    path, fds = tmp_path / "lock", os.pipe()
    child = os.fork()
    if not child:
        try:
            with alone(path, name="a", refused=""):
                if os.fork():
                    os.write(fds[1], b"locked")
                    time.sleep(60)
                time.sleep(3)
        finally:
            os._exit(0)
    assert os.read(fds[0], 6) == b"locked"
    with pytest.raises(ValueError, match=f"^refused: process {child}, "), alone(path, name="", refused="refused"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with alone(path, name="me", refused=""):
        assert path.read_text() == f"process {os.getpid()}, me\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a: wrong"), "^a: wrong$"),
        (MemoryError(), r"^out of memory \(of the machine\): raise train.accumulate or set train.checkpointing"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate\n20 MiB"),
            r"^out of memory \(CUDA .* 20 MiB\): raise train.acc",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"),
            "^out of memory .*: raise train.acc",
        ),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "has died.*runtime.workers: 0"),
    ],
)
def test_a_stage_ends_with_a_line_that_names_what_to_change(tmp_path, monkeypatch, error, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "files_of", lambda name: ("", ""))

    def main():
        raise error

    with pytest.raises(SystemExit, match=line) as end:
        run(main)
    assert "\n" not in str(end.value)


def test_a_traceback_is_there_for_who_asks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "files_of", lambda name: ("", ""))
    monkeypatch.setenv("XPRONET_DEBUG", "1")

    def main():
        raise ValueError("a: wrong")

    with pytest.raises(ValueError, match="^a: wrong$"):
        run(main)


def test_a_mistake_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "files_of", lambda name: ("", ""))

    def main():
        raise RuntimeError("stack expects each tensor to be equal size. Caught in DataLoader worker process 0")

    with pytest.raises(RuntimeError, match="stack expects"):
        run(main)


def test_a_stage_says_what_it_reads_what_it_made_where_and_how_long(tmp_path, monkeypatch, caplog):
    """Two lines, the same for every stage, so that a log can be read from the top to the bottom."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("source: my/annotation.json\nmodel_folder: mine")
    monkeypatch.setattr(sys, "argv", ["stages/label.py"])
    caplog.set_level("INFO")
    run(lambda: "2.4 labels each")
    read, wrote = caplog.messages
    assert read == "label: reads data/prepared/annotation.json"
    places = "data/{label_probabilities.csv,labels.csv}, metrics/labels.json, metrics/details/labels.json"
    assert re.fullmatch(rf"label: wrote {re.escape(places)} in \d+\.\d s: 2.4 labels each", wrote)
    assert files_of("prepare")[0] == "data/checked.json, my/annotation.json"
    assert "mine" in files_of("generate")[0].split(", ")
    for name in load_yaml(stage.CODE / "dvc.yaml")["stages"]:
        assert all(0 < len(line) < 260 for line in files_of(name)), name


def test_files_of_a_folder_stand_together():
    assert by_folder(["b/x.csv", "params.yaml", "b/c/1", "b/y.csv"]) == "params.yaml, b/{x.csv,y.csv}, b/c/1"
    assert by_folder([f"a/{n}" for n in range(6)]) == "a/*"
