"""The study behind docs/ablations.md: the right experiments, run once, and tables that say what they found."""

import json
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from scipy import stats

from experiments import study
from experiments.ablations import __main__ as command
from experiments.ablations.analysis import LOOKS, analyse
from experiments.ablations.page import PAPER, PAPER_CONSTANT, PAPER_SWEEPS, TITLES, tables
from experiments.ablations.picture import draw
from experiments.ablations.runs import FULL, ROWS, plan
from experiments.floors import FLOORS
from experiments.markdown import BEGIN, END, put_between
from experiments.results import SHOWN
from experiments.runs import is_done, run_all, seeds_of
from stages.check import Params
from xpronet.app import sides
from xpronet.common.params import validate
from xpronet.data.reports import clean_report
from xpronet.data.studies import Study, write_annotation
from xpronet.evaluation import paired, statistics
from xpronet.evaluation.statistics import Table
from xpronet.labels import agreement

ROOT = Path(__file__).resolve().parents[1]


def test_seeds_are_whole_numbers_between_commas():
    assert (seeds_of("1, 2,3"), seeds_of("")) == ([1, 2, 3], [])
    with pytest.raises(ValueError, match="^seeds '1;2': whole numbers with commas between them, as 1,2,3$"):
        seeds_of("1;2")


def table(seed: int, shift: float, studies: int = 50) -> Table:
    """Made-up sums of the same studies under several seeds."""
    random, truth = np.random.default_rng([seed, int(1000 * shift)]), np.random.default_rng(0).random((studies, 14))
    matches = np.sort(random.integers(1, 12, (studies, 4)), axis=1)[:, ::-1]
    return Table(
        bleu=np.concatenate([matches, np.tile([20, 19, 18, 17, 20, 20], (studies, 1))], axis=1).astype(float),
        meteor=np.tile([20.0, 20, 9, 9, 5, 5, 5, 5, *[0.0] * 12, 4, 10, 10], (studies, 1)),
        means=random.random((studies, 3)) + shift,
        hits=agreement.hits(truth < 0.4, (truth < 0.4) ^ (random.random((studies, 14)) < 0.3 - shift)),
    )


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Table]]:
    return {row: [table(seed, 0.2 - 0.06 * n) for seed in (1, 2, 3)] for n, row in enumerate(ROWS)}


def test_every_run_is_a_valid_set_of_parameters_with_a_name_of_its_own():
    """A sweep over a value that the preset has already, or that is refused, would cost a night."""
    preset = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    runs = plan([1, 2, 3], [1, 2, 3], [1, 2, 3])
    assert len({run.name for run in runs}) == len(runs) == 3 * (4 + 3 + 3 + 2)
    seen = set()
    for run in runs:
        params = {**preset, "train": dict(preset["train"])}
        for change in (f"seed={run.seed}", *run.changes):
            key, value = change.split("=")
            group, key = (params["train"], key.removeprefix("train.")) if key.startswith("train.") else (params, key)
            assert key in group
            group[key] = yaml.safe_load(value)
        validate(Params, params)
        seen.add(yaml.safe_dump(params))
    assert len(seen) == len(runs)


def test_means_and_deviations_are_numpy_s(rows):
    found = study.scores_of(rows[FULL])["BLEU_4"]
    expected = [statistics.of_all(each)["BLEU_4"] for each in rows[FULL]]
    assert found == {
        "mean": pytest.approx(np.mean(expected)),
        "deviation": pytest.approx(np.std(expected, ddof=1)),
        "seeds": pytest.approx(expected),
    }
    assert study.summary([0.5]) == {"mean": 0.5, "deviation": None, "seeds": [0.5]}


def test_differences_have_both_tests(rows):
    """Over seeds SciPy's paired t-test, over studies the randomisation of all of them, corrected for three rows."""
    found = study.against(rows, FULL, seed=1)
    assert list(found) == ["wo-pi", "wo-imlcs", "wo-cmpnet"]
    one = found["wo-pi"]["ROUGE_L"]
    full, row = ([each.means[:, 0].mean() for each in rows[name]] for name in (FULL, "wo-pi"))
    assert one["seeds"] == pytest.approx(np.subtract(row, full))
    assert one["p_seeds"] == pytest.approx(stats.ttest_rel(row, full).pvalue)
    gain = np.mean([b.means[:, 0] - a.means[:, 0] for a, b in zip(rows[FULL], rows["wo-pi"], strict=True)], axis=0)
    random = np.random.default_rng(5)  # a study's reports of all seeds are exchanged or drawn together
    swapped = np.abs(random.choice([-1, 1], (20_000, len(gain))) @ gain)
    assert one["p_studies"] == pytest.approx((swapped >= abs(gain.sum()) - 1e-9).mean(), abs=0.02)
    drawn = random.choice(gain, (20_000, len(gain))).mean(axis=1)
    assert one["interval"] == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.01)
    p = [found[name]["ROUGE_L"]["p_studies"] for name in found]
    assert [found[name]["ROUGE_L"]["p_studies_holm"] for name in found] == paired.holm(p)


