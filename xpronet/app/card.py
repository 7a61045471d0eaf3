"""The model card: a README.md as Hugging Face expects one, with the scores beside floors, and the limits."""

from collections.abc import Mapping
from typing import Any

import yaml

from xpronet.app import score as scoring
from xpronet.app.pages import NOTICE
from xpronet.common.params import Part, PathName
from xpronet.labels.params import LabelParams
from xpronet.model.checkpoint import ModelCard
from xpronet.model.params import DecodeParams
from xpronet.sources.params import Dataset
from xpronet.training.params import TRAINED

NAMES = {"phantom": "phantom", "iu_xray": "IU-Xray", "mimic_cxr": "MIMIC-CXR"}
DATA = {
    "phantom": "The embedded phantom: radiographs drawn from a sampled clinical state, reports written from the same"
    " state. **No patient is in it, and no score on it says anything about patients.**",
    "iu_xray": "IU-Xray (Open-i, US National Library of Medicine): radiographs and reports of Indiana University.",
    "mimic_cxr": "MIMIC-CXR (PhysioNet): radiographs and reports of Beth Israel Deaconess Medical Center.",
}
METRICS = {"BLEU_4": "bleu", "METEOR": "meteor", "ROUGE_L": "rouge", "CIDEr": "cider", "micro_F1_14": "f1"}


class Scored(Part):
    """What a parameter file says of the model that was scored."""

    dataset: Dataset
    model_folder: PathName
    labels: LabelParams
    decode: DecodeParams


def card(
    scored: Scored,
    model: ModelCard,
    found: Mapping[str, Any],
    counts: Mapping[str, int],
    *,
    system: str,
    prototypes: bool,
    license: str | None,
) -> str:
    """The text.

    Args:
        found: what stage evaluate writes of the test split.
        counts: studies per split, as stage prepare writes them.
        system: of Table 1, by its name among parameters.
        prototypes: whether it has some, which labels choose.
        license: as Hugging Face names it; None: `mit` for the phantom's model, `other` where data has terms of its own.
    """
    phantom, own = scored.dataset == "phantom", scored.model_folder == TRAINED
    license = license or ("mit" if phantom else "other")
    labels = scored.labels
    about = header(SYSTEMS[system], scored.dataset, found["predicted"], license)
    return CARD.format(
        header=yaml.safe_dump(about, sort_keys=False, allow_unicode=True),
        system=SYSTEMS[system],
        name=NAMES[scored.dataset],
        way=PROTOTYPES if prototypes else f"by {SYSTEMS[system]}" + " without prototypes" * (system == "xpronet"),
        labels=(LABELS if prototypes else UNREAD).format(
            training=f"In training they came from the reports: labeller `{labels.labeller}`, section {labels.section},"
            f" what is uncertain counts as {labels.uncertain}."
            if own
            else "Under which labels it was trained is not known here."
        ),
        notice=NOTICE,
        data=DATA[scored.dataset],
        trained="It was trained on the train split" if own else "It was trained elsewhere, imported, and scored here",
        counts=f"{counts['train_studies']:,} / {counts['val_studies']:,} / {counts['test_studies']:,}",
        crop=model.crop,
        words=len(model.vocabulary),
        conditions="Under predicted labels, b" if prototypes else "B",
        misses=MISSES if prototypes else "It may miss findings, and name some",
        beam_size=scored.decode.beam_size or model.beam_size,
        max_length=scored.decode.max_length or model.max_length,
        scores=scoring.markdown(of_score(found)),
        under=UNDER.format(**{name: found[name]["BLEU_4"] for name in ("none", "reference")}) if prototypes else "",
        floors=beside_floors(found["predicted"], found["floors"]),
        license=license,
        terms=""
        if phantom
        else " The data has terms of its own, which hold for what is learnt from it: read them first.",
    )


