"""`xpronet view`: people look before they read; a page that shows another study's picture or word misleads them."""

import base64
import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.browser import CHROMIUM, needs_chromium
from xpronet.app import view
from xpronet.app.cli import app
from xpronet.common.files import read_json
from xpronet.data.reports import clean_report
from xpronet.data.studies import Study, write_annotation
from xpronet.labels.conditions import CONDITIONS

EVIL = "Edema. </script><script>document.title = 'gone'</script> <img src=x onerror=alert(1)> & \u2028."
REFERENCES = ["Small left effusion. The heart is large.", "The lungs are clear.", EVIL]
ONE = ["small left effusion . the heart is normal .", "rib fracture .", EVIL]
TWO = ["the heart is large .", "the lungs are clear .", "no edema ."]


@pytest.fixture
def texts(tmp_path, monkeypatch) -> list[str]:
    """A folder with an annotation and two files of reports."""
    monkeypatch.chdir(tmp_path)
    studies = [Study("t", "train", "Clear.", ["a.png"]), Study("v", "val", "Clear.", ["a.png"])]
    studies += [Study(f"s{n}", "test", text, ["a.png"]) for n, text in enumerate(REFERENCES)]
    write_annotation("annotation.json", studies)
    for name, reports in (("one", ONE), ("two", TWO)):
        lines = [json.dumps({"id": f"s{n}", "report": text}) + "\n" for n, text in enumerate(reports)]
        Path(f"{name}.jsonl").write_text("".join(reversed(lines)))
    return ["one.jsonl", "two.jsonl"]


def made_page(*words: str) -> tuple[str, dict]:
    done = CliRunner().invoke(app, ["view", *words, "--out", "page.html"])
    assert done.exit_code == 0, (done.output, done.exception)
    page = Path("page.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return page, json.loads(data)


def test_a_study_has_its_own_texts_observations_and_scores(texts):
    _, data = made_page(*texts, "--prepared", "annotation.json")
    assert [study["id"] for study in data["studies"]] == ["s0", "s1", "s2"]
    first, second, _ = data["studies"]
    assert first["reference"] == clean_report(REFERENCES[0], "iu_xray")
    assert [side["report"] for side in first["sides"]] == [ONE[0], TWO[0]]

    def names(rows: list[int]) -> set[str]:
        return {CONDITIONS[row] for row in rows}

    assert names(first["observations"]) == {"Pleural Effusion", "Cardiomegaly"}
    assert [names(side["observations"]) for side in first["sides"]] == [{"Pleural Effusion"}, {"Cardiomegaly"}]
    assert names(second["sides"][0]["observations"]) == {"Fracture"}
    by_name = dict(zip(data["scores"], second["sides"][1]["scores"], strict=True))
    assert (by_name["ROUGE_L"], by_name["example_F1"]) == (1, 1) and by_name["CIDEr"] > 5
    assert first["sides"][0]["scores"][data["scores"].index("example_F1")] == pytest.approx(2 / 3, abs=1e-4)
    assert all(study["images"] == [] for study in data["studies"])


def test_the_page_asks_no_server_and_no_report_is_part_of_it(texts):
    page, data = made_page(*texts, "--prepared", "annotation.json")
    outside = page.replace(json.dumps(data, ensure_ascii=False), "")
    assert not re.findall(r"https?:|//cdn|\bfetch\(|XMLHttpRequest|@import|innerHTML", outside)
    assert "default-src 'none'" in page and "no medical device" in page
    assert page.count("</script>") == 2 and "<img src=x" not in page


def test_images_are_those_of_the_study(made, monkeypatch):
    """Within the page, and in a folder beside where there are many."""
    annotation = read_json("data/prepared/annotation.json")
    lines = [json.dumps({"id": study["id"], "report": "clear ."}) for study in annotation["test"]]
    Path("r.jsonl").write_text("\n".join(lines))

    def grey(held: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(held)).convert("L"), np.float32)

    _, within = made_page("r.jsonl")
    monkeypatch.setattr(view, "WITHIN", 1)
    _, beside = made_page("r.jsonl")
    for study, other in zip(within["studies"], beside["studies"], strict=True):
        views = made.images[study["id"]]
        assert len(study["images"]) == len(other["images"]) == len(views)
        for address, path, pixels in zip(study["images"], other["images"], views, strict=True):
            held = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
            assert path.startswith("page_files/") and Path(path).read_bytes() == held
            assert np.abs(grey(held) - pixels).mean() < 12  # of a JPEG


