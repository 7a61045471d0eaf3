"""Images, reports, labels and prototypes -> data/model, chosen on validation, and its history (Eq. 8-20)."""

import csv
import logging
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from stages.resume import states
from stages.stage import run, shared
from xpronet.common.course import Row
from xpronet.common.files import read_json, replacing, write_json
from xpronet.common.params import RuntimeParams, Seed, read
from xpronet.common.processes import Group
from xpronet.common.weights import read_weights
from xpronet.data.dataset import StudyDataset
from xpronet.data.pack import ImagePack
from xpronet.data.params import ReportParams
from xpronet.data.reports import Vocabulary, check_vocabulary, truncate
from xpronet.data.studies import of_split, read_annotation
from xpronet.evaluation import lexical
from xpronet.evaluation.meteor import Meteor, running_meteor
from xpronet.evaluation.rewards import Reward
from xpronet.labels.conditions import CONDITIONS
from xpronet.labels.table import read_labels
from xpronet.model import checkpoint, system
from xpronet.model.losses import Objective
from xpronet.model.writing import write_reports
from xpronet.training.credit import Credit
from xpronet.training.frozen import freeze
from xpronet.training.loop import train
from xpronet.training.params import FRESH, TRAINED, Training
from xpronet.training.scst import Reinforce
from xpronet.training.start import build, go_on

logger = logging.getLogger(__name__)


class Params(Training):
    seed: Seed
    reports: ReportParams
    runtime: RuntimeParams


def main() -> str:
    return shared(read(Params), work)


def work(params: Params, device: torch.device, group: Group) -> str:
    """The stage, as one of the processes that share it."""
    settings = {"device": device, "workers": params.runtime.workers, "group": group}
    studies = read_annotation("data/prepared/annotation.json")
    splits = {split: of_split(studies, split) for split in ("train", "val")}
    cleaned = {split: params.reports.clean(study.report for study in chosen) for split, chosen in splits.items()}
    vocabulary = Vocabulary.build(cleaned["train"], params.reports.min_count)
    check_vocabulary(cleaned["train"], vocabulary)
    pack = ImagePack.of("data/prepared")
    params.train.refuse_lone_study(len(splits["train"]), crop=pack.crop)
    # Labels made from a validation report are read only where the parameters ask for it (row 20).
    val_labels = "data/labels.csv" if params.test_labels == "reference" else "data/predicted_labels.csv"
    dataset = StudyDataset.of(
        splits["train"],
        studies,
        pack,
        tokens=[truncate(vocabulary.encode(report), params.reports.max_length) for report in cleaned["train"]],
        labels=read_labels("data/labels.csv", splits["train"]),
        augment=True,
        seed=params.seed,
    )
    validation = StudyDataset.of(splits["val"], studies, pack, labels=read_labels(val_labels, splits["val"]))

    torch.manual_seed(params.seed)
    material = system.Material(
        vocabulary=vocabulary,
        labels=torch.from_numpy(dataset.labels),
        prototypes=read_prototypes("data/prototypes.safetensors", params.n_prototypes),
        templates=[template["wordings"] for template in read_json("data/templates.json")],
    )
    model = build(params, material) if params.train.start == FRESH else go_on(params, material)
    card = checkpoint.ModelCard(
        vocabulary=vocabulary,
        conditions=CONDITIONS,
        style=params.reports.style,
        crop=pack.crop,
        beam_size=params.train.val_beam_size,
        max_length=params.train.val_max_length,
    )

    frozen = {}
    if params.train.freeze_epochs:
        storing = {"batch_size": params.runtime.batch_size, **settings}
        frozen = {
            "train": freeze(model, dataset, "data/patches/train", crops=params.train.crops, **storing),
            "val": freeze(model, validation, "data/patches/val", crops=1, **storing),
        }

    def validate(model: system.System) -> dict[str, float]:
        reports, _ = write_reports(
            model,
            vocabulary,
            frozen["val"] if model.visual.frozen else validation,
            beam_size=card.beam_size,
            max_length=card.max_length,
            batch_size=params.runtime.batch_size,
            **settings,
        )
        if not group.first:
            return {}
        if len(set(reports)) == 1 < len(reports):
            logger.warning("all %d reports on validation are the same: collapsed so far", len(reports))
        return lexical.score(cleaned["val"], reports, meteor=meteor)

    def record(history: list[Row], pace: list[Row]) -> None:
        write_rows("metrics/history.tsv", history)
        if pace:
            write_rows("data/pace.tsv", pace)  # times differ from run to run: no result

    rewards_meteor = params.train.phase == "scst" and params.train.meteor_reward > 0
    alone = nullcontext()  # in place of what only the first process has
    with (
        states("train", params, device) if group.first else alone as saved,
        running_meteor() if group.first or rewards_meteor else alone as meteor,
    ):
        history = train(
            model,
            dataset,
            params.train,
            objective(params, vocabulary, cleaned["train"], meteor),
            frozen=frozen.get("train"),
            validate=validate,
            save=lambda model: checkpoint.save(TRAINED, model, card, classifier="data/classifier", unfinished=True),
            record=record,
            states=saved,
            seed=params.seed,
            **settings,
        )
        if not group.first:
            return ""  # the first process says it
        best = max(history, key=lambda row: row["val_selection"])
        write_json("metrics/train.json", {name: best[name] for name in ("epoch", "total", "val_selection")})
        checkpoint.finish(TRAINED)
        saved.finish()
    return f"model of epoch {best['epoch']:.0f} of {len(history)}, {best['val_selection']:.3f} on validation"


def read_prototypes(path: str, each: int) -> torch.Tensor:
    """(K, N^p, D), `each` of them for an observation; ValueError, one line, where the file holds anything else."""
    weights = read_weights(path, again="`dvc repro prototypes` makes it again")
    found = [(name, *tensor.shape[:-1]) for name, tensor in weights.items()]
    if found != [("prototypes", len(CONDITIONS), each)]:
        raise ValueError(
            f"{path} holds something else than prototypes of {len(CONDITIONS)} observations x {each}: "
            "`dvc repro -f prototypes` makes it again"
        )
    return weights["prototypes"]


def objective(
    params: Params, vocabulary: Vocabulary, reports: Sequence[str], meteor: Meteor | None
) -> Objective | Reinforce:
    """What is made small: Eq. 20, or what `train.phase` has in its place."""
    own = params.train
    if own.phase == "scst":
        weights = {"cider": own.cider_reward, "meteor": own.meteor_reward, "kinds": own.kind_reward}
        references = [truncate(vocabulary.encode(report), params.reports.max_length)[1:] for report in reports]
        reward = Reward(references, vocabulary, **weights, jar=meteor)
        by = {"by": own.credit, "discount": own.discount, "period": vocabulary.period}
        credit = None if own.credit == "report" else Credit(reward.gains, **by)
        return Reinforce(reward, samples=own.samples, max_length=own.val_max_length, credit=credit)
    return Objective(
        theta=params.theta,
        alpha=params.alpha,
        lambda_visual=params.lambda_visual,
        delta_textual=params.delta_textual,
        imlcs=params.imlcs,
        formulation=params.formulation,
    )


def write_rows(path: str, rows: list[Row]) -> None:
    with replacing(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)


if __name__ == "__main__":
    run(main, together=True)
