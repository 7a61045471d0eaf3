"""`python -m benchmarks.budget`: what a dataset of MIMIC-CXR's size asks for, computed from a preset, not timed.

Operations are counted by PyTorch's FlopCounterMode (a multiplication and an addition are two), bytes by what autograd
keeps and by the shapes of what is written. Hours are operations divided by a rate that is assumed: `--tflops`, what
one GPU sustains. `--measure` takes steps of training on this machine's device and says what it sustains.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stages.check import Params
from xpronet.classifier.network import StudyClassifier
from xpronet.common.devices import autocast, choose
from xpronet.common.params import read
from xpronet.data.dataset import Batch
from xpronet.encoders.backbones import WIDTH
from xpronet.labels.conditions import CONDITIONS
from xpronet.model.losses import Objective, training_losses
from xpronet.model.xpronet import ModelConfig, XProNet
from xpronet.training.loop import optimiser, step

STUDIES = {"train": 270_790, "val": 2_130, "test": 3_858}  # of the published annotation of MIMIC-CXR, an image each
WORDS = 4_400  # of the vocabulary, about
RATIO = 1.2  # of an image's sides
PIECES = 128  # of a report, for a BERT
BERT = {"hidden": 768, "layers": 12, "ff": 3072, "pieces": 30_522, "positions": 512}  # CheXbert
OBJECTIVE = Objective(theta=1.75, alpha=0.4, lambda_visual=1.0, delta_textual=0.1)
GPUS, TFLOPS = 8, 20.0
FLOAT = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cost:
    """Of one study of one image: operations forward and in a whole step, and what a step keeps for its way back."""

    weights: int
    forward: int
    step: int
    kept: int  # bytes


def batch_of(params: Params, size: int, device: torch.device = CPU) -> Batch:
    """Studies of one image each and reports of `reports.max_length`, drawn at random."""
    generator, crop, length = torch.Generator().manual_seed(1), params.images.crop, params.reports.max_length
    tokens = torch.randint(1, WORDS, (size, length), generator=generator)
    tokens[:, 0] = tokens[:, -1] = 0
    labels = torch.rand(size, len(CONDITIONS), generator=generator) < 0.3
    labels[:, -1] = True  # each has prototypes
    pixels = torch.randint(0, 256, (size, 1, crop, crop), dtype=torch.uint8, generator=generator)
    views = torch.ones(size, 1, dtype=torch.bool)
    return Batch(pixels, views, tokens, labels.float(), torch.arange(size)).to(device)


def model_of(params: Params) -> XProNet:
    sizes = params.model.model_dump(exclude={"visual_weights"})
    width = WIDTH[params.model.backbone] + BERT["hidden"]
    own = {name: getattr(params, name) for name in ("gamma", "cmpnet", "formulation", "n_prototypes")}
    return XProNet(ModelConfig(vocab_size=WORDS, d_prototype=width, **own, **sizes))


@contextmanager
def kept_bytes(module: nn.Module) -> Iterator[list[int]]:
    """[bytes of the tensors that autograd keeps, weights aside], each storage once."""
    seen, found = {each.untyped_storage().data_ptr() for each in module.parameters()}, [0]

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(tensor)  # or another takes its place
            found[0] += storage.nbytes()
        return tensor

    alive: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


def cost(module: nn.Module, params: Params, loss, precision: str) -> Cost:
    """`loss`: of the module and a batch. What a study adds is the difference between batches of two and of one."""
    torch.manual_seed(1)
    module.train()
    found = []
    for size in (1, 2):
        batch = batch_of(params, size)
        with kept_bytes(module) as kept, autocast(CPU, precision), FlopCounterMode(display=False) as forward:
            value = loss(module, batch)
        with FlopCounterMode(display=False) as backward:
            value.backward()
        there = forward.get_total_flops()
        found.append((there, there + backward.get_total_flops(), kept[0]))
    one, two = found
    return Cost(sum(each.numel() for each in module.parameters()), *(b - a for a, b in zip(one, two, strict=True)))


@cache
def training_cost(params: Params) -> Cost:
    def loss(model: XProNet, batch: Batch) -> Tensor:
        output = model(batch.images, batch.tokens, batch.labels, views=batch.views)
        return training_losses(output, batch.tokens, batch.labels, objective=OBJECTIVE).total

    return cost(model_of(params), params, loss, params.train.precision)


@cache
def classifier_cost(params: Params) -> Cost:
    def loss(network: StudyClassifier, batch: Batch) -> Tensor:
        return network(batch.images, batch.views).float().square().mean()

    return cost(StudyClassifier(params.classifier.backbone), params, loss, params.classifier.precision)


def report_cost() -> tuple[int, int]:
    """Weights of CheXbert's BERT, and operations for a report: two per weight of a layer and piece, and attention."""
    wide, layers, ff = BERT["hidden"], BERT["layers"], BERT["ff"]
    products = layers * (4 * wide * wide + 2 * wide * ff)
    weights = products + (BERT["pieces"] + BERT["positions"] + 2) * wide + layers * (9 * wide + ff) + 2 * wide
    return weights, 2 * products * PIECES + 4 * layers * PIECES**2 * wide