def test_nothing_but_a_page_s_own_images_makes_way_for_them(made, monkeypatch):
    annotation = read_json("data/prepared/annotation.json")
    lines = [json.dumps({"id": study["id"], "report": "clear ."}) for study in annotation["test"]]
    Path("r.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(view, "WITHIN", 1)
    made_page("r.jsonl")
    made_page("r.jsonl")
    Path("page_files/mine.txt").write_text("mine")
    done = CliRunner().invoke(app, ["view", "r.jsonl", "--out", "page.html"])
    assert str(done.exception) == "page_files is for the page's images and holds mine.txt: name another --out"
    assert Path("page_files/mine.txt").exists()
    index = Path("data/prepared/images.jsonl")
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-2]))
    done = CliRunner().invoke(app, ["view", "r.jsonl", "--out", "other.html"])
    assert "the pack has" in str(done.exception) and "dvc repro prepare" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["gone.jsonl"], "gone.jsonl: no such file"),
        (["one.jsonl", "two.jsonl", "one.jsonl"], "view shows one or two files of reports, got 3"),
        (["one.jsonl", "--split", "val"], "one.jsonl: no report for 1 of 1 studies of val, v first"),
        (["one.jsonl", "--prepared", "nowhere"], "nowhere/annotation.json: no such file"),
    ],
)
def test_a_mistake_is_one_line(texts, words, line):
    prepared = [] if "--prepared" in words else ["--prepared", "annotation.json"]
    done = CliRunner().invoke(app, ["view", *words, *prepared, "--out", "page.html"])
    assert str(done.exception).startswith(line) and "\n" not in str(done.exception)
    assert not Path("page.html").exists()


def drawn(page: str, script: str = "") -> str:
    """What a browser makes of the page after a script that acts as a person would."""
    Path("acted.html").write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *flags, Path("acted.html").absolute().as_uri()], capture_output=True, text=True)
    return re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S)


@needs_chromium
def test_a_browser_shows_what_differs_and_runs_nothing_of_a_report(texts):
    page, _ = made_page("one.jsonl", "--prepared", "annotation.json")
    found = drawn(page)
    assert re.findall(r'data-id="(\w+)"', found) == ["s0", "s1", "s2"]
    first = found[found.index('data-id="s0"') : found.index('data-id="s1"')]
    assert "<del>large</del>" in first and "<ins>normal</ins>" in first and first.count("<del>") == 1
    assert "= Pleural Effusion" in first and "− Cardiomegaly (missed)" in first
    assert "+ Fracture (invented)" in found and "<title>one.jsonl: 3 studies of test</title>" in found
    assert "<img" not in found


@needs_chromium
def test_a_browser_filters_searches_and_sorts(texts):
    page, data = made_page(*texts, "--prepared", "annotation.json")
    fracture = CONDITIONS.index("Fracture")
    act = "{0}.value = '{1}'; {0}.dispatchEvent(new Event('{2}'));"
    shown = {
        "missed:1": act.format("filter", f"missed:{CONDITIONS.index('Cardiomegaly')}", "change"),
        "invented": act.format("filter", f"invented:{fracture}", "change"),
        "search": act.format("search", "FRACTURE", "input"),
        "nothing": act.format("search", "zebra", "input"),
        "order": act.format("order", "0:1:-1", "change"),
        "key": "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'j'}));" * 2,
    }
    found = {name: drawn(page, script) for name, script in shown.items()}
    ids = {name: re.findall(r'data-id="(\w+)"', text) for name, text in found.items()}
    assert ids["missed:1"] == ["s0"] and ids["invented"] == ids["search"] == ["s1"] and ids["nothing"] == []
    rouge = [study["sides"][1]["scores"][0] for study in data["studies"]]
    assert ids["order"] == [f"s{row}" for row in np.argsort(rouge)[::-1]]
    assert "0 of 3 studies" in found["nothing"] and "No study is like that" in found["nothing"]
    assert re.search(r'<article[^>]*data-id="s1"[^>]*class="chosen"', found["key"])


@needs_chromium
def test_a_browser_draws_of_thousands_of_studies_those_in_sight(texts):
    _, data = made_page("one.jsonl", "--prepared", "annotation.json")
    data["studies"] = [{**data["studies"][0], "id": f"n{row}"} for row in range(4000)]
    found = drawn(view.page(data))
    assert 0 < found.count("<article") <= 200 and "4,000 of 4,000 studies" in found
