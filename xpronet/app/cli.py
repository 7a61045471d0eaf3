"""The command `xpronet`. Each command imports what it needs when it runs, so that --help is quick."""

import logging

import typer

from xpronet.app import cli_models, cli_pages, cli_scores
from xpronet.common.shortage import one_line
from xpronet.common.threads import wait_asleep

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for room in (cli_models, cli_scores, cli_pages):  # in the order of --help
    app.add_typer(room.commands)


@app.callback(epilog="Example: xpronet generate frontal.png --model data/model")
def xpronet() -> None:
    """Radiology reports from chest X-rays with cross-modal prototypes.

    Training is `dvc repro`; these commands go with it, before and after. Each one's --help has an example.
    """
    logging.basicConfig(format="%(message)s")  # to standard error; of other packages warnings only
    logging.getLogger("xpronet").setLevel(logging.INFO)


def main() -> None:
    wait_asleep()
    with one_line():
        app()


if __name__ == "__main__":
    main()
