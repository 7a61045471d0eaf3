"""Raw studies -> data/prepared: annotation.json, the packed images and their index (paper §4, Datasets)."""

import os

from stages.stage import read, run
from xpronet.data import openi, packing
from xpronet.data.params import Count, Dataset, ImageParams, OpenIParams, Path, PhantomParams, RuntimeParams, Strict
from xpronet.data.studies import Study, read_annotation, write_annotation


class Params(Strict):
    dataset: Dataset
    source: Path
    seed: Count
    phantom: PhantomParams
    openi: OpenIParams
    images: ImageParams
    runtime: RuntimeParams


def read_studies(params: Params) -> list[Study]:
    """From an annotation, or from Open-i's reports."""
    if params.source.endswith(".json"):
        return read_annotation(params.source)
    published = read_annotation(params.openi.split) if params.openi.split else None
    return openi.studies(
        openi.read_reports(params.source),
        split=published and {study.id: study.split for study in published},
        min_views=params.openi.min_views,
        max_views=params.openi.max_views,
        seed=params.seed,
    )


def main() -> None:
    params = read(Params)
    if params.dataset == "phantom":
        studies, reader = packing.phantom(**dict(params.phantom), seed=params.seed)
    else:
        studies, reader = read_studies(params), packing.files(params.images.folder)
    packing.pack_studies(
        studies,
        reader,
        "data/prepared/images.u8",
        "data/prepared/images.json",
        resize=params.images.resize,
        crop=params.images.crop,
        workers=params.runtime.workers or os.cpu_count(),
    )
    write_annotation("data/prepared/annotation.json", studies)


if __name__ == "__main__":
    run(main)
