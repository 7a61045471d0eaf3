"""History of the training -> its picture; on its own, so that an imported model has the others without a training."""

from stages.stage import run
from xpronet.common.wording import number
from xpronet.figures.curves import read_history, training


def main() -> str:
    history = read_history("metrics/history.tsv")
    training("metrics/figures/training", history)
    return f"losses and scores of {number(len(history['epoch']), 'epoch')}"


if __name__ == "__main__":
    run(main)
