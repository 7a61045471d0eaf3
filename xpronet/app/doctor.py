"""One page on a prepared dataset before anyone trains on it: what it holds, what is odd, what that means for scores."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.table import Table

from xpronet.app.duplicates import BLANK, look, near_duplicates
from xpronet.common.files import read_json, write_json
from xpronet.common.params import Count, Part, read
from xpronet.data.dataset import image_positions
from xpronet.data.pack import ImagePack
from xpronet.data.params import ReportParams
from xpronet.data.reports import MANY, MARK, MOST, Vocabulary, cleaned_reports, unknown_share
from xpronet.data.studies import SPLITS, Study, of_split, read_annotation
from xpronet.figures import dataset as figures
from xpronet.labels.conditions import CONDITIONS
from xpronet.labels.plausible import FOREIGN, HEALTHY, NOTHING_TO_LEARN, english_share, healthy_share
from xpronet.labels.table import prevalence, read_labels

Level = Literal["breaks", "warns", "note", "fine"]
EXAMPLES = 3  # studies that a finding names
PREPARED = Path("data/prepared")  # of the pipeline in this folder


class Keys(Part):
    """What a parameter file says that matters here."""

    reports: ReportParams
    n_prototypes: Count


@dataclass(frozen=True)
class Finding:
    level: Level  # breaks: training or scoring would fail; warns: scores would mislead or suffer
    what: str
    meaning: str = ""


@dataclass
class Page:
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # split -> what its row says
    prevalence: dict[str, dict[str, int]] = field(default_factory=dict)  # split -> observation -> studies
    findings: list[Finding] = field(default_factory=list)

    @property
    def breaks(self) -> bool:
        return any(finding.level == "breaks" for finding in self.findings)

    def say(self, level: Level, what: str, meaning: str = "") -> None:
        self.findings.append(Finding(level, what, meaning))


def examine(prepared: Path, labels: Path | None, params: Path, out: Path) -> Page:
    """Examine `prepared`, write doctor.json and pictures to `out`, and return the page.

    Args:
        prepared: folder of stage `prepare`, or an annotation.json, of which only the text can be examined.
        labels: of stage `label`; None looks beside the folder, where they may be absent.
        params: parameter file with the group `reports` and `n_prototypes`.

    Raises:
        ValueError: a file is missing or broken.
    """
    keys = read(Keys, params)
    reports = keys.reports
    annotation = prepared if prepared.suffix == ".json" else prepared / "annotation.json"
    if not annotation.is_file():
        raise ValueError(f"{annotation}: no such file; make it by `dvc repro prepare`, or name an annotation.json")
    studies, page = read_annotation(annotation), Page()
    lengths = examine_reports(page, studies, reports)
    examine_patients(page, studies)
    if labels is not None and not labels.is_file():
        raise ValueError(f"--labels {labels}: no such file; without the option it is labels.csv beside the folder")
    if labels is None:
        labels = Path(os.path.normpath(annotation.parent / "../labels.csv"))
    if labels.is_file():
        try:
            examine_labels(page, studies, read_labels(labels, studies), keys.n_prototypes)
        except ValueError as error:
            page.say("breaks", " ".join(str(error).splitlines()[:2]), "run `dvc repro label`")
        else:
            figures.prevalence(out / "prevalence.png", page.prevalence, keys.n_prototypes)
    else:
        page.say("note", f"{labels} is not there yet: nothing is said about observations", "run `dvc repro label`")
    if (prepared / "images.u8").is_file():
        pack = ImagePack(prepared / "images.u8", prepared / "images.jsonl")
        examine_images(page, studies, pack)
        figures.sizes(out / "sizes.png", pack.sizes)
    else:
        page.say(
            "note", f"no packed images beside {annotation}: nothing is said about pictures", "run `dvc repro prepare`"
        )
    report = Path("metrics/details/prepare.json")
    if prepared == PREPARED and report.is_file():
        details = read_json(report)
        try:
            ids = [line.removeprefix("study ").partition(":")[0] for line in details.get("broken_images", ())]
            left_out = list(details["left_out"].items())
        except (KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{report}: not what stage prepare writes; `dvc repro -f prepare` makes it again"
            ) from None
        if ids:
            page.say(
                "warns", f"prepare left out {_count(ids, 'image')} that cannot be read", f"{report} says why of each"
            )
        for reason, count in left_out:
            page.say("note", f"prepare left out {count}: {reason}")
    if lengths:
        figures.lengths(out / "lengths.png", lengths, reports.max_length)
    write_json(out / "doctor.json", {"breaks": page.breaks, **asdict(page)})
    return page


def examine_reports(page: Page, studies: Sequence[Study], params: ReportParams) -> dict[str, np.ndarray]:
    """Words, truncation, unknown words, marks and repeated reports -> tokens per report, by split."""
    cleaned = {
        split: cleaned_reports([study.report for study in of_split(studies, split)], params.style, params.xxxx)
        for split in SPLITS
    }
    vocabulary = Vocabulary.build(cleaned["train"], params.min_count)
    trained = set(cleaned["train"])
    lengths = {}
    for split, texts in cleaned.items():
        if not texts:
            page.say(
                "breaks", f"no study in {split}", "every split is needed: training learns from train, chooses on val"
            )
            continue
        words = [text.split() for text in texts]
        lengths[split] = np.array([len(each) + 2 for each in words])  # with both ends
        chosen = of_split(studies, split)
        page.splits[split] = {
            "studies": len(texts),
            "images": sum(len(study.image_path) for study in chosen),
            "views": _range([len(study.image_path) for study in chosen]),
            "median_tokens": int(np.median(lengths[split])),
            "truncated": float((lengths[split] > params.max_length).mean()),
            "unknown_words": unknown_share(texts, vocabulary),
            "marked_reports": sum(MARK in study.report.lower() for study in chosen) / len(texts),
            "distinct_reports": len(set(texts)) / len(texts),
        }
        if all(map(_patient, chosen)):
            page.splits[split]["patients"] = len({_patient(study) for study in chosen})
        if split != "train":
            page.splits[split]["in_train"] = sum(text in trained for text in texts) / len(texts)
        empty = [study.id for study, each in zip(chosen, words, strict=True) if len(each) < 2]
        if empty:
            page.say(
                "breaks" if len(empty) == len(texts) else "warns",
                f"{split}: {_count(empty, 'report')} without a word after cleaning",
                "they teach the model to be silent: take them out",
            )
    unknown = page.splits.get("train", {}).get("unknown_words", 0)
    if unknown > MANY:
        page.say(
            "breaks" if unknown > MOST else "warns",
            f"{unknown:.0%} of the words in train occur fewer than {params.min_count} times",
            "the model cannot write them; lower reports.min_count",
        )
    english = english_share(cleaned["train"])
    if english < FOREIGN:
        page.say(
            "warns",
            f"{english:.1%} of the words in train are among English's commonest",
            "labellers read English only: their labels and clinical scores mean nothing here",
        )
    test = page.splits.get("test", {})
    if test.get("in_train", 0) > 0.05:
        page.say(
            "warns",
            f"{test['in_train']:.0%} of the test reports stand word for word in train",
            "a model that repeats train reports scores on them: read the scores of the others beside",
        )
    for split, row in page.splits.items():
        if row["truncated"] > 0.1:
            page.say(
                "warns",
                f"{row['truncated']:.0%} of the {split} reports are longer than reports.max_length {params.max_length}",
                "the model never learns to end them; raise it, and decode.max_length",
            )
    return lengths


def examine_patients(page: Page, studies: Sequence[Study]) -> None:
    """Patients whose studies lie in several splits, as far as they are known."""
    splits: dict[str, set[str]] = {}
    for study in studies:
        splits.setdefault(_patient(study), set()).add(study.split)
    unknown = [study.id for study in studies if not _patient(study)]
    splits.pop("", None)
    shared = sorted(patient for patient, found in splits.items() if len(found) > 1)
    if unknown:
        page.say(
            "note",
            f"{_count(unknown, 'study')} without a patient",
            "whether one of them is in two splits nobody can tell: give them a subject_id (docs/datasets.md)",
        )
    if shared:
        page.say(
            "warns",
            f"{_count(shared, 'patient')} in more than one split",
            "the model has seen them before it is tested on them: scores are too high",
        )
    elif splits:
        page.say("fine", f"no patient{' that is known' if unknown else ''} is in two splits")


def examine_labels(page: Page, studies: Sequence[Study], labels: np.ndarray, n_prototypes: int) -> None:
    """Studies per observation and split, against the number of prototypes; ValueError for labels other than 0 and 1."""
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("the labels hold other values than 0 and 1: probabilities?")
    page.prevalence = prevalence(studies, labels)
    healthy = healthy_share(labels)
    if healthy > HEALTHY:
        page.say(
            "breaks" if healthy > NOTHING_TO_LEARN else "warns",
            f"{healthy:.1%} of the studies have no observation but No Finding",
            "look at labels.section and labels.labeller",
        )
    train = page.prevalence["train"]
    none = [name for name, count in train.items() if not count]
    few = [f"{name} ({count})" for name, count in train.items() if 0 < count < n_prototypes]
    if none:
        page.say(
            "warns",
            f"no train study has {', '.join(none)}",
            "nothing can be learnt of it; its prototypes are the mean of all with noise",
        )
    if few:
        page.say(
            "warns",
            f"fewer train studies than n_prototypes {n_prototypes}: {', '.join(few)}",
            "their prototypes repeat with noise (mirrored images count as others)",
        )
    size = len(of_split(studies, "val"))
    one_class = [name for name, count in page.prevalence["val"].items() if count in (0, size)]
    if one_class:
        page.say(
            "warns",
            f"validation has one class only of {', '.join(one_class)}",
            "the classifier's threshold stays at 0.5 there, and its AUROC is undefined",
        )


def examine_images(page: Page, studies: Sequence[Study], pack: ImagePack) -> None:
    """Sizes, blank pictures, and the same or nearly the same picture in several places."""
    owner = [study for study, positions in zip(studies, image_positions(studies), strict=True) for _ in positions]
    if len(owner) != len(pack):
        page.say(
            "breaks", f"the annotation has {len(owner)} images and the pack {len(pack)}", "run `dvc repro -f prepare`"
        )
        return
    height, width = pack.sizes.T
    small = np.flatnonzero(np.minimum(height, width) < pack.resize)
    odd = np.flatnonzero(np.maximum(height, width) > 2 * np.minimum(height, width))
    if len(small):
        page.say(
            "warns",
            f"{_count([owner[i].id for i in small], 'image')} smaller than images.resize {pack.resize}",
            "they are enlarged and hold less than others",
        )
    if len(odd):
        page.say(
            "warns",
            f"{_count([owner[i].id for i in odd], 'image')} more than twice as long as wide",
            "squared, they are distorted: perhaps no chest, or two views in one file",
        )
    hashes, deviations = look(pack)
    blank = np.flatnonzero(deviations < BLANK)
    if len(blank):
        page.say(
            "warns",
            f"{_count([owner[i].id for i in blank], 'image')} blank",
            "take them out: the model learns to describe nothing",
        )
    seen = np.flatnonzero(deviations >= BLANK)
    places = defaultdict(list)
    for position in seen:
        places[pack.sha256[position]].append(owner[position])
    _say_shared(page, "the same picture", [found for found in places.values() if len(found) > 1])
    pairs = [(seen[a], seen[b]) for a, b in near_duplicates(hashes[seen])]
    near = [[owner[a], owner[b]] for a, b in pairs if pack.sha256[a] != pack.sha256[b]]
    _say_shared(page, "nearly the same picture", near)


def _say_shared(page: Page, what: str, groups: list[list[Study]]) -> None:
    """What pictures have several places: a list of studies per picture, a study once for each of its images in it."""
    twice = {study.id for group in groups for study, count in _counted(group) if count > 1}
    distinct = [[study for study, _ in _counted(group)] for group in groups]
    across = [group for group in distinct if len({study.split for study in group}) > 1]
    inside = [group for group in distinct if len(group) > 1 and len({study.split for study in group}) == 1]
    meanings = (
        (across, "in different splits", "the model is tested on what it has seen: scores are too high"),
        (inside, "in different studies of a split", "they count twice"),
    )
    for found, where, meaning in meanings:
        if found:
            names = [" = ".join(study.id for study in group[:4]) for group in found]
            page.say("warns", f"{what} {where}: {_count(names, 'case')}", meaning)
    if twice:
        meaning = "a second view that shows nothing new: leave it out"
        page.say("warns", f"{what} twice within {_count(sorted(twice), 'study')}", meaning)
    if not across and not inside:
        page.say("fine", f"no two studies have {what}")


def _counted(group: list[Study]) -> list[tuple[Study, int]]:
    """Each study of a group once, and how often it stands there."""
    counts = Counter(study.id for study in group)
    return [(study, counts[id]) for id, study in {study.id: study for study in group}.items()]


def _patient(study: Study) -> str:
    """As the annotation says, or as Open-i's ids begin; what was drawn is its own; empty where nobody knows."""
    opened = re.match(r"CXR\d+(?=_)", study.id)
    return study.subject_id or (opened.group() if opened else study.id if study.state else "")


