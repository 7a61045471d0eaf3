"""What the pages speak of is there: files, links, parameters, commands, keys of the metrics. Readers type it."""

import ast
import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image

from docs import make
from stages.check import Params
from xpronet.app.cli import app
from xpronet.app.radiograph import read_radiograph
from xpronet.classifier.calibration import quality
from xpronet.common.params import validate
from xpronet.data.reports import Vocabulary
from xpronet.data.studies import of_split, read_annotation
from xpronet.evaluation.lexical import METRICS
from xpronet.evaluation.statistics import groups_of
from xpronet.evaluation.summary import compared, summarise
from xpronet.labels.conditions import CONDITIONS
from xpronet.model import checkpoint
from xpronet.model.losses import Losses
from xpronet.model.xpronet import ModelConfig, XProNet

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def parts(page: Path) -> tuple[list[str], list[str]]:
    """What stands between backticks in running text, and the lines of code blocks, which are indented or fenced."""
    text = page.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    code = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)], [*code, *"\n".join(fenced).splitlines()]


def commands(page: Path, program: str) -> list[list[str]]:
    """The words that follow a program's name wherever the page would have it typed."""
    spans, code = parts(page)
    found = []
    for line in [*spans, *code]:
        for command in re.split(r"&&|;", line.partition("  #")[0]):
            command = re.sub(r"^\s*([A-Z_]+=\S+\s+)*", "", command)  # XPRONET_DEBUG=1 python …
            if command == program or command.startswith(f"{program} "):
                found.append(shlex.split(command.replace("…", "").removeprefix(program)))
    return found


@pytest.mark.usefixtures("committed")
def test_generated_pages_are_those_of_this_code():
    """Else parameters.md describes another version, and the equations point beside their lines: run `make docs`."""
    for path, text in make.pages().items():
        assert path.read_text() == text, f"{path.name} is not up to date: run `make docs`"


def test_every_equation_of_the_paper_has_its_line():
    assert {line.equation for line in make.EQUATIONS} == set(range(1, 21))


@pytest.mark.parametrize("text", ["queries @ keys", "return self.out("])
def test_an_equation_whose_line_is_gone_or_silent_is_an_error(text, monkeypatch):
    """A line number that is found by chance would send a reader to another equation."""
    assert make.equations()
    text = text if text == "return self.out(" else "no such line"
    monkeypatch.setattr(make, "EQUATIONS", [make.Line(10, "similarities", "xpronet/model/memory.py", text)])
    with pytest.raises(ValueError, match="Eq. 10"):
        make.equations()


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, place = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if place and file.suffix == ".md":
            assert place in {anchor(title) for title in re.findall(r"^#+ (.*)$", file.read_text(), re.M)}, target
        elif place:
            assert int(place.removeprefix("L")) <= len(file.read_text().splitlines()), target


def braces(path: str) -> list[str]:
    """a/{b,c}.json -> a/b.json, a/c.json"""
    before, brace, rest = path.partition("{")
    if not brace:
        return [path]
    inside, _, after = rest.partition("}")
    return [f"{before}{each}{after}" for each in inside.split(",")]


