"""What the finished runs show: each system's scores with intervals, floors, sizes and times."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.systems import batch, stepping
from experiments import study
from experiments.floors import floors_of
from experiments.results import details_of, look_at, steps
from experiments.runs import BUDGET, EPOCHS, Run
from stages.check import Params
from xpronet.app.sides import read_sides, score
from xpronet.common.params import load_yaml, validate
from xpronet.data.reports import PERIOD, Vocabulary
from xpronet.encoders.backbones import WIDTH
from xpronet.evaluation import statistics
from xpronet.labels.conditions import CONDITIONS
from xpronet.model.params import SystemName
from xpronet.model.system import Material, System
from xpronet.training.start import build

BATCH = 16  # twice the preset's: a step of an LSTM that writes sentence by sentence costs little more
REFERENCE = "xpronet"  # against which the others are tested
WORDS, PATCHES = 760, 9  # of the step that is timed; patches as the phantom's
D_PROTOTYPE = 896  # of the phantom's features
TEMPLATES = 40  # about as many as the phantom's
STEPS = 5  # timed
# HRGR's and CMAS-RL's second phase, by rewards: row -> the row that it goes on from, and its credit (docs/systems.md).
PHASES = {
    "hrgr-rl": ("hrgr", ["train.credit=word"]),
    "cmas-rl": (
        "cmas_rl",
        ["train.credit=sentence", "train.kind_reward=1", "train.cider_reward=0", "train.discount=0.9"],
    ),
}
REWARDED_EPOCHS = 2
REWARDED = [
    "train.phase=scst",
    "train.lr=5e-5",
    f"train.epochs={REWARDED_EPOCHS}",
    f"train.freeze_epochs={REWARDED_EPOCHS}",
]
LOOKS = ("distinct_reports", "same_side", "with_findings BLEU_4")  # beside the scores


def plan(seeds: Sequence[int], systems: Sequence[str] = get_args(SystemName)) -> list[Run]:
    """Every run, seed by seed, so that an interrupted study has whole seeds; of a seed second phases come last."""
    batch = f"train.batch_size={BATCH}"
    second = {row: (first, credit) for row, (first, credit) in PHASES.items() if first in systems}
    return [
        run
        for seed in seeds
        for run in (
            *(Run(system, seed, [f"system={system}", batch, *BUDGET]) for system in systems),
            *(
                Run(row, seed, [f"system={first}", batch, *REWARDED, *credit], after=first)
                for row, (first, credit) in second.items()
            ),
        )
    ]


def analyse(seeds: Sequence[int], params: Path, systems: Sequence[str] = get_args(SystemName)) -> dict[str, Any]:
    """What `docs/table1.json` holds, of finished runs: `systems`, `floors`, and what they were made with."""
    runs = plan(seeds, systems)
    labeller, _, tables = score(read_sides([run.name for run in runs], "test", "predicted"), params)
    of_system: dict[str, list[statistics.Table]] = {run.row: [] for run in runs}
    for run, table in zip(runs, tables, strict=True):
        of_system[run.row].append(table)
    details = {row: [details_of(f"{row}-{seed}") for seed in seeds] for row in of_system}
    against = study.against(of_system, REFERENCE, seed=1)
    keys = load_yaml(params)
    rows = {}
    for name, each in of_system.items():
        looks = [look_at(run) for run in details[name]]
        first, _ = PHASES.get(name, (name, ()))
        network = network_of(keys, first)
        rows[name] = {
            "scores": study.scores_of(each),
            "intervals": statistics.intervals(study.pooled(each), seed=1),
            "against_xpronet": against.get(name),
            "looks": {look: study.summary([run[look] for run in looks]) for look in LOOKS},
            "parameters": sum(p.numel() for key, p in network.named_parameters() if not key.startswith("visual.")),
            "seconds_per_step": seconds_per_step(network) if first == name else None,
        }
    return {
        "seeds": list(seeds),
        "studies": len(tables[0].means),
        "labeller": labeller,
        "steps": steps({**keys, "train": {"batch_size": BATCH, "epochs": EPOCHS}}),
        "rewarded_steps": steps({**keys, "train": {"batch_size": BATCH, "epochs": REWARDED_EPOCHS}}),
        "systems": rows,
        "floors": floors_of(details[REFERENCE]),
    }


def network_of(keys: Mapping[str, Any], name: str) -> System:
    """A system by the parameters of a file; its extractor is random: a step from patch features has no use for it."""
    changes = {"system": name, "model": {**keys["model"], "visual_weights": "random"}}
    params = validate(Params, {**keys, **changes})
    torch.manual_seed(0)
    material = Material(
        vocabulary=Vocabulary([PERIOD, "<unk>", *(f"w{number}" for number in range(WORDS - 2))]),
        labels=torch.ones(1, len(CONDITIONS)),
        prototypes=torch.randn(len(CONDITIONS), params.n_prototypes, D_PROTOTYPE),
        templates=[[f"w{number} {PERIOD}"] for number in range(TEMPLATES)],
    )
    return build(params, material)


def seconds_per_step(network: System) -> float:
    """Of a training step from stored patch features, 16 studies of two views: the least of some."""
    work = stepping(network, batch(PATCHES, WIDTH[network.config.backbone]))
    work()
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
