"""Model and images -> data/predictions: a report per validation and test study, under each kind of labels (§3.3).

And how likely the model finds the study's own report there, by teacher forcing.
"""

import json

import numpy as np
import torch

from stages.stage import run, shared
from xpronet.common.files import replacing
from xpronet.common.params import PathName, RuntimeParams, Strict, read
from xpronet.common.processes import Group
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import ImagePack
from xpronet.data.params import ReportParams
from xpronet.data.reports import truncate
from xpronet.data.studies import of_split, read_annotation
from xpronet.labels.conditions import CONDITIONS
from xpronet.labels.table import read_labels
from xpronet.model import checkpoint
from xpronet.model.params import DecodeParams
from xpronet.model.writing import surprise, write_reports

# Labels choose the prototypes that a study may query; with none, it may query all of them.
LABELS = {"predicted": "data/predicted_labels.csv", "reference": "data/labels.csv", "none": None}


class Params(Strict):
    model_folder: PathName
    reports: ReportParams
    decode: DecodeParams
    runtime: RuntimeParams


def main() -> str:
    return shared(read(Params), work)


def work(params: Params, device: torch.device, group: Group) -> str:
    """The stage, as one of the processes that share it."""
    runtime = params.runtime
    settings = {"device": device, "workers": runtime.workers, "batch_size": runtime.batch_size, "group": group}
    studies = read_annotation("data/prepared/annotation.json")
    pack = ImagePack.of("data/prepared")
    model, card = checkpoint.load(params.model_folder)
    card.check_data(crop=pack.crop, style=params.reports.style)
    model.to(device)
    search = {
        "beam_size": params.decode.beam_size or card.beam_size,
        "max_length": params.decode.max_length or card.max_length,
    }
    studied = 0
    for split in ("val", "test"):
        chosen = of_split(studies, split)
        own = params.reports.clean(study.report for study in chosen)
        tokens = [truncate(card.vocabulary.encode(report), params.reports.max_length) for report in own]
        records = [{"id": study.id} for study in chosen]
        written = None
        for source, path in LABELS.items():
            labels = read_labels(path, chosen) if path else np.ones((len(chosen), len(CONDITIONS)), np.float32)
            dataset = StudyDataset.of(chosen, studies, pack, tokens=tokens, labels=labels)
            if written is None or model.has_prototypes:  # others write the same whatever the labels
                reports, log_probs = write_reports(model, card.vocabulary, dataset, **search, **settings)
                written = list(zip(reports, log_probs, surprise(model, dataset, **settings), strict=True))
            for record, (report, log_prob, (total, count)) in zip(records, written, strict=True):
                record[source] = {"report": report, "log_prob": round(log_prob, 4), "own_log_prob": round(-total, 4)}
                record["own_tokens"] = count
        if not group.first:
            continue
        with replacing(f"data/predictions/{split}.jsonl") as beside, open(beside, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
        studied += len(records)
    return f"reports of {studied:,} studies, each under {len(LABELS)} kinds of labels"


if __name__ == "__main__":
    run(main, together=True)
