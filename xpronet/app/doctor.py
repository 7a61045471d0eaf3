"""One page on a prepared dataset before anyone trains on it: what it holds, what is odd, what that means for scores."""

import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xpronet.app.doctor_images import examine_images
from xpronet.app.doctor_page import Page, counted
from xpronet.common.files import read_json, write_json
from xpronet.common.params import Count, Part, read
from xpronet.data.pack import ImagePack
from xpronet.data.params import ReportParams
from xpronet.data.reports import MANY, MARK, MOST, Vocabulary, unknown_share
from xpronet.data.studies import SPLITS, Study, of_split, read_annotation
from xpronet.figures import dataset as figures
from xpronet.labels.plausible import FOREIGN, HEALTHY, NOTHING_TO_LEARN, english_share, healthy_share
from xpronet.labels.table import prevalence, read_labels

PREPARED = Path("data/prepared")  # of the pipeline in this folder


class Keys(Part):
    """What a parameter file says that matters here."""

    reports: ReportParams
    n_prototypes: Count


def examine(prepared: Path, labels: Path | None, params: Path, out: Path) -> Page:
    """Examine `prepared`, write doctor.json and pictures to `out`, and return the page.

    Args:
        prepared: folder of stage `prepare`, or an annotation.json, of which only the text can be examined.
        labels: of stage `label`; None looks beside the folder, where they may be absent. Of an annotation.json, which
            may come from anywhere, none are looked for.
        params: parameter file with the group `reports` and `n_prototypes`.

    Raises:
        ValueError: a file is missing or broken.
    """
    keys = read(Keys, params)
    reports = keys.reports
    if prepared.is_file() and prepared.suffix != ".json":
        raise ValueError(f"{prepared}: no annotation.json, and no folder of stage prepare")
    annotation = prepared if prepared.suffix == ".json" else prepared / "annotation.json"
    if not annotation.is_file():
        raise ValueError(f"{annotation}: no such file; make it by `dvc repro prepare`, or name an annotation.json")
    studies, page = read_annotation(annotation), Page()
    lengths = examine_reports(page, studies, reports)
    examine_patients(page, studies)
    page.say(
        "note",
        f"reports are cleaned as {params} says: reports.style {reports.style}, reports.max_length {reports.max_length}",
        "another file of parameters: --params",
    )
    folder = prepared != annotation
    if labels is not None and not labels.is_file():
        raise ValueError(
            f"--labels {labels}: no such file; of a folder of stage prepare it is labels.csv beside it by itself"
        )
    if labels is None and folder:
        labels = Path(os.path.normpath(prepared / "../labels.csv"))
    if labels is None:
        page.say("note", f"no labels for {annotation}: nothing is said about observations", "name them: --labels")
    elif labels.is_file():
        try:
            examine_labels(page, studies, read_labels(labels, studies), keys.n_prototypes)
        except ValueError as error:
            again = "run `dvc repro label`" if folder else "name the labels of its studies: --labels"
            page.say("breaks", " ".join(str(error).splitlines()[:2]), again)
        else:
            page.say("note", f"observations are those of {labels}")
            figures.prevalence(out / "prevalence.png", page.prevalence, keys.n_prototypes)
    else:
        page.say("note", f"{labels} is not there yet: nothing is said about observations", "run `dvc repro label`")
    if (prepared / "images.u8").is_file():
        pack = ImagePack.of(prepared)
        examine_images(page, studies, pack)
        figures.sizes(out / "sizes.png", pack.sizes)
    elif folder:
        page.say("note", f"no packed images in {prepared}: nothing is said about pictures", "run `dvc repro prepare`")
    else:
        page.say("note", f"of {annotation} the text alone is examined, no picture", "name a folder of stage prepare")
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
                "warns", f"prepare left out {counted(ids, 'image')} that cannot be read", f"{report} says why of each"
            )
        for reason, count in left_out:
            page.say("note", f"prepare left out {count}: {reason}")
    if lengths:
        figures.lengths(out / "lengths.png", lengths, reports.max_length)
    write_json(out / "doctor.json", {"breaks": page.breaks, **asdict(page)})
    return page


def examine_reports(page: Page, studies: Sequence[Study], params: ReportParams) -> dict[str, np.ndarray]:
    """Words, truncation, unknown words, marks and repeated reports -> tokens per report, by split."""
    cleaned = {split: params.clean(study.report for study in of_split(studies, split)) for split in SPLITS}
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
                f"{split}: {counted(empty, 'report')} without a word after cleaning",
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
            f"{counted(unknown, 'study')} without a patient",
            "whether one of them is in two splits nobody can tell: give them a subject_id (docs/datasets.md)",
        )
    if shared:
        page.say(
            "warns",
            f"{counted(shared, 'patient')} in more than one split",
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


def _patient(study: Study) -> str:
    """As the annotation says, or as Open-i's ids begin; what was drawn is its own; empty where nobody knows."""
    opened = re.match(r"CXR\d+(?=_)", study.id)
    return study.subject_id or (opened.group() if opened else study.id if study.state else "")


def _range(numbers: Sequence[int]) -> str:
    return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)}–{max(numbers)}"