def test_an_interval_is_that_of_the_t_test():
    values = [0.2, 0.5, 0.3]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert study.interval(values) == pytest.approx((expected.low, expected.high))
    assert study.interval([0.5]) is None


def test_a_study_is_drawn_again_without_any_run(rows, tmp_path, monkeypatch):
    """A mended picture would else cost two hours."""
    monkeypatch.setattr(command, "run_all", lambda runs: pytest.fail("runs were started"))
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\n{END}\n")
    page.with_suffix(".json").write_text(json.dumps(result_of(rows)))
    command.main(page=page, redraw=True)
    assert "### Beside the paper" in page.read_text()
    assert page.with_suffix(".png").stat().st_size > 10_000 < page.with_suffix(".svg").stat().st_size


def test_the_tables_in_docs_are_of_the_numbers_in_docs(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "draw", lambda *values: None)
    pages = [ROOT / "docs/ablations.md", ROOT / "docs/ablations.json"]
    for path in pages:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command.main(page=tmp_path / "ablations.md", redraw=True)
    assert (tmp_path / "ablations.md").read_text() == pages[0].read_text()


def test_equal_seeds_are_no_evidence_and_equal_differences_are():
    assert (
        study.against({"full": [table(1, 0.1)], "same": [table(1, 0.1)]}, "full", seed=1)["same"]["BLEU_1"]["p_seeds"]
        is None
    )
    both = [table(1, 0.1), table(2, 0.1)]
    assert study.against({"full": both, "same": both}, "full", seed=1)["same"]["BLEU_1"]["p_seeds"] == 1


def result_of(rows: dict[str, list[Table]]) -> dict:
    floor = {metric: study.summary([0.1, 0.2, 0.3]) for metric in SHOWN}
    swept = {FULL: rows[FULL], "1": rows["wo-pi"], "15": rows["wo-imlcs"]}
    whole = {"whole": rows[FULL], "whole-wo-cmpnet": rows["wo-cmpnet"]}
    looks = {name: study.summary([0.1 * n, 0.1 * n + 0.1, 0.1 * n + 0.2]) for n, name in enumerate(LOOKS)}
    looks |= {"distinct_reports": study.summary([5, 14, 29]), "same_side": study.summary([0.5, None, 0.5])}
    return {
        "labeller": "rules",
        "seeds": [1, 2, 3],
        "studies": 50,
        "steps": 1250,
        "rows": {row: study.scores_of(each) for row, each in rows.items()},
        "looks": dict.fromkeys(rows, looks),
        "against_full": study.against(rows, FULL, seed=1),
        "floors": dict.fromkeys(FLOORS, floor),
        "leak_delta": floor,
        "sweeps": {
            "gamma": {
                "full": 10,
                "seeds": [1, 2, 3],
                "values": {name: study.scores_of(each) for name, each in swept.items()},
                "against_full": study.against(swept, FULL, seed=1),
            }
        },
        "whole": {
            "seeds": [1, 2, 3],
            "steps": 5000,
            "rows": {row: study.scores_of(each) for row, each in whole.items()},
            "intervals": [dict.fromkeys(SHOWN, [0.2, 0.3])] * 3,
            "best_floors": [dict.fromkeys(SHOWN, floor) for floor in (0.1, 0.2, 0.25)],
            "against_full": study.against(whole, "whole", seed=1),
        },
    }


