"""Reports -> data/labels.csv: 14 pseudo labels per study (Eq. 2-3), their probabilities, and how they are spread."""

import logging
import os
from collections.abc import Callable

import numpy as np

from stages.stage import run, shared
from xpronet.common.files import write_json
from xpronet.common.params import RuntimeParams, Strict, read
from xpronet.common.wording import number
from xpronet.data.studies import read_annotation, section
from xpronet.labels import agreement, rules
from xpronet.labels.conditions import NO_FINDING, pseudo_labels, true_labels
from xpronet.labels.params import LabelParams
from xpronet.labels.plausible import oddities
from xpronet.labels.published import import_classes, is_chexpert_table, read_chexpert_table
from xpronet.labels.table import prevalence, write_labels


class Params(Strict):
    labels: LabelParams
    runtime: RuntimeParams


def main() -> str:
    params = read(Params)
    if params.labels.labeller != "chexbert":  # one process is done in seconds; of several the first is
        return "" if int(os.environ.get("RANK", 0)) else work(params.labels)
    return shared(params, by_chexbert)


def by_chexbert(params: Params, device, group) -> str:
    """The stage, as one of the processes that share it."""
    from xpronet.labels.chexbert import CheXbert  # PyTorch, which costs seconds and the rules don't need

    chexbert = CheXbert.from_checkpoint(params.labels.chexbert_path, device=device)
    return work(params.labels, lambda texts: chexbert.logits_beside("data/chexbert", texts, group=group))


def work(params: LabelParams, chexbert: Callable[[list[str]], np.ndarray | None] | None = None) -> str:
    """The stage; of processes that share it, all but the first are done when `chexbert` gives them no logits."""
    studies = read_annotation("data/prepared/annotation.json")
    probabilities, texts = None, []
    if params.labeller == "file" and is_chexpert_table(params.file):
        classes = read_chexpert_table(params.file, studies)
    elif params.labeller == "file":
        classes = import_classes(params.file, studies, order=params.file_order, threshold=params.threshold)
    else:
        texts = [section(study, params.section) for study in studies]
        empty = [study.id for study, text in zip(studies, texts, strict=True) if not text]
        if len(empty) == len(studies):
            raise ValueError(f"labels.section: no study has {params.section}: set it to another section")
        if empty:
            logging.warning(
                "without %s, counted as No Finding: %s, %s first", params.section, number(len(empty), "study"), empty[0]
            )
        if chexbert:
            from xpronet.labels.chexbert import probabilities as chexbert_probabilities

            logits = chexbert(texts)
            if logits is None:
                return ""
            probabilities = chexbert_probabilities(logits, uncertain=params.uncertain)
            classes = logits.argmax(axis=2)
        else:
            classes = rules.label(texts)
    labels = pseudo_labels(classes, uncertain=params.uncertain)
    for line in oddities(classes, labels, texts):
        logging.warning(line)
    write_labels("data/labels.csv", studies, labels)
    # Rules and files are certain: their labels are their probabilities.
    write_labels("data/label_probabilities.csv", studies, labels if probabilities is None else probabilities)
    metrics = {"labels_per_study": float(labels.sum(axis=1).mean()), "no_finding": float(labels[:, NO_FINDING].mean())}
    details = {"prevalence": prevalence(studies, labels)}
    truth = true_labels([study.state for study in studies])
    if truth is not None:
        hits = agreement.hits(truth, labels)
        against = agreement.f1s(hits.sum(axis=0, keepdims=True))
        metrics |= {f"drawn_{name}": float(against[name][0]) for name in ("micro_F1_14", "macro_F1_14")}
        details["against_the_drawn_state"] = agreement.observations(hits)
    write_json("metrics/labels.json", metrics)
    write_json("metrics/details/labels.json", details)
    return f"{metrics['labels_per_study']:.1f} labels for each of {len(studies):,} studies, by {params.labeller}"


if __name__ == "__main__":
    run(main, together=True)
