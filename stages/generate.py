"""Model and images -> data/predictions: a report per validation and test study, under each kind of labels (§3.3)."""

import json

import numpy as np

from stages.stage import read, run
from xpronet.data.dataset import StudyDataset, image_positions
from xpronet.data.devices import choose
from xpronet.data.files import replacing
from xpronet.data.images import ImagePack
from xpronet.data.params import RuntimeParams, Strict
from xpronet.data.studies import read_annotation
from xpronet.labels.conditions import CONDITIONS
from xpronet.labels.table import read_labels
from xpronet.model import checkpoint
from xpronet.model.params import DecodeParams
from xpronet.model.reports import generate_reports

# Labels choose the prototypes that a study may query; with none, it may query all of them.
LABELS = {"predicted": "data/predicted_labels.csv", "reference": "data/labels.csv", "none": None}


class Params(Strict):
    decode: DecodeParams
    runtime: RuntimeParams


def main() -> None:
    params = read(Params)
    device = choose(params.runtime.device)
    studies = read_annotation("data/prepared/annotation.json")
    pack = ImagePack("data/prepared/images.u8", "data/prepared/images.jsonl")
    images = image_positions(studies)
    model, card = checkpoint.load("data/model")
    model.to(device)
    for split in ("val", "test"):
        rows = [row for row, study in enumerate(studies) if study.split == split]
        chosen = [studies[row] for row in rows]
        generated = {}
        for source, path in LABELS.items():
            labels = read_labels(path, chosen) if path else np.ones((len(chosen), len(CONDITIONS)), np.float32)
            dataset = StudyDataset(pack, [images[row] for row in rows], labels=labels)
            generated[source] = generate_reports(
                model, card.vocabulary, dataset, params.decode, device=device, workers=params.runtime.workers
            )
        with replacing(f"data/predictions/{split}.jsonl") as beside, open(beside, "w", encoding="utf-8") as file:
            for row, study in enumerate(chosen):
                record = {"id": study.id}
                for source, (reports, log_probs) in generated.items():
                    record[source] = {"report": reports[row], "log_prob": round(log_probs[row], 4)}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run(main)
