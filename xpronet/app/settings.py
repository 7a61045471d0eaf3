"""Some keys of a parameter file, for commands that run beside the pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError


def read_keys(path: Path, types: Mapping[str, Any]) -> list[Any]:
    """The values of top-level keys, each checked against its type.

    Raises:
        ValueError: one line: the file or a key is missing, or a value breaks a rule.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        given = {key: content[key] for key in types}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run this in the project's folder, or name it by --params") from None
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no whole parameter file: {' '.join(str(error).split())}") from None
    values = []
    for key, kind in types.items():
        try:
            values.append(TypeAdapter(kind).validate_python(given[key]))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{path}: {'.'.join(map(str, (key, *first['loc'])))}: {first['msg']}") from None
    return values
