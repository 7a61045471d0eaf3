"""Raw studies -> data/prepared: annotation.json, the packed images and their index (paper §4, Datasets)."""

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

from stages.stage import run
from xpronet.common.files import write_json
from xpronet.common.params import PathName, RuntimeParams, Strict, read
from xpronet.common.wording import number
from xpronet.data.studies import (
    SPLITS,
    Study,
    of_split,
    read_annotation,
    require_every_split,
    write_annotation,
)
from xpronet.sources import archives, openi, packing, physionet
from xpronet.sources.params import Dataset, ImageParams, MimicParams, OpenIParams, PhantomParams

EXTRACTED = Path("data/prepared/.archive.unfinished")  # while an archive of pictures is packed


class Params(Strict):
    dataset: Dataset
    source: PathName
    phantom: PhantomParams
    openi: OpenIParams
    mimic: MimicParams
    images: ImageParams
    runtime: RuntimeParams


def read_studies(params: Params) -> tuple[list[Study], Counter[str]]:
    """From an annotation, or from the files that Open-i and PhysioNet offer; and what was left out, with the reason."""
    if params.source.endswith(".json"):
        return read_annotation(params.source), Counter()
    if params.dataset == "mimic_cxr":
        return physionet.read_studies(params.source, params.images.folder, **dict(params.mimic))
    return openi.studies(
        openi.read_reports(params.source),
        split=read_annotation(params.openi.split) if params.openi.split else None,
        min_views=params.openi.min_views,
        max_views=params.openi.max_views,
        seed=params.openi.seed,
    )


def read_images(params: Params, studies: list[Study]) -> packing.Reader:
    folder = Path(params.images.folder)
    if archives.is_archive(folder):
        archives.extract(folder, {path for study in studies for path in study.image_path}, EXTRACTED)
        folder = EXTRACTED
    if not folder.is_dir():
        raise ValueError(f"images.folder: {folder} is neither a folder nor one of {', '.join(archives.SUFFIXES)}")
    return packing.Folder(folder)


def main() -> str:
    params = read(Params)
    if params.dataset == "phantom":
        (studies, reader), excluded = packing.phantom(**dict(params.phantom)), Counter()
    else:
        studies, excluded = read_studies(params)
        for reason, count in sorted(excluded.items()):
            logging.info("left out: %s: %d", reason, count)
        require_every_split(studies, params.source, excluded)
        reader = read_images(params, studies)
    min_views = params.openi.min_views if params.dataset == "iu_xray" and not params.source.endswith(".json") else 1
    kept, broken = packing.pack_studies(
        studies,
        reader,
        "data/prepared/images.u8",
        "data/prepared/images.jsonl",
        resize=params.images.resize,
        crop=params.images.crop,
        workers=params.runtime.workers or os.cpu_count(),
        broken=params.images.broken,
        min_views=min_views,
    )
    shutil.rmtree(EXTRACTED, ignore_errors=True)
    write_annotation("data/prepared/annotation.json", kept)
    if broken:
        reason = f"studies with fewer than {number(min_views, 'image')} that can be read"
        excluded[reason] = len(studies) - len(kept)
        found = sum(len(study.image_path) for study in studies)
        left = f"{len(broken)} of {found} images that cannot be read, {excluded[reason]} of {len(studies)} {reason}"
        logging.warning("left out (images.broken=drop): %s; metrics/details/prepare.json names them", left)
    by_split = {split: of_split(kept, split) for split in SPLITS}
    images = {split: sum(len(study.image_path) for study in chosen) for split, chosen in by_split.items()}
    details = {"images": images, "left_out": dict(sorted((+excluded).items()))}
    if broken:  # DVC cannot look through an empty list
        details["broken_images"] = broken
    if params.dataset == "mimic_cxr":
        details["published_images"] = physionet.PUBLISHED
        for split, count in images.items():
            logging.info("%s: %d images; the published annotation has %d", split, count, physionet.PUBLISHED[split])
    write_json("metrics/prepare.json", {f"{split}_studies": len(chosen) for split, chosen in by_split.items()})
    write_json("metrics/details/prepare.json", details)
    sizes = ", ".join(f"{len(chosen):,} {split}" for split, chosen in by_split.items())
    return f"{len(kept):,} studies ({sizes}) with {sum(images.values()):,} images"


if __name__ == "__main__":
    run(main)
