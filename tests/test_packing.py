"""A pack is whole or not there, a killed run goes on where it stopped, and every broken image is named."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import largest_file
from xpronet.common.files import FullDisk
from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study
from xpronet.sources import archives
from xpronet.sources.images import read_image
from xpronet.sources.packing import Folder, pack_studies

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"resize": 64, "crop": 56}


def picture(seed: int, height: int = 90, width: int = 120) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(12):
        picture(n).save(folder / f"{n}.png")
    return folder


def studies(count: int = 6) -> list[Study]:
    """Two views each, the last study in test."""
    splits = ["train"] * (count - 1) + ["test"]
    return [Study(f"S{n}", split, "x", (f"{2 * n}.png", f"{2 * n + 1}.png")) for n, split in enumerate(splits)]


def pack(folder: Path, out: Path, chosen=None, **options):
    chosen = studies() if chosen is None else chosen
    return pack_studies(chosen, Folder(folder), out / "images.u8", out / "images.jsonl", **SIZES, **options)


def content(out: Path) -> list[bytes]:
    assert {path.name for path in out.iterdir()} == {"images.u8", "images.jsonl"}  # and nothing unfinished
    return [(out / name).read_bytes() for name in ("images.u8", "images.jsonl")]


def break_some(folder: Path) -> None:
    cut = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(cut[:200])
    (folder / "6.png").write_text("no picture")
    (folder / "7.png").unlink()
    (folder / "10.png").unlink()
    (folder / "10.png").symlink_to("nowhere.png")


def test_links_lead_wherever_their_owner_keeps_the_images(folder, tmp_path):
    """A data disk, or the cache of DVC with `cache.type symlink`: links to files, and folders that are links."""
    pack(folder, tmp_path / "whole")
    (tmp_path / "linked").mkdir()
    for n in range(12):
        (tmp_path / f"linked/{n}.png").symlink_to(folder / f"{n}.png")
    (tmp_path / "disk").symlink_to(folder)
    for place in ("linked", "disk"):
        pack(tmp_path / place, tmp_path / f"o-{place}")
        assert content(tmp_path / f"o-{place}") == content(tmp_path / "whole")


def test_raw_data_goes_under_dvc_and_git_sees_nothing_else_of_it(folder, tmp_path, new_project):
    """`dvc add` of the documented places, with links to the cache; a patient's table beside them stays out of git."""
    project = new_project("iu_xray", {})
    places = ("data/raw/images", "data/raw/iu_xray/images")
    for place in places:
        shutil.copytree(folder, project.folder / place)
    (project.folder / "data/raw/iu_xray/patients.csv").write_text("name")
    project.run("dvc", "config", "--local", "cache.type", "symlink")
    project.run("dvc", "add", "--quiet", *places)
    shutil.rmtree(project.folder / places[1])
    assert f"{places[1]}.dvc" in project.changed()
    project.run("dvc", "checkout", "--quiet", places[1])
    assert (project.folder / places[1] / "0.png").is_symlink()
    pack(folder, tmp_path / "whole")
    pack(project.folder / places[1], tmp_path / "o")
    assert content(tmp_path / "o") == content(tmp_path / "whole")
    shown = project.run("git", "status", "--short", "--untracked-files=all", "data").split()[1::2]
    assert shown == ["data/raw/.gitignore", "data/raw/images.dvc", "data/raw/iu_xray/images.dvc"]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_broken_image_is_named_and_no_pack_is_left(folder, tmp_path, workers):
    break_some(folder)
    with pytest.raises(ValueError) as error:
        pack(folder, tmp_path / "o", workers=workers)
    for line in ("4 problems", "S1: ", "S3: ", "S5: ", "not an image", "no such image"):
        assert line in str(error.value)
    assert not (tmp_path / "o/images.u8").exists()


def test_a_wrong_folder_is_one_line_and_not_one_for_each_image(folder, tmp_path):
    for broken in ("fail", "drop"):
        with pytest.raises(
            ValueError, match=r"^images: none of \d+ can be read: is images.folder right\? The first: .*$"
        ):
            pack(tmp_path, tmp_path / "o", broken=broken)