def test_the_page_gets_the_tables_and_keeps_its_prose(rows, tmp_path):
    result = result_of(rows)
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    put_between(page, tables(result))
    text = page.read_text()
    assert text.startswith("Before.\n") and text.endswith("After.\n") and "\nold\n" not in text
    mean, pi = (result["rows"][row]["BLEU_4"]["mean"] for row in (FULL, "wo-pi"))
    assert f"| w/o PI | {pi:.3f} ({pi / mean - 1:+.1%}) | 0.160 (-19.6%) | 0.100 (-4.8%) |" in text
    assert "seeds of training: 1, 2, 3; 1,250 steps" in text and "γ (the preset has 10), seeds 1, 2, 3:" in text
    looks = "| 0.100 ± 0.100 | 5, 14, 29 | – | 0.400 ± 0.100 | 0.500 ± 0.100 |"
    assert text.count(looks) == len(ROWS)
    assert "| *constant report* (floor) | 0.200 ± 0.100 |" in text
    gammas = [line.split(" | ")[0] for line in text.splitlines() if line.startswith(("| 1 ", "| 10 ", "| 15 "))]
    assert gammas == ["| 1", "| 10", "| 15"]  # by value, the full model's among them
    assert "The paper: Figure 5, IU-Xray: best at 15" in text
    assert "; 0.0001 / < 0.01 |" in text and "/ 0.00" not in text
    first, second, third = result["rows"][FULL]["BLEU_4"]["seeds"]
    assert f"| XProNet, seed 1 | **{first:.3f}** [0.200, 0.300] |" in text  # the whole interval above the floor
    assert f"| XProNet, seed 2 | {second:.3f} [0.200, 0.300] |" in text  # its end no more than the floor
    assert f"| XProNet, seed 3 | {third:.3f} [0.200, 0.300] |" in text and "| *its best floor* | 0.250 |" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no lines <!-- study: begin"):
        put_between(page, "")


@pytest.mark.parametrize("swept", [True, False], ids=["with sweeps", "without"])
def test_the_picture_shows_means_and_their_intervals(rows, tmp_path, monkeypatch, swept):
    paper = {name: dict.fromkeys(ROWS, 0.1) for name in PAPER}
    result = result_of(rows) if swept else {**result_of(rows), "sweeps": {}}
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: (saved.append(self), path.touch()))
    draw(tmp_path / "a", result, paper, PAPER_SWEEPS, PAPER_CONSTANT, TITLES)
    bars, _, _, _, *sweeps = saved[0].axes
    seeds = [each["BLEU_4"]["seeds"] for each in result["rows"].values()]
    assert [bar.get_width() for bar in bars.patches[: len(ROWS)]] == pytest.approx([np.mean(each) for each in seeds])
    ends = [tuple(lines.get_segments()[0][:, 0]) for lines in bars.collections[::3][: len(ROWS)]]
    assert ends == [pytest.approx(study.interval(each)) for each in seeds]
    assert len(sweeps) == swept
    if not swept:
        return
    means = [np.mean(result["sweeps"]["gamma"]["values"][name]["BLEU_4"]["seeds"]) for name in ("1", FULL, "15")]
    line = sweeps[0].lines[0]
    assert list(line.get_xdata()) == [1, 10, 15] and list(line.get_ydata()) == pytest.approx(means)


FINDINGS = {"a": "The heart is large.", "b": "Cardiac size is increased."}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A DVC repository with made-up runs as tags: half of the reports of w/o CMPNet are another study's."""
    folder = tmp_path_factory.mktemp("runs")
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 6
    own = {f"s{n}": "ab"[n % 2] for n in range(len(splits))}
    studies = [
        Study(id=id, split=split, image_path=["a.png"], report=FINDINGS[which], state={"observations": []})
        for split, (id, which) in zip(splits, own.items(), strict=True)
    ]
    for name in ("data/prepared", "data/predictions", "metrics/details"):
        (folder / name).mkdir(parents=True)
    write_annotation(folder / "data/prepared/annotation.json", studies)
    git(folder, "init", "--quiet")
    subprocess.run(["dvc", "init", "--quiet"], cwd=folder, check=True)
    (folder / "dvc.yaml").write_text("params: [params.yaml]\n")
    preset = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
    scores = dict.fromkeys(SHOWN, 0.5)
    for number, run in enumerate(plan([1], [1], [1])):
        length = {"epochs": 5 if run.row.startswith("whole") else 2, "batch_size": 300}
        params = {**preset, "train": {**preset["train"], **length}}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        wrong = {"s6", "s7", "s8"} if run.row.endswith("wo-cmpnet") else set()
        reports = {
            id: clean_report(FINDINGS["ab".replace(which, "") if id in wrong else which], "iu_xray")
            for id, which in own.items()
        }
        lines = [json.dumps({"id": id, "predicted": {"report": report}}) for id, report in reports.items()]
        (folder / "data/predictions/test.jsonl").write_text("\n".join(lines) + "\n")
        metrics = {
            "predicted": {
                "cross_entropy": number,
                "distinct_reports": 2,
                "same_side": 0.5,
                "intervals": dict.fromkeys(SHOWN, [0.4, number]),
                **scores,
            },
            "floors": {floor: dict.fromkeys(SHOWN, 0.5 - place / 10) for place, floor in enumerate(FLOORS)},
            "leak_delta": scores,
        }
        strata = {
            name: {"BLEU_4": number + 0.25, "CIDEr": number + 0.5} for name in ("with_findings", "without_findings")
        }
        (folder / "metrics/details/test.json").write_text(json.dumps({**metrics, "strata": strata}))
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "-m", run.name)
        git(folder, "tag", run.name)
    return folder


