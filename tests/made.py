"""A small made-up data folder, as the stages leave it, in which no file can stand for another.

Images, both label files, features, probabilities and predictions are drawn independently of each other and of the
reports: a stage that reads the wrong file, split or study computes something else.
"""

import csv
import importlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torchvision
import yaml
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from xpronet.data.pack import ImagePack
from xpronet.sources.pack_writer import pack_image, write_pack

ROOT = Path(__file__).resolve().parents[1]
OBSERVATIONS = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    *("Support Devices", "No Finding"),
)
SENTENCES = (  # as radiologists write them, and as training sees them with style mimic_cxr and without XXXX
    ("The heart is enlarged", "the heart is enlarged"),
    ("The heart is normal in size", "the heart is normal in size"),
    ("There is a small left pleural effusion", "there is a small left pleural effusion"),
    ("No pleural effusion", "no pleural effusion"),
    ("There is no pneumothorax", "there is no pneumothorax"),
    ("Right apical XXXX pneumothorax", "right apical pneumothorax"),
    ("The lungs are clear", "the lungs are clear"),
    ("Bibasilar atelectasis", "bibasilar atelectasis"),
    ("Pulmonary edema", "pulmonary edema"),
    ("Possible pneumonia", "possible pneumonia"),
    ("A pacemaker is in place", "a pacemaker is in place"),
    ("Compared to the prior, unchanged", "compared to the prior unchanged"),
)
SIZES = {"train": 12, "val": 7, "test": 9}
VISUAL, TEXTUAL = 512, 8  # widths of the features: resnet18's, and a made-up one
REPORTS = {"style": "mimic_cxr", "xxxx": "drop", "min_count": 4, "max_length": 14}
PARAMS = {
    "seed": 5,
    "n_prototypes": 2,
    "gamma": 3,
    "images": {"resize": 40, "crop": 32},
    "reports": REPORTS,
    "classifier": {"epochs": 2, "batch_size": 5},
    "model": {"d_model": 16, "d_ff": 24, "heads": 2, "layers": 1},
    "train": {
        "epochs": 1,
        "schedule": "steps",
        "warmup_epochs": 0,
        "freeze_epochs": 0,
        "batch_size": 6,
        "val_beam_size": 2,
        "val_max_length": 6,
    },
    "runtime": {"device": "cpu", "workers": 0, "batch_size": 4},
}


@dataclass
class Made:
    """The folder and what is in it, by study; `text` is the cleaned report."""

    folder: Path
    raw: dict[str, str] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    impression: dict[str, str] = field(default_factory=dict)
    drawn: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def ids(self, *splits: str) -> list[str]:
        return [id for id in self.raw if id.split("-")[0] in splits]

    def run(self, stage: str, **changes) -> None:
        """Run a stage here, in this process, with the preset, PARAMS and changes."""
        params = yaml.safe_load((ROOT / "presets/phantom.yaml").read_text())
        for source in (PARAMS, changes):
            for key, value in source.items():
                params[key] = {**params[key], **value} if isinstance(value, dict) else value
        Path("params.yaml").write_text(yaml.safe_dump(params))
        importlib.import_module(f"stages.{stage}").main()

    def texts(self, ids: list[str]) -> list[str]:
        return [self.text[id] for id in ids]

    def batch(self, ids: list[str]) -> dict[str, torch.Tensor]:
        """Images (N, 2, 3, 32, 32) as a model sees them outside training, and which views are there (N, 2)."""
        views = torch.tensor([[True, len(self.images[id]) > 1] for id in ids])
        images = torch.zeros(len(ids), 2, 3, 32, 32)
        images[views] = normalised(np.concatenate([self.images[id] for id in ids]))
        return {"images": images, "views": views}


def normalised(pixels: np.ndarray) -> torch.Tensor:
    """(..., H, W) uint8 -> (..., 3, H, W) float32 with ImageNet's mean and deviation, by torchvision."""
    grey = torch.from_numpy(pixels.astype(np.float32) / 255).unsqueeze(-3).repeat_interleave(3, dim=-3)
    return torchvision.transforms.functional.normalize(grey, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def keep(table: str, *splits: str) -> None:
    """Take all studies of other splits out of data/TABLE.csv: whoever reads them stops with an error."""
    path = Path(f"data/{table}.csv")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if line.startswith(("id,", *splits))))


