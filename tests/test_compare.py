"""`xpronet compare` decides which experiment is kept: it must pair the same studies, and say so where it cannot."""

import io
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from pycocoevalcap.bleu.bleu import Bleu
from rich.console import Console
from typer.testing import CliRunner

from xpronet.app import pictures
from xpronet.app import sides as reading
from xpronet.app.cli import app
from xpronet.app.compare import compare, show
from xpronet.app.sides import Side, read_side
from xpronet.app.written import parse_reports
from xpronet.data.studies import Study, write_annotation
from xpronet.evaluation import lexical
from xpronet.figures import reports, scores

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = ["The heart is large.", "No effusion.", "Small left effusion.", "The lungs are clear.", "No pneumothorax."]
CLEANED = [f"{text.lower()[:-1]} ." for text in FINDINGS]
POOR = ["no effusion ."] * 5


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with five test studies, three prediction files and the phantom's parameters."""
    folder = tmp_path_factory.mktemp("compare")
    studies = [
        Study(id=f"s{n}", split=split, image_path=["a.png"], report=FINDINGS[max(n - 2, 0)], state=None)
        for n, split in enumerate(["train", "val", *["test"] * 5])
    ]
    (folder / "data/prepared").mkdir(parents=True)
    write_annotation(folder / "data/prepared/annotation.json", studies)
    (folder / "params.yaml").write_text((ROOT / "presets/phantom.yaml").read_text())
    ids = [study.id for study in studies if study.split == "test"]
    for name in ("good", "other"):
        write(folder / f"{name}.jsonl", [{"id": id, "report": text} for id, text in zip(ids, CLEANED, strict=True)])
    write(
        folder / "poor.jsonl", [{"id": id, "predicted": {"report": text}} for id, text in zip(ids, POOR, strict=True)]
    )
    return folder


@pytest.fixture(autouse=True)
def _inside(made, monkeypatch):
    monkeypatch.chdir(made)


@pytest.fixture(scope="module")
def found(made, jar):
    """Two sides against a poor one; a Java for all the tests that look at it."""
    with pytest.MonkeyPatch.context() as inside:
        inside.chdir(made)
        inside.setattr(reading, "running_meteor", lambda: nullcontext(jar))
        return of("poor.jsonl", "good.jsonl", "other.jsonl")


