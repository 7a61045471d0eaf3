"""`xpronet export`: the model that was scored, what predicts its labels, and a model card, in a folder to share."""

import shutil
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo

from xpronet.app.card import Scored, card
from xpronet.classifier import network
from xpronet.common.files import read_json, replacing
from xpronet.common.params import read
from xpronet.model import checkpoint
from xpronet.model.system import name_of

SCORES, COUNTS, CLASSIFIER = "metrics/details/test.json", "metrics/prepare.json", Path("data/classifier")


def export(out: Path, params: Path, *, license: str | None) -> None:
    """Write the folder `out`, in the pipeline's folder.

    Args:
        license: as Hugging Face names it; None: `mit` for the phantom's model, `other` where data has terms of its own.

    Raises:
        ValueError: `out` exists, the scores are missing or not of this model, or a folder is not whole, or its training
            has not ended.
    """
    if out.exists():
        raise ValueError(f"{out} exists: name a new folder, or remove it first")
    scored = read(Scored, params)
    found, folder = scores(), Path(scored.model_folder)
    if (folder / checkpoint.UNFINISHED).exists():
        raise ValueError(
            f"{folder}: its training has not ended: run it to its end, or remove {folder / checkpoint.UNFINISHED}"
        )
    writer, model = checkpoint.load(folder)
    network.load(CLASSIFIER)  # the predicted labels of the scores are this one's, whatever lies in the model folder
    kind = {"system": name_of(writer), "prototypes": writer.has_prototypes}
    text = card(scored, model, found, read_json(COUNTS), **kind, license=license)
    with replacing(out) as beside:
        beside.mkdir()
        for name in ("weights.safetensors", "model.json"):
            shutil.copyfile(folder / name, beside / name)
        shutil.copytree(CLASSIFIER, beside / "classifier", copy_function=shutil.copyfile)
        (beside / "README.md").write_text(text, encoding="utf-8")


def scores() -> dict[str, Any]:
    """Those of the last run; ValueError, one line, where DVC finds that something has changed since."""
    found = read_json(SCORES)
    try:
        with Repo(".") as repo:
            changed = set(repo.status(["evaluate"], with_deps=True)) - {"check"}  # any other line of params.yaml
    except NotDvcRepoError:
        raise ValueError("export: no DVC repository here: run it in the pipeline's folder") from None
    except DvcException as error:
        raise ValueError(f"export: {' '.join(str(error).split())}") from None
    if changed:
        raise ValueError(
            f"{SCORES}: perhaps of another model, for {', '.join(sorted(changed))} changed since:"
            " `dvc repro evaluate` first"
        )
    return found