def make(folder: Path) -> Made:
    made, random = Made(folder), np.random.default_rng(7)
    (folder / "data/prepared").mkdir(parents=True)
    annotation, packed = {}, []
    for split, size in SIZES.items():
        annotation[split] = []
        for number in range(size):
            id = f"{split}-{number}"
            chosen = [SENTENCES[k] for k in random.permutation(len(SENTENCES))[: random.integers(2, 6)]]
            rare = f"rare{split}{number // 3 if split == 'train' else ''}"  # too rare in train, frequent elsewhere
            made.raw[id] = ". ".join(each for each, _ in chosen) + f".\nAlso {rare}."  # iu_xray ends nothing there
            made.text[id] = " . ".join([*(each for _, each in chosen), f"also {rare}"]) + " ."
            made.impression[id] = SENTENCES[random.integers(len(SENTENCES))][0] + "."
            made.drawn[id] = [OBSERVATIONS[k] for k in np.flatnonzero(random.random(14) < 0.3)]
            made.images[id] = [random.integers(0, 256, (32, 32), np.uint8) for _ in range(1 + (number % 4 > 0))]
            annotation[split].append(
                {
                    "id": id,
                    "split": split,
                    "report": made.raw[id],
                    "impression": made.impression[id],
                    "image_path": [f"{id}-{view}.png" for view in range(len(made.images[id]))],
                    "state": {"observations": made.drawn[id]},
                }
            )
            packed += [pack_image(image, resize=40, crop=32, train=split == "train") for image in made.images[id]]
    (folder / "data/prepared/annotation.json").write_text(json.dumps(annotation))
    write_pack(
        folder / "data/prepared/images.u8", folder / "data/prepared/images.jsonl", iter(packed), resize=40, crop=32
    )
    held_out = made.ids("val", "test")
    write_table(folder / "data/labels.csv", list(made.raw), labels(random, len(made.raw)))
    write_table(folder / "data/predicted_labels.csv", held_out, labels(random, len(held_out)))
    write_table(folder / "data/predicted_probabilities.csv", held_out, random.random((len(held_out), 14)).round(6))
    (folder / "data/features").mkdir()
    for name, shape in (
        ("visual", (SIZES["train"], VISUAL)),
        ("flipped", (SIZES["train"], VISUAL)),
        ("textual", (SIZES["train"], TEXTUAL)),
        ("held_out", (len(held_out), VISUAL)),
    ):
        np.save(folder / f"data/features/{name}.npy", random.random(shape, np.float32))
    prototypes = 30 * random.normal(size=(14, 2, VISUAL + TEXTUAL)).astype(np.float32)  # large, so that labels matter
    save_arrays({"prototypes": prototypes}, folder / "data/prototypes.safetensors")
    groups = [["the lungs are clear .", "the lungs appear clear ."], ["no pleural effusion ."]]
    (folder / "data/templates.json").write_text(json.dumps([{"wordings": each} for each in groups]))
    (folder / "data/classifier").mkdir()
    torch.manual_seed(3)
    save_file(
        torchvision.models.resnet18(weights=None, num_classes=14).state_dict(),
        folder / "data/classifier/weights.safetensors",
    )
    return made


def words_of_train(made: Made) -> list[str]:
    """The vocabulary, by hand."""
    counts = Counter(word for id in made.ids("train") for word in made.text[id].split())
    return sorted({word for word, count in counts.items() if count >= REPORTS["min_count"]} | {"<unk>"})


def tokens_of(text: str, words: list[str]) -> list[int]:
    """0, ids from 1 up, 0; at most max_length of them, the last one 0 (row 22)."""
    ids = [1 + words.index(word if word in words else "<unk>") for word in text.split()]
    return [0, *ids[: REPORTS["max_length"] - 2], 0]


def labels(random: np.random.Generator, count: int) -> np.ndarray:
    """(count, 14) 0/1; every study has one at least."""
    found = (random.random((count, 14)) < 0.3).astype(int)
    found[np.arange(count), random.integers(14, size=count)] = 1
    return found


def write_table(path: Path, ids: list[str], values: np.ndarray) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", *OBSERVATIONS])
        writer.writerows([id, id.split("-")[0], *row] for id, row in zip(ids, values.tolist(), strict=True))


def read_table(name: str, ids: list[str]) -> np.ndarray:
    """(N, 14) float32 of the studies in data/NAME.csv."""
    with open(f"data/{name}.csv", newline="") as file:
        rows = {row["id"]: [float(row[name]) for name in OBSERVATIONS] for row in csv.DictReader(file)}
    return np.array([rows[id] for id in ids], np.float32)


def pack() -> ImagePack:
    return ImagePack.of("data/prepared")


def pack_of(folder: Path, images: Iterable[np.ndarray], *, resize: int, crop: int, train: bool = True) -> ImagePack:
    """Pictures (H, W) uint8 as a pack in a folder."""
    files = folder / "p.u8", folder / "p.jsonl"
    packed = (pack_image(image, resize=resize, crop=crop, train=train) for image in images)
    write_pack(*files, packed, resize=resize, crop=crop)
    return ImagePack(*files)


def positions(made: Made, ids: list[str]) -> list[list[int]]:
    """Where the images of studies stand in the pack: they were written study by study."""
    order = [(id, view) for id in made.raw for view in range(len(made.images[id]))]
    return [[place for place, (other, _) in enumerate(order) if other == id] for id in ids]


def read_json(path: str):
    return json.loads(Path(path).read_text())


def pairs(references: list[str], hypotheses: list[str]) -> tuple[dict, dict]:
    """What pycocoevalcap wants."""
    return tuple({row: [text] for row, text in enumerate(texts)} for texts in (references, hypotheses))


def scores(references: list[str], hypotheses: list[str]) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr of pycocoevalcap."""
    both = pairs(references, hypotheses)
    bleu = Bleu(4).compute_score(*both, verbose=0)[0]
    found = {f"BLEU_{n}": value for n, value in enumerate(bleu, start=1)}
    return {**found, "ROUGE_L": Rouge().compute_score(*both)[0], "CIDEr": Cider().compute_score(*both)[0]}