def test_broken_images_are_dropped_by_parameter(folder, tmp_path):
    """With their study where it has no other; what is left is packed as if they had never been there."""
    break_some(folder)
    kept, lines = pack(folder, tmp_path / "o", broken="drop", workers=2)
    assert [study.id for study in kept] == ["S0", "S1", "S2", "S4", "S5"]
    assert [study.image_path for study in kept][1:3] == [("2.png",), ("4.png", "5.png")]
    assert [line.split(":")[0] for line in lines] == ["study S1", "study S3", "study S3", "study S5"]
    pack(folder, tmp_path / "p", kept)
    assert content(tmp_path / "o") == content(tmp_path / "p")


def test_a_study_with_too_few_images_left_is_dropped_too(folder, tmp_path):
    """Every image that is left belongs to a study that is left; a study that never had as many stays."""
    break_some(folder)
    chosen = [*studies()[:-1], Study("S9", "val", "x", ("0.png",))]
    kept, lines = pack(folder, tmp_path / "o", chosen, broken="drop", min_views=2)
    assert [study.id for study in kept] == ["S0", "S2", "S4", "S9"] and len(lines) == 3
    pack(folder, tmp_path / "p", kept)
    found, expected = (ImagePack(tmp_path / f"{out}/images.u8", tmp_path / f"{out}/images.jsonl") for out in "op")
    assert found.sha256 == expected.sha256
    for position in range(len(expected)):
        np.testing.assert_array_equal(found.square(position), expected.square(position))


def test_no_studies_are_one_line(folder, tmp_path):
    for broken in ("fail", "drop"):
        with pytest.raises(ValueError, match="images: there are no studies to pack"):
            pack(folder, tmp_path / "o", [], broken=broken)


def test_when_nothing_can_be_read_dropping_is_no_help(folder, tmp_path):
    """Of a whole split: the others alone are no dataset."""
    lost = Study("S", "test", "x", ("a.png", "b.png"))
    with pytest.raises(
        ValueError, match="2 in test cannot be read, and no study there has 1 left, the first: study S: .*no such"
    ):
        pack(folder, tmp_path / "o", [*studies()[:2], lost], broken="drop")
    assert not (tmp_path / "o/images.u8").exists()


def test_the_number_of_processes_changes_no_byte(folder, tmp_path):
    pack(folder, tmp_path / "o")
    pack(folder, tmp_path / "p", workers=3)
    assert content(tmp_path / "o") == content(tmp_path / "p")


class Killed(BaseException):
    """Stands for a killed process: no `except` of ours sees it."""


def interrupted(monkeypatch, folder: Path, out: Path, after: int) -> None:
    """Pack, and die when `after` images are read."""
    read, left = Folder.read, [after]

    def reading(self, study, view):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return read(self, study, view)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Folder, "read", reading)
        pack(folder, out)


def count_reads(monkeypatch) -> list[str]:
    read, seen = Folder.read, []

    def reading(self, study, view):
        seen.append(study.image_path[view])
        return read(self, study, view)

    monkeypatch.setattr(Folder, "read", reading)
    return seen


def test_an_interrupted_run_continues_to_the_same_bytes(folder, tmp_path, monkeypatch):
    pack(folder, tmp_path / "whole")
    interrupted(monkeypatch, folder, tmp_path / "o", after=7)
    journal = tmp_path / "o/.images.unfinished.jsonl"
    journal.write_text(journal.read_text() + "[12, 3")  # killed within a line
    with open(tmp_path / "o/.images.unfinished.u8", "ab") as file:
        file.write(b"half an image")
    seen = count_reads(monkeypatch)
    pack(folder, tmp_path / "o")
    assert seen == [f"{n}.png" for n in range(7, 12)]
    assert content(tmp_path / "o") == content(tmp_path / "whole")


def test_what_decoding_assumed_is_said_once_with_the_count(folder, tmp_path, caplog, monkeypatch):
    """Of all images, those of an interrupted run too; the index does not keep it."""
    pack(folder, tmp_path / "p")
    for n in (1, 4, 11):
        values = np.asarray(Image.open(folder / f"{n}.png")).astype(np.uint16)
        Image.fromarray(values << 4).save(folder / f"{n}.png")
    interrupted(monkeypatch, folder, tmp_path / "o", after=7)
    with caplog.at_level("INFO"):
        pack(folder, tmp_path / "o", workers=2)
    assert [line for line in caplog.messages if "bits" in line] == [
        "pack: 3 images: values of 12 bits in a deeper file, shown in the whole range of grey"
    ]
    assert content(tmp_path / "o") == content(tmp_path / "p")