def test_the_study_reads_each_run_s_own_files(runs, monkeypatch):
    """A row that got another run's scores would be a table that nobody can doubt by looking at it."""
    monkeypatch.chdir(runs)
    no_java = SimpleNamespace(statistics=lambda references, hypotheses: np.ones((len(hypotheses), 23)))
    monkeypatch.setattr(sides, "running_meteor", lambda: nullcontext(no_java))
    result = analyse([1], [1], [1], Path("params.yaml"))
    for place, row in enumerate(ROWS):
        looks = result["looks"][row]
        assert looks["cross_entropy"]["seeds"] == [place]
        assert looks["with_findings BLEU_4"]["seeds"] == [place + 0.25]
    assert result["steps"] == 2 * 7 and result["studies"] == 6
    assert result["floors"]["constant"]["BLEU_4"]["seeds"] == [0.5]
    assert result["rows"][FULL]["ROUGE_L"]["mean"] == 1 > result["rows"]["wo-cmpnet"]["ROUGE_L"]["mean"]
    against = result["against_full"]
    assert against["wo-cmpnet"]["ROUGE_L"]["mean"] < 0 == against["wo-pi"]["ROUGE_L"]["mean"]
    assert list(result["sweeps"]["gamma"]["values"]) == [FULL, "1", "5", "15"]
    assert "different reports" in tables(result)
    whole = result["whole"]
    assert whole["steps"] == 5 * 7 and whole["best_floors"] == [dict.fromkeys(SHOWN, 0.5)]
    assert whole["intervals"][0]["BLEU_4"] == [0.4, 10]  # the eleventh run's
    assert whole["against_full"]["whole-wo-cmpnet"]["ROUGE_L"]["mean"] < 0
    less = analyse([1], [], [], Path("params.yaml"))
    assert less["sweeps"] == {} and less["whole"] is None


def test_another_dataset_is_refused_before_hours_of_work(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_all", lambda runs: pytest.fail("runs were started"))
    params = tmp_path / "params.yaml"
    params.write_text((ROOT / "presets/iu_xray.yaml").read_text())
    with pytest.raises(SystemExit, match="dataset iu_xray: this study is of the phantom"):
        command.main(params=params)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_an_experiment_of_this_commit_is_not_run_again(tmp_path, monkeypatch):
    """An interrupted study of hours must not start anew; after a change it must."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "--quiet")
    Path("file").write_text("1")
    Path("docs").mkdir()
    Path("docs/page.md").write_text("none yet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/full-1", head)
    assert is_done("full-1") and not is_done("full-2")
    Path("docs/page.md").write_text("the study's own tables")
    assert is_done("full-1")
    Path("file").write_text("2")
    assert not is_done("full-1")  # something is not committed
    git(tmp_path, "commit", "--quiet", "--all", "-m", "two")
    assert not is_done("full-1")  # another commit


def test_no_run_has_the_parameters_of_one_that_was_killed(tmp_path, monkeypatch):
    """DVC leaves them in params.yaml, and another experiment changes its own keys only."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("epochs: 20\n")
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "one"]):
        git(tmp_path, *arguments)
    run_all([])
    Path("params.yaml").write_text("epochs: 6\n")
    with pytest.raises(ValueError, match="^params.yaml is not that of the commit"):
        run_all([])
    git(tmp_path, "add", "--all")
    with pytest.raises(ValueError, match="^params.yaml is not that of the commit"):
        run_all([])