@pages
def test_named_files_are_there_or_are_written(page):
    """Files of the library also by their place in it, as in the table of paper and code, and tests by their name."""
    tops = {path.name for path in ROOT.iterdir()} - {"data", "metrics", ".dvc", ".resume"}  # what runs write in
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for stage in PIPELINE["stages"].values()
        for kind in ("outs", "metrics", "plots")
        for out in stage.get(kind, ())
    ]
    outs += [plot for plot in PIPELINE["plots"] if isinstance(plot, str)]  # pictures within a folder
    code = [path for room in ("xpronet", "stages", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    sources = "".join(path.read_text() for path in code)
    for span in parts(page)[0]:
        if not re.fullmatch(r"[\w./{},*-]+", span):
            continue
        for path in braces(span):
            top, slash, _ = path.partition("/")
            if (slash and top in tops) or path.endswith((".py", ".md", ".toml")) or path in ("dvc.yaml", "params.yaml"):
                rooms = (".", "xpronet", "xpronet/data", "tests", "docs")
                there = any((ROOT / room / path).exists() for room in rooms)
                assert there or path in sources, f"{path}: no such file"
            elif top in ("data", "metrics") and slash and not path.startswith("data/raw"):
                written = any(f"{out}/".startswith(path) or Path(out).match(path) for out in outs)
                assert written or path.rstrip("/") in sources, f"{path}: written by nothing"


def keys() -> set[str]:
    """Every key of params.yaml: `gamma`, `train`, `train.lr`."""
    found = set(Params.model_fields)
    for name, field in Params.model_fields.items():
        found |= {f"{name}.{key}" for key in getattr(field.annotation, "model_fields", ())}
    return found


@pages
def test_named_parameters_exist(page):
    spans, code = parts(page)
    groups = [name for name in keys() if "." not in name and any(key.startswith(f"{name}.") for key in keys())]
    files = r"(?!(csv|json|jsonl|tsv|npy|pickle|py|u8)\b)"
    for span in spans:
        found = re.match(rf"({'|'.join(groups)})\.{files}(\w+)", span)
        assert not found or found.group() in keys(), span
    for line in [*spans, *code]:
        for key in re.findall(r"(?:-S|--set-param) '?([a-z][\w.]*)=", line):
            assert key in keys(), line


@pages
def test_named_commands_exist(page):
    """With their options; stages too."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for words in commands(page, "make"):
        assert words[0] in targets, f"make {words[0]}"
    ours = typer.main.get_command(app).commands
    for words in filter(None, commands(page, "xpronet")):  # the bare name is not typed
        if words == ["--install-completion"]:  # typer's own
            continue
        assert words[0] in ours, f"xpronet {words[0]}"
        options = {option for parameter in ours[words[0]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words
    for words in commands(page, "python -m"):
        if words[0] != "stages.NAME" and not words[0].endswith("."):
            assert importlib.util.find_spec(words[0]), f"python -m {words[0]}"
    for program in ("dvc repro", "dvc exp run"):
        for words in commands(page, program):
            named = [word for word, before in zip(words, ["", *words], strict=False) if before not in ("-S", "-n")]
            assert {word for word in named if not word.startswith("-")} <= set(PIPELINE["stages"]), words


def test_every_command_s_help_ends_with_an_example_of_it():
    """And the program's own; with options that there are."""
    top = typer.main.get_command(app)
    for name, command in [(None, top), *top.commands.items()]:
        example = re.fullmatch(r"Example: (?:.* && )?xpronet (.*)", command.epilog or "")
        assert example, name
        first, *words = shlex.split(example[1])
        assert name in (first, None)
        options = {option for parameter in top.commands[first].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, words


def strings(*modules: str) -> set[str]:
    """Every text in the source of modules as a pattern: f"{split}_studies" is .+_studies."""
    found = set()
    for module in modules:
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                fixed = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                if any(fixed):
                    found.add("".join(".+" if text is None else re.escape(text) for text in fixed))
    return found


def every_key(content) -> set[str]:
    if not isinstance(content, dict):
        return set()
    return set(content).union(*map(every_key, content.values()))


@pytest.fixture(scope="module")
def details():
    """What evaluation writes of three studies, METEOR's Java process aside."""
    references = ["no effusion . heart is large . a tube .", "no effusion .", "lungs are clear . no effusion ."]
    labels = np.eye(14, dtype=np.float32)[[1, 13, 13]]
    written = dict.fromkeys(("predicted", "reference", "none"), references[::-1])
    scores, _ = summarise(
        references,
        written,
        floors={"constant": references[:1] * 3},
        groups=groups_of(labels, references, {references[1]}),
        label=lambda texts: labels,
        truth=("the drawn state", labels),
        meteor=SimpleNamespace(statistics=lambda references, hypotheses: np.ones((3, 23))),
    )
    for source in written:
        scores[source]["cross_entropy"] = 1.0
    return scores


def rows(page: Path) -> list[list[str]]:
    """First cells of the tables that have keys in them."""
    cells = re.findall(r"^\| ((?:`[^`|]+`(?:, …)?(?:, )?)+) \|", page.read_text(), re.M)
    return [re.findall(r"`([^`]+)`", cell) for cell in cells]


def test_the_readme_names_every_stage_in_its_order():
    """Else the first picture of the pipeline is of another one."""
    (drawn,) = re.findall(r"^    (check ─ .*)$", (ROOT / "README.md").read_text(), re.M)
    assert drawn.split(" ─ ") == list(PIPELINE["stages"])


@pytest.mark.usefixtures("committed")
def test_what_dvc_compares_can_be_read_at_a_glance():
    """Its table has a column per number: what nobody compares belongs to metrics/details."""
    listed = [path for stage in PIPELINE["stages"].values() for each in stage.get("metrics", ()) for path in each]
    numbers = [json.loads((ROOT / path).read_text()) for path in listed]
    assert len(numbers) == 6 and sum(map(len, numbers)) <= 40


def test_documented_metrics_are_written(details):
    classifier = quality(np.eye(14)[[0, 1]], np.eye(14)[[0, 1]], np.eye(14)[[0, 1]])
    written = every_key(details) | set(compared(details)) | every_key(classifier) | set(Losses._fields)
    written |= {f"val_{metric}" for metric in METRICS}
    patterns = strings(
        *(
            f"stages/{name}.py"
            for name in ("prepare", "label", "templates", "classify", "prototypes", "train", "evaluate")
        ),
        *("xpronet/classifier/fit.py", "xpronet/prototypes/kmeans.py", "xpronet/training/loop.py"),
        *("xpronet/evaluation/extras.py", "xpronet/evaluation/floors.py"),
    )
    documented = [key for row in rows(ROOT / "docs/metrics.md") for key in row]
    assert len(documented) > 80
    unknown = [key for key in documented if key not in written and not any(re.fullmatch(p, key) for p in patterns)]
    assert not unknown


def test_the_numbers_to_compare_are_those_of_the_first_table(details):
    page = (ROOT / "docs/metrics.md").read_text()
    table = page.partition("## `metrics/val.json`")[2].partition("\n## ")[0]
    first = re.findall(r"^\| (.*?) \|", table, re.M)[1:]  # after the head
    assert {key for cell in first for key in re.findall(r"`([^`]+)`", cell)} == set(compared(details))


def test_written_metrics_are_documented(details):
    """A number that nobody explains is read as one likes."""
    text = (ROOT / "docs/metrics.md").read_text()
    named = set(re.findall(r"`([^`]+)`", text))
    wanted = set(compared(details)) | set(details) | set(details["predicted"]) | set(details["strata"])
    for path in (ROOT / "stages").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            call = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "write_json"
            variable = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("metrics", "details")
            if (call and "metrics/" in ast.unparse(node.args[0])) or variable:
                dicts = [each for each in ast.walk(node) if isinstance(each, ast.Dict)]
                wanted |= {key.value for each in dicts for key in each.keys if isinstance(key, ast.Constant)}
    assert {"left_out", "labels_per_study", "epochs", "init", "labeller"} <= wanted  # they are found there
    assert not wanted - named - set(CONDITIONS)


def test_the_library_page_names_every_room():
    rooms = {path.parent.name for path in (ROOT / "xpronet").glob("*/__init__.py")}
    assert {key for row in rows(ROOT / "docs/library.md") for key in row} >= rooms


def test_the_library_page_names_what_a_model_folder_says():
    card = {*checkpoint.ModelCard.__dataclass_fields__, "sizes"}
    assert {key for row in rows(ROOT / "docs/library.md") for key in row} >= card


def python_of(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    return compile(code, page, "exec")


@pytest.mark.parametrize(("page", "reports"), [("README.md", 1), ("docs/library.md", 3)])
def test_the_python_of_the_pages_runs(tmp_path, monkeypatch, capsys, page, reports):
    monkeypatch.chdir(tmp_path)
    vocabulary = Vocabulary(["<unk>", "clear", "lungs"])
    config = ModelConfig(vocab_size=3, backbone="resnet18", d_model=16, d_ff=16, heads=2, layers=1, n_prototypes=2)
    torch.manual_seed(0)
    card = checkpoint.ModelCard(vocabulary, CONDITIONS, "iu_xray", crop=64, beam_size=2, max_length=5)
    checkpoint.save("data/model", XProNet(config), card)
    for name in ("frontal", "lateral"):
        pixels = np.random.default_rng(0).integers(0, 200, (80, 90), np.uint8)
        Image.fromarray(pixels).save(f"{name}.png")
    exec(python_of(page), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == reports
    assert all({*line.partition("-")[0].split()} <= set(vocabulary.tokens) for line in lines)


def test_the_python_that_draws_phantoms_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(python_of("docs/generate.md"), {})
    assert len(list(Path("phantoms").glob("*/frontal.png"))) == 5
    assert not any(read_radiograph(path, size=96)[1] for path in Path("phantoms").glob("*/*.png"))


def test_the_tutorial_s_dataset_is_one(tmp_path, monkeypatch):
    """And the study that it generates a report for is of the test split."""
    monkeypatch.chdir(tmp_path)
    exec(python_of("docs/tutorial.md"), {})
    studies = read_annotation("data/raw/mine/annotation.json")
    assert [len(of_split(studies, split)) for split in ("train", "val", "test")] == [24, 6, 6]
    assert all(Path("data/raw/mine/images", path).is_file() for study in studies for path in study.image_path)
    (words,) = [words for words in commands(ROOT / "docs/tutorial.md", "xpronet") if words[0] == "generate"]
    assert Path(words[1]).is_dir() and Path(words[1]).name in {study.id for study in of_split(studies, "test")}


def test_the_tutorial_s_parameters_pass():
    params = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    (words,) = commands(ROOT / "docs/tutorial.md", "dvc exp run")
    for change in (word for word, before in zip(words[1:], words, strict=False) if before == "-S"):
        key, _, value = change.partition("=")
        group, _, name = key.rpartition(".")
        (params[group] if group else params)[name] = yaml.safe_load(value)
    validate(Params, params)


@pytest.fixture
def committed() -> None:
    """An experiment leaves its metrics in the folder: the pages are of those in git."""
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "metrics"], cwd=ROOT).returncode == 1:
        pytest.skip("metrics/ is of another run than the commit's")


@pytest.mark.usefixtures("committed")
def test_the_comparison_in_the_readme_is_with_the_scores_in_git():
    """Its columns would else be of models that nobody has any more."""
    rows = re.findall(r"^    metrics/test\.json  (\w+) +(\S+) +(\S+) +(\S+)$", (ROOT / "README.md").read_text(), re.M)
    scores = json.loads((ROOT / "metrics/test.json").read_text())
    study = json.loads((ROOT / "docs/ablations.json").read_text())["whole"]["rows"]["whole-wo-cmpnet"]
    assert len({name for name, *_ in rows} & {*study}) > 5
    for name, head, other, change in rows:
        if name in study:
            assert float(other) == pytest.approx(study[name]["seeds"][0], abs=5e-4), name
        assert float(head) == pytest.approx(scores[name], abs=5e-6), name
        assert float(other) - float(head) == pytest.approx(float(change), abs=1.1e-5), name


@pytest.mark.usefixtures("committed")
def test_the_readme_says_whether_the_model_is_above_every_floor():
    details = json.loads((ROOT / "metrics/details/test.json").read_text())
    shown = ("BLEU_4", "CIDEr", "micro_F1_14", "macro_F1_14")
    above = all(details["predicted"][name] > floor[name] for floor in details["floors"].values() for name in shown)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert above == ("The model is above every floor in BLEU_4, CIDEr, micro and macro F1." in readme)
    lows = {name: details["predicted"]["intervals"][name][0] for name in ("BLEU_4", "micro_F1_14")}
    clear = all(lows[name] > floor[name] for floor in details["floors"].values() for name in lows)
    assert clear == ("Every floor's BLEU_4 and micro F1 lie below the model's intervals." in readme)
    nearly_all = details["reference"]["micro_F1_14"] > 0.95
    assert nearly_all == ("Under reference labels it names nearly all that it is told" in readme)