def _range(numbers: Sequence[int]) -> str:
    return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)}–{max(numbers)}"


def _count(names: Sequence[str], what: str) -> str:
    plurals = what.removesuffix("y") + ("ies" if what.endswith("y") else "s")
    plural = f"{len(names):,} {plurals if len(names) > 1 else what}"
    return f"{plural} ({', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''})"


def show(page: Page, console: Console) -> None:
    """The page in a terminal."""
    rows = {
        "studies": ("studies", "{:,}"),
        "patients": ("patients", "{:,}"),
        "images": ("images", "{:,}"),
        "views": ("views per study", "{}"),
        "median_tokens": ("tokens, median", "{}"),
        "truncated": ("longer than max_length", "{:.1%}"),
        "unknown_words": ("unknown words", "{:.2%}"),
        "marked_reports": ("reports with XXXX", "{:.1%}"),
        "distinct_reports": ("distinct reports", "{:.1%}"),
        "in_train": ("found word for word in train", "{:.1%}"),
    }
    table = _table("Dataset", page.splits)
    for key, (name, form) in rows.items():
        table.add_row(name, *(form.format(row[key]) if key in row else "–" for row in page.splits.values()))
    console.print(table)
    if page.prevalence:
        table = _table("\nStudies with each observation", page.prevalence)
        for name in CONDITIONS:
            table.add_row(name, *(f"{counts[name]:,}" for counts in page.prevalence.values()))
        console.print(table)
    console.print()
    for level, mark in (
        ("breaks", "[red]✗[/red]"),
        ("warns", "[yellow]![/yellow]"),
        ("note", "·"),
        ("fine", "[green]✓[/green]"),
    ):
        for finding in page.findings:
            if finding.level == level:
                text = f"{mark} {_plain(finding.what)}" + (
                    f"\n  → {_plain(finding.meaning)}" if finding.meaning else ""
                )
                console.print(text, highlight=False)
    console.print("\n[red]Training would break.[/red]" if page.breaks else "\nTraining can start.", highlight=False)


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table("", title=title, title_justify="left", box=None)
    for column in columns:
        table.add_column(column, justify="right", min_width=8)
    return table


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