def table(params: Params, *, tflops: float = TFLOPS, gpus: int = GPUS) -> str:
    """The tables of docs/scaling.md."""
    train, held_out, every = STUDIES["train"], STUDIES["val"] + STUDIES["test"], sum(STUDIES.values())
    model, classifier, (bert, report) = training_cost(params), classifier_cost(params), report_cost()
    epochs, crop, resize = params.train.epochs, params.images.crop, params.images.resize
    work = {
        "label": every * report,
        "classify": params.classifier.epochs * (train * classifier.step + STUDIES["val"] * classifier.forward)
        + held_out * classifier.forward,
        "features": (2 * train + held_out) * classifier.forward + train * report,
        "train": epochs * (train * model.step + STUDIES["val"] * model.forward),
        "generate": 6 * held_out * model.forward,  # three kinds of labels, each written and scored
    }
    batch, width = params.train.batch_size, WIDTH[params.model.backbone]
    fixed = {"weights": (1, 1), "gradients, of several processes in a message too": (1, 2), "Adam, amsgrad": (3, 3)}
    shares = (batch, -(-batch // gpus))
    memory = [(what, *[times * FLOAT * model.weights for times in both]) for what, both in fixed.items()]
    memory.append((f"activations of {shares[0]} and {shares[1]} studies", *[model.kept * each for each in shares]))
    memory.append(("together", *[sum(column) for column in list(zip(*memory, strict=True))[1:]]))
    disk = {
        "`data/prepared/images.u8`": every * crop**2 + train * int(resize * resize * RATIO),
        "`data/features/`": FLOAT * ((2 * train + held_out) * width + train * BERT["hidden"]),
        "`data/patches/` for each of `train.crops`, where `train.freeze_epochs` is set": FLOAT
        * (train + held_out)
        * width
        * (crop // 32) ** 2,
        "a saved state of `train`, of which two are kept (three while one is written)": 5 * FLOAT * model.weights,
        "`data/model/`": FLOAT * model.weights,
    }
    hours = {stage: flops / (tflops * 1e12) / 3600 for stage, flops in work.items()}
    total = sum(hours.values())
    lines = [
        "| of one study, an image and a report | weights | forward | a whole step | kept for the way back |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {each.weights / 1e6:.1f} M | {each.forward / 1e9:.1f} GFLOP | {each.step / 1e9:.1f} GFLOP "
            f"| {each.kept / 1e6:.0f} MB |"
            for name, each in (("the model", model), ("the classifier", classifier))
        ),
        f"| CheXbert, {PIECES} word pieces | {bert / 1e6:.1f} M | {report / 1e9:.1f} GFLOP | | |",
        "",
        f"| stage | operations | at {tflops:g} TFLOP/s on one GPU | on {gpus} |",
        "|---|---|---|---|",
        *(
            f"| `{stage}` | {flops / 1e15:,.1f} PFLOP | {hours[stage]:.1f} h | {hours[stage] / gpus:.2f} h |"
            for stage, flops in work.items()
        ),
        f"| all | {sum(work.values()) / 1e15:,.1f} PFLOP | {total:.1f} h | {total / gpus:.2f} h |",
        "",
        f"| memory of a GPU in `train`, batch {batch} | on one GPU | on each of {gpus} |",
        "|---|---|---|",
        *(f"| {what} | {one / 1e9:.1f} GB | {many / 1e9:.1f} GB |" for what, one, many in memory),
        "",
        "| disk | |",
        "|---|---|",
        *(f"| {what} | {size / 1e9:.1f} GB |" for what, size in disk.items()),
    ]
    return "\n".join(lines)


def measure(params: Params, *, steps: int = 10) -> str:
    """What training steps sustain on `runtime.device`, as the first of its processes would take them alone."""
    device = choose(params.runtime.device)
    model = model_of(params).to(device).train()
    adam, size = optimiser(model, params.train), params.train.batch_size
    batch, took = batch_of(params, size, device), []
    for _ in range(steps + 2):
        began = time.perf_counter()
        step(model, adam, batch, OBJECTIVE, params.train.precision)  # its losses come back: nothing is left to wait for
        took.append(time.perf_counter() - began)
    rate = size * steps / sum(took[2:])
    memory = f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most" if device.type == "cuda" else ""
    return f"{device}: {rate:.1f} studies/s, {rate * training_cost(params).step / 1e12:.3g} TFLOP/s{memory}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", type=Path, default="presets/mimic_cxr.yaml", help="a whole parameter file")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help="what one GPU sustains, in 10^12 operations/s")
    parser.add_argument("--gpus", type=int, default=GPUS, help="of the second column")
    parser.add_argument("--measure", action="store_true", help="take steps of training here and say what they sustain")
    args = parser.parse_args()
    wanted = read(Params, args.preset)
    print(measure(wanted) if args.measure else table(wanted, tflops=args.tflops, gpus=args.gpus))
