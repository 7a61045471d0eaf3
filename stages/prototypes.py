"""Features and labels of the train split -> data/prototypes.safetensors: PM (14, N^p, D) (Eq. 5-7)."""

from typing import Literal

import numpy as np
from safetensors.numpy import save

from stages.stage import run
from xpronet.common.files import replacing, room, write_json
from xpronet.common.params import Count, Part, Seed, Strict, read
from xpronet.common.resumable import read_array
from xpronet.data.studies import read_annotation
from xpronet.labels.conditions import CONDITIONS, Order
from xpronet.labels.table import read_labels
from xpronet.prototypes import kmeans
from xpronet.prototypes.params import PrototypeInit, published_files


class Flips(Part):
    flips: Literal["joint", "separate"]


class FileOrder(Part):
    file_order: Order


class Params(Strict):
    seed: Seed
    n_prototypes: Count
    prototype_init: PrototypeInit
    features: Flips
    labels: FileOrder


def main() -> str:
    params = read(Params)
    studies = read_annotation("data/prepared/annotation.json")
    train = np.array([study.split == "train" for study in studies])
    labels = read_labels("data/labels.csv", studies)[train]
    visual, flipped, textual = (
        read_array(f"data/features/{name}.npy", rows=len(labels), stage="features")
        for name in ("visual", "flipped", "textual")
    )
    width = visual.shape[1] + textual.shape[1]
    if published_files(params.prototype_init):
        from xpronet.prototypes.published import read_prototypes  # with PyTorch, which costs seconds

        matrix = read_prototypes(
            published_files(params.prototype_init), n_prototypes=params.n_prototypes, order=params.labels.file_order
        )
        table = []
    elif params.prototype_init == "random":
        matrix, table = kmeans.random_matrix(len(CONDITIONS), params.n_prototypes, width, seed=params.seed), []
    else:
        matrix, table = kmeans.prototype_matrix(
            visual,
            flipped,
            textual,
            labels,
            conditions=CONDITIONS,
            n_prototypes=params.n_prototypes,
            flips=params.features.flips,
            seed=params.seed,
        )
    with replacing("data/prototypes.safetensors") as beside, room(beside, matrix.nbytes):
        beside.write_bytes(save({"prototypes": matrix}))
    details = {"init": params.prototype_init, "shape": matrix.shape, "observations": table}
    write_json("metrics/details/prototypes.json", details)
    observations, each, width = matrix.shape
    return f"{observations} x {each} prototypes of {width:,} numbers ({params.prototype_init}), {len(labels):,} studies"


if __name__ == "__main__":
    run(main)
