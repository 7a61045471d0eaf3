"""Parameters: the base of the strict models that stand beside their readers, and the one way to read a file of them."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from xpronet.common.files import TEXT

FILE = Path("params.yaml")
LARGEST = 10**7


class Strict(BaseModel):
    """Unknown keys are errors, and no value changes its type on the way in. The text below a field describes it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Part(Strict):
    """Some keys of a file or group: the others are somebody else's business."""

    model_config = ConfigDict(extra="ignore")


def _exponent(value: Any) -> Any:
    # DVC writes 5e-05, which YAML 1.1 reads as text for want of a decimal point.
    return float(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) else value


def _plausible(value: float) -> float:
    """Nothing is sensibly as large: float32, indices or memory would overflow, hours later."""
    if abs(value) > LARGEST:
        raise ValueError(f"{value} is beyond what any parameter can be, {LARGEST}")
    return value


Plausible = AfterValidator(_plausible)
Number = Annotated[float, BeforeValidator(_exponent), Field(allow_inf_nan=False), Plausible]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Positive, Field(le=1)]
Count = Annotated[int, Field(ge=1), Plausible]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
PathName = Annotated[str, Field(min_length=1)]

Precision = Literal["float32", "bf16", "fp16"]
Nonfinite = Literal["stop", "skip"]


class RuntimeParams(Strict):
    """Group `runtime`: what never reruns a stage.

    Nothing here changes what is computed. Device and batch size change how it is rounded: the last digits of a
    probability, and so the word where two are as likely; over a whole training, another model of the same worth.
    """

    device: Literal["auto", "cpu", "cuda", "mps"]
    """Where tensors live; auto takes cuda, then mps, then cpu. The same bytes again are promised on a CPU only."""
    workers: Annotated[int, Field(ge=0), Plausible]
    """Processes that pack images and load batches; 0: the main one loads, and all cores pack."""
    processes: Count
    """Processes that label (by CheXbert), classify, extract features, train and generate together (docs/scaling.md).

    Each has a GPU of its own, or its share of the cores; where a launcher has started them, its number counts.
    """
    threads: Count | None
    """Of each of these processes; null: its share of the cores, or what OMP_NUM_THREADS or a launcher says."""
    batch_size: Count
    """Studies at once where nothing is learnt: features, classification, generation, validation."""
    save_minutes: NotNegative
    """Between two saved states of a training, beside those after each epoch; 0: after every step."""


Params = TypeVar("Params", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """A key stands once, as DVC wants it too: plain YAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            first = keys.setdefault(str(key.value), key)
            if first is not key:
                lines = [each.start_mark.line + 1 for each in (first, key)]
                raise yaml.YAMLError(f"{key.value} stands in lines {lines[0]} and {lines[1]}: keep one")
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError):  # PyYAML's own of 2024-13-45, !!int x, !!bool x, !!timestamp x
            line, kind = node.start_mark.line + 1, node.tag.rpartition(":")[2]
            raise yaml.YAMLError(f"line {line}: {node.value!r:.60} is no {kind}: quote what is a text") from None


def load_yaml(path: Path = FILE) -> dict[str, Any]:
    """Raise ValueError, one line, where the file is missing or holds no keys and values."""
    try:
        content = yaml.load(path.read_text(encoding=TEXT), _Loader)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run this in the project's folder, or copy one from presets/") from None
    except RecursionError:
        raise ValueError(f"{path}: not YAML: lists or groups within each other, beyond reason") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split()).replace('in "<unicode string>", ', "in ")
        raise ValueError(f"{path}: not YAML: {where}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys and values")
    return content


def validate(model: type[Params], content: dict[str, Any], path: Path = FILE) -> Params:
    """Raise ValueError with one line per mistake: the key, its value and the rule."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = []
        for mistake in error.errors():
            key = ".".join(map(str, mistake["loc"])) or "params"
            rule = mistake["msg"].removeprefix("Value error, ")
            shown = "" if mistake["type"] in ("value_error", "missing") else f" = {mistake['input']!r}"
            rule = "no such parameter" if mistake["type"] == "extra_forbidden" else rule
            lines.append(f"{path}: {key}{shown}: {rule}")
        raise ValueError("\n".join(lines)) from None


def read(model: type[Params], path: Path = FILE) -> Params:
    """The keys of a parameter file that `model` names, in it or below it."""
    content = load_yaml(path)
    return validate(model, {key: content[key] for key in model.model_fields if key in content}, path)