def write(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def of(*names: str, **options):
    options = {"split": "test", "labels": "predicted", "by": "ROUGE_L", "params": Path("params.yaml"), **options}
    return compare(names, **options)


def test_the_scores_are_those_of_the_metrics_and_the_studies_are_named(found):
    each = found["comparisons"][0]
    without_java = SimpleNamespace(score=lambda references, hypotheses: (0.0, np.zeros(5)))
    for metric, value in lexical.score(CLEANED, POOR, meteor=without_java).items():
        if metric != "METEOR":
            assert each["metrics"][metric]["a"] == pytest.approx(value, abs=1e-9)
    rouge = each["metrics"]["ROUGE_L"]
    assert rouge["b"] == 1 and rouge["difference"] == pytest.approx(1 - rouge["a"])
    assert rouge["p"] == pytest.approx(2 / 2**4, abs=0.02)  # one of five studies is equal: 16 swaps, 2 as extreme
    assert each["moved"]["lost"] == [] and len(each["moved"]["gained"]) == 3
    assert "s3" not in [study["id"] for study in each["moved"]["gained"]]  # "no effusion ." is right there
    assert each["moved"]["gained"][0]["b"] == each["moved"]["gained"][0]["reference"]


@pytest.mark.parametrize("change", [str, str.upper, lambda text: text.replace(" ", "\n")])
def test_a_study_s_own_report_is_a_perfect_one_however_it_is_written(jar, monkeypatch, change):
    """Other models write raw text; held against cleaned references it would lose on every capital."""
    monkeypatch.setattr(reading, "running_meteor", lambda: nullcontext(jar))
    write(Path("own.jsonl"), [{"id": f"s{n}", "report": change(text)} for n, text in enumerate(FINDINGS, start=2)])
    rows = of("good.jsonl", "own.jsonl")["comparisons"][0]["metrics"]
    for metric in ("BLEU_1", "BLEU_4", "ROUGE_L", "example_F1"):
        assert rows[metric]["a"] == rows[metric]["b"] == pytest.approx(1, abs=1e-9)


def test_the_published_protocol_cuts_references_and_hides_rare_words(jar, monkeypatch):
    """Row 23: numbers to hold beside the paper's."""
    monkeypatch.setattr(reading, "running_meteor", lambda: nullcontext(jar))
    studies = [Study("t", "train", "Small effusion.", ["a.png"]), Study("v", "val", "Clear.", ["a.png"])]
    studies += [Study(f"s{n}", "test", "Small left effusion. Clear lungs.", ["a.png"]) for n in (1, 2)]
    Path("published/data/prepared").mkdir(parents=True)
    monkeypatch.chdir("published")
    write_annotation("data/prepared/annotation.json", studies)
    params = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    params["reports"] |= {"min_count": 1, "max_length": 5}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    for name, text in (("cut", "small <unk> effusion ."), ("whole", "small left effusion . clear lungs .")):
        write(Path(f"{name}.jsonl"), [{"id": id, "report": text} for id in ("s1", "s2")])
    full = of("cut.jsonl", "whole.jsonl")["comparisons"][0]
    published = of("cut.jsonl", "whole.jsonl", protocol="published")
    assert published["protocol"] == "published"
    published = published["comparisons"][0]
    cut, whole = published["metrics"]["BLEU_1"], full["metrics"]["BLEU_1"]
    assert (cut["a"], whole["b"]) == pytest.approx((1, 1), abs=1e-9)
    assert cut["b"] < 0.7 and whole["a"] < 0.7
    assert published["moved"]["lost"][0]["reference"] == published["moved"]["lost"][0]["a"] == "small <unk> effusion ."
    for metric in ("micro_F1_14", "macro_F1_14"):  # of whole references
        assert published["metrics"][metric] == full["metrics"][metric]


def test_several_are_each_held_against_the_first_and_corrected(found):
    assert [each["name"] for each in found["comparisons"]] == ["good.jsonl", "other.jsonl"]
    for each in found["comparisons"]:
        assert each["metrics"]["BLEU_1"]["p_holm"] == pytest.approx(min(1, 2 * each["metrics"]["BLEU_1"]["p"]))


def test_the_command_prints_a_table_and_writes_the_same_as_json(found, jar, monkeypatch):
    monkeypatch.setattr(reading, "running_meteor", lambda: nullcontext(jar))
    done = CliRunner().invoke(app, ["compare", "poor.jsonl", "good.jsonl", "other.jsonl", "--out", "c.json"])
    assert done.exit_code == 0, done.output
    assert "BLEU_4" in done.output and "gained most in ROUGE_L" in done.output
    assert "p < 0.05: so large" in done.output  # nothing is bold in a file
    for terminal, words in (("xterm", "p < 0.05 (bold): so large"), ("dumb", "p < 0.05: so large")):
        console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": terminal})
        show(found, console)
        assert words in console.file.getvalue().replace("\x1b[0m", "")
    assert json.loads(Path("c.json").read_text()) == found


def test_the_json_takes_no_folder_s_place():
    """Said before the minutes that a comparison takes."""
    done = CliRunner().invoke(app, ["compare", "poor.jsonl", "good.jsonl", "--out", "data"])
    assert str(done.exception) == "data: a folder: name the file in it"
    assert Path("data/prepared/annotation.json").is_file()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["good.jsonl"], "two or more different names, got: good.jsonl"),
        (["good.jsonl", "good.jsonl"], "two or more different names"),
        (["good.jsonl", "absent.jsonl"], "absent.jsonl: no such file of reports"),
        (["good.jsonl", "few.jsonl"], "few.jsonl: no report for 1 of 5 studies of test, s6 first"),
        (["good.jsonl", "strange.jsonl"], r"strange.jsonl: no report for any of 5 studies of test.*\(--split\)"),
        (["good.jsonl", "broken.jsonl"], "broken.jsonl: line 2: not JSON"),
        (["good.jsonl", "twice.jsonl"], "twice.jsonl: s2 stands in lines 1 and 6, with different values: keep one"),
        (["good.jsonl", "params.jsonl"], "params.jsonl: line 1: expected"),
        (["good.jsonl", "experiment"], "experiment: no file of reports .* `dvc exp show` lists the experiments"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(names, message):
    lines = Path("good.jsonl").read_text().splitlines(keepends=True)
    Path("few.jsonl").write_text("".join(lines[:-1]))
    Path("strange.jsonl").write_text('{"id": "s1", "report": "of train"}\n')
    Path("broken.jsonl").write_text(lines[0] + "{")
    Path("twice.jsonl").write_text("".join(lines) + '{"id": "s2", "report": "other ."}\n')
    Path("params.jsonl").write_text('{"id": "s2", "report": 3}\n')
    with pytest.raises(ValueError, match=message) as error:
        of(*names)
    assert "\n" not in str(error.value)


IDS, TEXTS = ["s2", "s3", "s4"], ["Clear.", "Large heart.", "No effusion."]


@pytest.mark.parametrize(
    ("ids", "references", "same"),
    [
        (IDS, [*TEXTS[:2], "An effusion."], 2),  # another phantom under the same ids
        (IDS, TEXTS[::-1], 1),
        ([*IDS[:2], "s5"], TEXTS, 2),
        (IDS[::-1], TEXTS[::-1], 3),
        (IDS[:2], TEXTS[:2], 2),
    ],
)
def test_other_studies_are_refused_though_their_ids_be_the_same(monkeypatch, ids, references, same):
    """Two experiments on other data would be compared study by study, and the difference would mean nothing."""
    sides = {"a": Side("a", IDS, TEXTS, TEXTS), "b": Side("b", ids, references, references)}
    monkeypatch.setattr("xpronet.app.sides.read_side", lambda name, split, labels: sides[name])
    with pytest.raises(ValueError, match=f"a and b share {same} of 3 and {len(ids)} studies of test") as error:
        of("a", "b")
    assert "\n" not in str(error.value)


def test_a_file_of_predictions_may_begin_with_a_byte_order_mark():
    Path("marked.jsonl").write_bytes(b"\xef\xbb\xbf" + Path("good.jsonl").read_bytes())
    assert read_side("marked.jsonl", "test", "predicted").written == CLEANED


def test_a_side_may_be_a_csv_table_as_for_score():
    rows = [json.loads(line) for line in Path("good.jsonl").read_text().splitlines()]
    Path("good.csv").write_text("".join(["id,text\n", *(f"{row['id']},{row['report']}\n" for row in rows)]))
    side = read_side("good.csv", "test", "predicted")
    assert side.written == CLEANED and side.raw


def test_a_report_may_hold_any_line_break():
    """U+2028 stands as itself in JSON: it ends no line of the file."""
    line = '{"id": "s2", "report": "no\u2028effusion ."}\n'
    assert parse_reports("other.jsonl", line * 2, labels="predicted") == {"s2": "no\u2028effusion ."}


def test_parameters_that_are_not_whole_are_named():
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["labels"]["uncertain"] = "maybe"
    Path("wrong.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(ValueError, match="wrong.yaml: labels.uncertain = 'maybe': "):
        of("poor.jsonl", "good.jsonl", params=Path("wrong.yaml"))


# figures


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, by the name of its file, instead of pictures; and no Java."""
    monkeypatch.setattr(reading, "running_meteor", lambda: nullcontext(no_meteor()))
    found = {}
    for module, name in ((reports, "side_by_side"), (scores, "scores"), (scores, "curves")):
        monkeypatch.setattr(module, name, lambda path, *what: found.update({path.name: what}))
    return found


def draw(*names: str) -> list[str]:
    return pictures.figures(names, split="test", labels="predicted", params=Path("params.yaml"), out=Path("out"))


def test_reports_stand_under_the_name_of_their_side(drawn):
    """Two columns exchanged would show the worse model as the better one."""
    assert "out/scores.png and .svg: scores of 2 sets of reports" in draw("poor.jsonl", "good.jsonl")
    title, columns, examples = drawn["reports"]
    assert columns == ("poor.jsonl", "good.jsonl") and "a good report of poor.jsonl" in title
    for example in examples:
        assert example.written == [POOR[0], example.reference] and example.reference in CLEANED
    _, found = drawn["scores"]
    for name, texts in (("poor.jsonl", POOR), ("good.jsonl", CLEANED)):
        value, low, high = found[name]["BLEU_4"]
        both = ({row: [text] for row, text in enumerate(each)} for each in (CLEANED, texts))
        assert value == pytest.approx(Bleu(4).compute_score(*both, verbose=0)[0][3])
        assert low <= value <= high
    assert found["good.jsonl"]["micro_F1_14"][0] == 1 > found["poor.jsonl"]["micro_F1_14"][0]


def no_meteor() -> SimpleNamespace:
    return SimpleNamespace(statistics=lambda references, hypotheses: np.ones((len(hypotheses), 23)))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([{"gamma": 5}, {"gamma": 10, "seed": 2}, {"gamma": 5, "seed": 3}], ("gamma", [5, 10, 5])),
        ([{"train": {"lr": 0.1}}, {"train": {"lr": 0.2}}], ("train.lr", [0.1, 0.2])),
        ([{"gamma": 5}, {"gamma": 10, "theta": 2}], None),
        ([{"cmpnet": True}, {"cmpnet": False}], None),
        ([{"seed": 1}, {"seed": 2, "runtime": {"workers": 3}}], None),
    ],
)
def test_a_sweep_is_recognised(changes, found, monkeypatch):
    """Else its scores are rows without an order."""
    base = {"seed": 1, "gamma": 10, "theta": 1, "cmpnet": True, "train": {"lr": 1}, "runtime": {"workers": 0}}
    params = {f"run-{number}": {**base, **each} for number, each in enumerate(changes)}
    monkeypatch.setattr(pictures.dvc.api, "params_show", lambda rev: params[rev])
    assert pictures.the_parameter(list(params)) == found
    assert pictures.the_parameter([*params, "other.jsonl"]) is None


def test_without_a_repository_there_are_no_parameters_to_compare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="^workspace: no parameters .* in the pipeline's folder$"):
        pictures.the_parameter(["workspace"])


def test_scores_are_drawn_at_their_value_with_their_interval(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: (saved.append(self), path.touch()))
    found = [dict.fromkeys(scores.SHOWN, (value, value - 0.1, value + 0.2)) for value in (0.4, 0.3, 0.5)]
    scores.scores(tmp_path / "scores", "title", dict(zip("abc", found, strict=True)))
    scores.curves(tmp_path / "curves", "title", "gamma", [5, 1, 5], found)
    rows, curve = saved[0].axes[0], saved[2].axes[0]
    assert [label.get_text() for label in rows.get_yticklabels()] == ["a", "b", "c"]
    assert list(rows.lines[0].get_xdata()) == [0.4, 0.3, 0.5]
    assert list(curve.lines[0].get_xdata()) == [1, 5] and list(curve.lines[0].get_ydata()) == pytest.approx([0.3, 0.45])
    ends = [tuple(segment[:, 1]) for segment in curve.collections[0].get_segments()]
    assert ends == [pytest.approx((value - 0.1, value + 0.2)) for value in (0.4, 0.3, 0.5)]


def test_the_command_draws_and_says_where(drawn):
    done = CliRunner().invoke(app, ["figures", "good.jsonl", "--out", "out"])
    assert done.exit_code == 0 and "out/reports.png and .svg: reports of good.jsonl" in done.output
    assert "one or more different names, got: a a" in str(CliRunner().invoke(app, ["figures", "a", "a"]).exception)
