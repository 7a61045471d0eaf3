"""`make bench`: every comparison, a table, and benchmarks/results.json. Some nine minutes on two quiet cores.

Name parts to run only these: `python -m benchmarks decoding losses`.
"""

import importlib
import sys

import torch

from xpronet.common.files import write_json

PARTS = ("losses", "images", "decoding", "training", "pair", "systems", "beside", "evaluation", "start")
THREADS = 2


def main(parts: list[str]) -> None:
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}: there are {', '.join(PARTS)}")
    torch.set_num_threads(THREADS)
    rows = []
    print(f"{'':34}{'ours':>12}{'limit':>12}  {'unit':9}{'ratio':>8}  must")
    for part in parts or PARTS:
        for row in importlib.import_module(f"benchmarks.{part}").rows():
            rows.append(row)
            sign = "holds" if row["holds"] else "FAILS"
            print(
                f"{row['name']:34}{row['value']:12.4g}{row['limit']:12.4g}  {row['unit']:9}{row['ratio']:8.2f}  "
                f"{row['must']} {sign}",
                flush=True,
            )
    if not parts:
        write_json("benchmarks/results.json", rows)
    if not all(row["holds"] for row in rows):
        sys.exit("not every limit was reached; other programs on this machine spoil the numbers")


if __name__ == "__main__":
    main(sys.argv[1:])
