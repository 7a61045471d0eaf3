"""The four rows of the paper's Table 2 as DVC experiments, and the table that they give."""

import subprocess
import sys

import dvc.api

ROWS = {
    "full": [],
    "wo-pi": ["prototype_init=random"],
    "wo-imlcs": ["imlcs=false"],
    "wo-cmpnet": ["cmpnet=false"],
}
COLUMNS = ("BLEU_1", "BLEU_2", "BLEU_3", "BLEU_4", "ROUGE_L", "METEOR", "CIDEr")
METRICS = "metrics/test.json"


def run(name: str, changes: list[str]) -> None:
    """One named experiment in a folder of its own, so that the workspace stays as it is.

    Raises:
        ValueError: DVC failed; it has said why.
    """
    # Not --force for a name that is taken: it would run every stage again instead of what the change touches.
    subprocess.run(["dvc", "exp", "remove", name], capture_output=True)
    command = ["dvc", "exp", "run", "--temp", "--name", name]
    for change in changes:
        command += ["--set-param", change]
    if subprocess.run(command).returncode:
        raise ValueError(f"experiment {name} failed: {' '.join(command)}")


def table(metrics: dict[str, dict]) -> str:
    """Markdown: a row per experiment under predicted labels, and the constant report as the floor."""
    lines = ["| test, predicted labels | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    rows = {name: scores["predicted"] for name, scores in metrics.items()}
    rows["constant report"] = next(iter(metrics.values()))["floors"]["constant"]
    lines += [
        f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in COLUMNS) + " |" for name, row in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    try:
        for name, changes in ROWS.items():
            run(name, changes)
    except ValueError as error:
        sys.exit(str(error))
    print(table({name: dvc.api.metrics_show(METRICS, rev=name) for name in ROWS}))


if __name__ == "__main__":
    main()