def header(system: str, dataset: Dataset, scores: Mapping[str, float], license: str) -> dict[str, Any]:
    """What Hugging Face reads of a model."""
    results = {
        "task": {"type": "image-to-text", "name": "Radiology report generation"},
        "dataset": {"type": dataset, "name": NAMES[dataset], "split": "test"},
        "metrics": [{"type": kind, "name": name, "value": round(scores[name], 4)} for name, kind in METRICS.items()],
    }
    return {
        "license": license,
        "language": "en",
        "library_name": "xpronet",
        "pipeline_tag": "image-to-text",
        "tags": ["radiology", "chest-x-ray", "report-generation", "xpronet"],
        "metrics": list(METRICS.values()),
        "model-index": [{"name": f"{system}, {NAMES[dataset]}", "results": [results]}],
    }


def of_score(found: Mapping[str, Any]) -> dict[str, Any]:
    """The scores under predicted labels in the form of `xpronet score`."""
    predicted = found["predicted"]
    return {
        "studies": found["studies"],
        "split": "test",
        "labeller": found["labeller"],
        "scores": predicted,
        "diversity": predicted,
        "intervals": predicted["intervals"],
        "floors": found["floors"],
        "published_protocol": found["published_protocol"]["predicted"],
    }


def beside_floors(scores: Mapping[str, float], floors: Mapping[str, Mapping[str, float]]) -> str:
    """Which floors are not below the model, by words and by findings."""
    said = []
    for metric in ("BLEU_4", "micro_F1_14"):
        above = [name.replace("_", " ") for name, floor in floors.items() if floor[metric] >= scores[metric]]
        if above:
            said.append(f"by {metric} it is no better than {', '.join(above)}")
    return f"Beside the floors: {'; '.join(said)}." if said else "It is above every floor by BLEU_4 and micro_F1_14."


SYSTEMS = {
    "xpronet": "XProNet",
    "r2gencmn": "R2GenCMN",
    "st": "Show and Tell",
    "att2in": "Att2in",
    "adaatt": "AdaAtt",
    "topdown": "TopDown",
    "ratchet": "RATCHET",
    "coat": "CoAT",
    "sentsat_kg": "SentSAT+KG",
    "hrgr": "HRGR",
    "kerp": "KERP-style",
    "cmas_rl": "CMAS",
}
PROTOTYPES = """as in XProNet (Wang, Bhalerao, He, ECCV 2022): cross-modal
prototypes are queried by image patches and by words"""
LABELS = """Labels of the 14 CheXpert observations choose the prototypes that a study may query. {training}
For a new image the classifier in `classifier/` predicts them from the pixels; its thresholds are chosen on
validation."""
UNREAD = "It reads none for a new image. The classifier in `classifier/` is another model beside it."
UNDER = """
BLEU_4 without labels is {none:.3f}; under labels from the very reports under test it is {reference:.3f}."""
MISSES = "What the classifier misses the report mostly misses too, and it may name findings"

CARD = """---
{header}---

# {system}, {name}

**{notice}**

From the chest X-rays of a study it writes the findings, {way}. With the package `xpronet` of its repository installed:

    xpronet generate frontal.png --model FOLDER

```python
from xpronet.app.reporter import Reporter

print(Reporter.load("FOLDER").reports([["frontal.png", "lateral.png"]]))
```

## Data

{data} {trained}; studies in train / validation / test: {counts}.
Images are squared to {crop} x {crop} pixels in grey. It writes {words:,} different words, in lower case.

## Labels

{labels}

## Scores

{conditions}eam {beam_size}, at most {max_length} tokens. Intervals are of other test studies, not of other
trainings.

{scores}{under}

## Limits

- {floors}
- {misses} that are not there.
- Other scanners, countries, ages, projections or languages than its data's were not tried.
- It compares with no earlier image, and nobody has tested it with patients or readers.
- What is plainly no radiograph is refused by its colour, grey values or shape; any other grey picture gets a report.

## Licence

`{license}`.{terms} The code is under the MIT licence.
"""
