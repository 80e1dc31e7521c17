"""Figure 9: what keeping a count up to date costs, by the size of the update and of the database.

The measurement is `experiments.streams`' part "update size": MNIST logistic regression, k = 20.

    python -m experiments.paper.fig9 [--size small|full] [--again]
"""

from __future__ import annotations

import argparse

from experiments import commands, results, streams
from experiments.paper.cells import SIZES

_SEEN = {"small": 100_000, "full": 1_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    asked = parser.parse_args()
    name = f"paper_fig9_{asked.size}"
    if (results.FOLDER / f"{name}.json").exists() and not asked.again:
        print(f"{name}: saved before")
        return
    results.check_place()
    runs = list(streams.update_sizes(_SEEN[asked.size]))
    command = f"python -m experiments.paper.fig9 --size {asked.size}"
    print(results.save(name, command=command, settings={"k": streams.K}, runs=runs))


if __name__ == "__main__":
    commands.run(main)
