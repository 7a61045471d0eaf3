"""`xpronet view`: predictions as a page that one opens in a browser; it asks no server for anything."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from xpronet.app.pages import NOTICE, template
from xpronet.app.written import cleaned, of_studies, read_reports
from xpronet.common.files import replacing
from xpronet.common.progress import track
from xpronet.common.wording import number
from xpronet.data.params import ReportParams
from xpronet.data.studies import Study, of_split, read_annotation
from xpronet.labels.agreement import f1, hits
from xpronet.labels.conditions import CONDITIONS, pseudo_labels
from xpronet.labels.rules import label

SCORES = ("ROUGE_L", "CIDEr", "example_F1")  # of a study alone
SIDE = 192  # of a thumbnail, in pixels
WITHIN = 600  # thumbnails that the page itself holds; of more it has a folder beside it


def view(
    predictions: Sequence[Path], prepared: Path, out: Path, *, split: str, labels: str, params: ReportParams
) -> int:
    """Write the page `out` for one or two files of reports, and say how many studies it has.

    Thumbnails lie in the page, or in a folder `NAME_files` beside it where there are many.

    Args:
        predictions: stage `generate`'s, or another model's; as `written.read_reports`.
        prepared: folder of stage prepare with annotation and pack, or an annotation.json alone: then without images.
        labels: under which kind of labels the reports were written.

    Raises:
        ValueError: one line: a file cannot be read, an empty split, or studies without a report.
    """
    annotation = prepared if prepared.suffix == ".json" else prepared / "annotation.json"
    studies = read_annotation(annotation)
    chosen = of_split(studies, split)
    if not chosen:
        raise ValueError(f"{annotation}: no study in split {split}")
    references = cleaned((study.report for study in chosen), params)
    own = pseudo_labels(label(references))
    sides = []
    for path in predictions:
        reports = cleaned(of_studies(path, read_reports(path, labels=labels), chosen, split), params)
        found = pseudo_labels(label(reports))
        sides.append((reports, found, per_study(references, reports, own, found)))
    beside = out.with_name(f"{out.stem}_files")
    images = thumbnails(studies, split, prepared, beside) if prepared.suffix != ".json" else [[] for _ in chosen]
    names = [str(path) for path in predictions]
    content = {
        "title": f"{' and '.join(names)}: {number(len(chosen), 'study')} of {split}",
        "about": f"References: {annotation}. Our own predictions: under {labels} labels. Observations by rules.",
        "warning": NOTICE,
        "sides": names,
        "scores": SCORES,
        "conditions": CONDITIONS,
        "studies": [
            {
                "id": study.id,
                "reference": references[row],
                "observations": np.flatnonzero(own[row]).tolist(),
                "images": images[row],
                "sides": [
                    {
                        "report": reports[row],
                        "observations": np.flatnonzero(found[row]).tolist(),
                        "scores": [round(float(value), 4) for value in scores[row]],
                    }
                    for reports, found, scores in sides
                ],
            }
            for row, study in enumerate(chosen)
        ],
    }
    with replacing(out) as part:
        part.write_text(page(content), encoding="utf-8")
    return len(chosen)


def page(content: dict[str, Any]) -> str:
    """The page with its data; nothing in a report can end the script that holds it."""
    data = json.dumps(content, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    return template("view.html").replace("@DATA@", data)


def per_study(references: Sequence[str], reports: Sequence[str], own: np.ndarray, found: np.ndarray) -> np.ndarray:
    """SCORES (N, 3) of each study; `own` and `found` are labels (N, 14) of its reference and its report."""
    gts, res = ({row: [text] for row, text in enumerate(texts)} for texts in (references, reports))
    each = [Rouge().compute_score(gts, res)[1], Cider().compute_score(gts, res)[1]]
    return np.stack([*each, f1(hits(own, found).sum(axis=2))], axis=1)


def thumbnails(studies: Sequence[Study], split: str, prepared: Path, beside: Path) -> list[list[str]]:
    """Addresses of each study's images: data, or files in `beside`, which replaces a page's of before.

    Raises:
        ValueError: the pack lacks images, or `beside` holds anything else.
    """
    from xpronet.data.dataset import image_positions  # PyTorch, which costs seconds
    from xpronet.data.pack import ImagePack

    pack = ImagePack.of(prepared)
    positions = [each for each, study in zip(image_positions(studies), studies, strict=True) if study.split == split]
    pack.require(positions)
    within = sum(map(len, positions)) <= WITHIN
    if not within:
        strange = [path.name for path in beside.glob("*") if not re.fullmatch(r"\d+\.jpg", path.name)]
        if strange:
            raise ValueError(f"{beside} is for the page's images and holds {strange[0]}: name another --out")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)

    def addresses() -> Iterator[str]:
        every = [position for each in positions for position in each]
        for position in track(every, what="thumbnails", unit="images"):
            picture = Image.fromarray(np.array(pack.square(position)))
            picture.thumbnail((SIDE, SIDE))
            held = io.BytesIO()
            picture.save(held, "JPEG", quality=80)
            if within:
                yield f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
            else:
                name = f"{position}.jpg"
                (beside / name).write_bytes(held.getvalue())
                yield f"{beside.name}/{name}"

    found = addresses()
    return [[next(found) for _ in each] for each in positions]
