"""Raw studies -> data/prepared: annotation.json, the packed images and their index (paper §4, Datasets)."""

import os

from stages.stage import read, run
from xpronet.data import packing
from xpronet.data.params import Count, Dataset, ImageParams, Path, PhantomParams, RuntimeParams, Strict
from xpronet.data.studies import read_annotation, write_annotation


class Params(Strict):
    dataset: Dataset
    source: Path
    seed: Count
    phantom: PhantomParams
    images: ImageParams
    runtime: RuntimeParams


def main() -> None:
    params = read(Params)
    if params.dataset == "phantom":
        studies, reader = packing.phantom(**dict(params.phantom), seed=params.seed)
    else:
        studies, reader = read_annotation(params.source), packing.files(params.images.folder)
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
