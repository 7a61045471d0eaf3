"""The README's picture: test studies beside their own and their generated report.

python -m xpronet.figures.examples docs/examples.png
"""

import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xpronet.common.files import json_lines, read_text, replacing
from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study, read_annotation

SIDE, TEXT, LINE, MARGIN = 224, 620, 17, 14  # pixels


def panel(study: Study, views: list[np.ndarray], generated: str) -> Image.Image:
    """One study: up to two views (H, W) uint8, then what was written by hand of the grammar and by the model."""
    picture = Image.new("RGB", (2 * SIDE + TEXT + 3 * MARGIN, SIDE + MARGIN), "white")
    for column, view in enumerate(views[:2]):
        picture.paste(Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * (SIDE + 4), 0))
    draw, x, y = ImageDraw.Draw(picture), 2 * SIDE + 2 * MARGIN, 0
    for title, text, colour in (("REPORT", study.report, "#222222"), ("GENERATED", generated, "#0b5394")):
        draw.text((x, y), title, fill="#888888", font=ImageFont.load_default(11))
        y += LINE
        for line in textwrap.wrap(text, 92):
            draw.text((x, y), line, fill=colour, font=ImageFont.load_default(13))
            y += LINE
        y += LINE // 2
    return picture


def examples(folder: Path, *, count: int) -> Image.Image:
    """The first test studies with two views and different sets of observations, one below the other."""
    studies = read_annotation(folder / "prepared/annotation.json")
    pack = ImagePack.of(folder / "prepared")
    path = folder / "predictions/test.jsonl"
    generated = {record["id"]: record["predicted"]["report"] for _, record in json_lines(read_text(path), path)}
    panels, seen, position = [], set(), 0
    for study in studies:
        images = range(position, position + len(study.image_path))
        position = images.stop
        observations = tuple((study.state or {}).get("observations", ()))
        if study.split == "test" and len(images) > 1 and observations not in seen and len(panels) < count:
            seen.add(observations)
            panels.append(panel(study, [pack.square(image) for image in images], generated[study.id]))
    sheet = Image.new("RGB", (panels[0].width, sum(panel.height for panel in panels) - MARGIN), "white")
    for row, image in enumerate(panels):
        sheet.paste(image, (0, row * image.height))
    return sheet


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m xpronet.figures.examples PICTURE.png")
    try:
        sheet = examples(Path("data"), count=4)
    except (ValueError, OSError) as error:
        sys.exit(f"{error}; run make repro first")
    with replacing(sys.argv[1]) as beside:
        sheet.quantize(128).save(beside, optimize=True)
