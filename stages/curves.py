"""History of the training -> its picture; on its own, so that an imported model has the others without a training."""

from stages.stage import run
from xpronet.figures.curves import read_history, training


def main() -> None:
    training("metrics/figures/training", read_history("metrics/history.tsv"))


if __name__ == "__main__":
    run(main)