def test_an_interrupted_run_is_not_continued_for_another_pack(folder, tmp_path, monkeypatch):
    """Other studies, sizes or pixels: what is there already would be wrong."""
    interrupted(monkeypatch, folder, tmp_path / "o", after=7)
    seen = count_reads(monkeypatch)
    pack(folder, tmp_path / "o", studies()[1:])
    assert len(seen) == 10
    monkeypatch.undo()
    interrupted(monkeypatch, folder, tmp_path / "p", after=7)
    picture(99).save(folder / "4.png")
    os.utime(folder / "4.png", ns=(1, 1))
    seen = count_reads(monkeypatch)
    pack(folder, tmp_path / "p")
    assert seen == [f"{n}.png" for n in range(4, 12)]


def test_a_repaired_image_is_all_that_a_failed_run_needs_from_there_on(folder, tmp_path, monkeypatch):
    pack(folder, tmp_path / "whole")
    good = (folder / "9.png").read_bytes()
    (folder / "9.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"S4: .*9\.png"):
        pack(folder, tmp_path / "o")
    (folder / "9.png").write_bytes(good)
    seen = count_reads(monkeypatch)
    pack(folder, tmp_path / "o")
    assert seen == ["9.png", "10.png", "11.png"]
    assert content(tmp_path / "o") == content(tmp_path / "whole")


def test_kill_minus_nine_on_the_process_and_its_workers(folder, tmp_path):
    """The journal is never ahead of the pixels, whenever the power goes."""
    script = (
        "import time; from pathlib import Path; from xpronet.sources import packing; "
        "from xpronet.data.studies import Study; read = packing.Folder.read\n"
        "def slowly(self, *item): time.sleep(0.05); return read(self, *item)\n"
        "packing.Folder.read = slowly\n"
        "paths = tuple(f'{n % 12}.png' for n in range(400))\n"
        f"packing.pack_studies([Study('S', 'train', 'x', paths)], packing.Folder(Path({str(folder)!r})), "
        f"{str(tmp_path / 'o/images.u8')!r}, {str(tmp_path / 'o/images.jsonl')!r}, resize=64, crop=56, workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, start_new_session=True)
    journal = tmp_path / "o/.images.unfinished.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not journal.exists() or len(journal.read_text().splitlines()) < 20):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    rows = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert 19 <= len(rows) < 400
    end = max(row[1] + row[2] * row[3] for row in rows)
    assert (tmp_path / "o/.images.unfinished.u8").stat().st_size >= end
    many = [Study("S", "train", "x", tuple(f"{n % 12}.png" for n in range(400)))]
    pack(folder, tmp_path / "o", many)
    pack(folder, tmp_path / "whole", many)
    assert content(tmp_path / "o") == content(tmp_path / "whole")


def test_a_killed_worker_is_one_line(folder, tmp_path, monkeypatch):
    def dies(self, study, view):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Folder, "read", dies)
    with pytest.raises(ValueError, match="a process that packs was killed.*run again to go on"):
        pack(folder, tmp_path / "o", workers=2)


def test_the_index_says_what_an_image_was(folder, tmp_path):
    """Size and content of the original: what finds duplicates, whatever the format."""
    Image.open(folder / "0.png").save(folder / "1.png", compress_level=1)
    picture(5, height=70, width=200).save(folder / "2.png")
    pack(folder, tmp_path / "o")
    found = ImagePack(tmp_path / "o/images.u8", tmp_path / "o/images.jsonl")
    assert found.sizes[:3].tolist() == [[90, 120], [90, 120], [70, 200]]
    assert found.sha256[0] == found.sha256[1]
    assert len(set(found.sha256)) == 11


def archive(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


@pytest.mark.parametrize("suffix", ["tgz", "tar"])
def test_pictures_come_out_of_an_archive_under_the_wanted_names_only(folder, tmp_path, suffix):
    data = {n: (folder / f"{n}.png").read_bytes() for n in range(4)}
    members = {"a/0.png": data[0], "../../escape.png": data[1], "/abs/2.png": data[2], "deep/er/3.png": data[3]}
    path = archive(tmp_path / f"images.{suffix}", members, {"link.png": "/etc/passwd"})
    out = tmp_path / "out"
    archives.extract(path, {"0.png", "er/3.png", "escape.png", "link.png", "absent.png"}, out)
    written = {file.relative_to(out).as_posix() for file in out.rglob("*.png") if file.is_file()}
    assert written == {"0.png", "er/3.png", "escape.png"}
    assert not (tmp_path.parent / "escape.png").exists()
    np.testing.assert_array_equal(read_image(out / "0.png"), read_image(folder / "0.png"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("named", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_found_in_either_spelling(folder, tmp_path, named, written, packed):
    """A Mac's file names take accents apart; an annotation may be from elsewhere."""
    named, written = (unicodedata.normalize(form, "séance/Müller.png") for form in (named, written))
    images = tmp_path / "accents"
    if packed:
        path = archive(tmp_path / "images.tar", {f"all/{written}": (folder / "0.png").read_bytes()})
        archives.extract(path, {named}, images)
    else:
        (images / written).parent.mkdir(parents=True)
        shutil.copy(folder / "0.png", images / written)
    pack(images, tmp_path / "o", [Study("S", "train", "x", (named,))])
    pack(folder, tmp_path / "p", [Study("S", "train", "x", ("0.png",))])
    assert content(tmp_path / "o") == content(tmp_path / "p")
    assert Folder(images).stamp(Study("S", "train", "x", (named,)), 0) is not None


def test_what_is_out_of_the_archive_already_stays(folder, tmp_path):
    path = archive(tmp_path / "images.tar", {"0.png": (folder / "0.png").read_bytes()})
    archives.extract(path, {"0.png"}, tmp_path / "out")
    before = (tmp_path / "out/0.png").stat().st_mtime_ns
    archives.extract(path, {"0.png"}, tmp_path / "out")
    assert (tmp_path / "out/0.png").stat().st_mtime_ns == before


def test_what_another_archive_has_left_is_not_taken(folder, tmp_path):
    """A run with one archive was killed, and the next reads another with the same names."""
    for number in range(2):
        path = archive(tmp_path / f"{number}.tar", {"0.png": (folder / f"{number}.png").read_bytes()})
        archives.extract(path, {"0.png"}, tmp_path / "out")
    assert (tmp_path / "out/0.png").read_bytes() == (folder / "1.png").read_bytes()


@pytest.mark.parametrize("data", [b"", b"no archive"])
def test_what_is_no_archive_is_one_line(tmp_path, data):
    (tmp_path / "images.tgz").write_bytes(data)
    with pytest.raises(ValueError, match=r"images\.tgz: not a whole archive") as error:
        archives.extract(tmp_path / "images.tgz", {"a.png"}, tmp_path / "out")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no such archive"):
        archives.extract(tmp_path / "none.tgz", {"a.png"}, tmp_path / "out")


def test_a_cut_archive_is_one_line(folder, tmp_path):
    path = archive(tmp_path / "images.tgz", {f"{n}.png": (folder / f"{n}.png").read_bytes() for n in range(8)})
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(ValueError, match="not a whole archive"):
        archives.extract(path, {"7.png"}, tmp_path / "out")


def test_a_full_disk_is_no_broken_archive(folder, tmp_path):
    content = {f"{n}.png": (folder / f"{n}.png").read_bytes() for n in range(2)}
    path = archive(tmp_path / "images.tar", {**content, "large.png": bytes(200_000)})
    with largest_file(100_000), pytest.raises(FullDisk, match=r"out/large\.png: no room for 200,000 bytes"):
        archives.extract(path, {*content, "large.png"}, tmp_path / "out")
    assert {found.name for found in (tmp_path / "out").iterdir() if found.suffix == ".png"} == set(content)


def test_a_pack_for_which_there_is_no_room_goes_on_from_there(folder, tmp_path, monkeypatch):
    """What is there is whole, and no image is read twice."""
    pack(folder, tmp_path / "p")
    with largest_file(50_000), pytest.raises(FullDisk, match=r"images\.u8: no room for 5,\d\d\d bytes"):
        pack(folder, tmp_path / "o")
    seen = count_reads(monkeypatch)
    pack(folder, tmp_path / "o")
    assert content(tmp_path / "o") == content(tmp_path / "p") and 0 < len(seen) < 12
