"""Figure 8: the time of a complaint by the number of interventions and of eigenpairs (§6.6).

MNIST's shape: 10 000 inferences of 10 classes, up to 60 000 training rows with ten interventions
each, a deletion and nine relabels. From ∂q/∂P to the frame of the top 100, through
`index.rank(vector).top(100)`. Projections are random, of the right shape: what they hold changes no
time, and neither do parameters, of which there are none here. Both sizes are the paper's; "full"
repeats more often. Where there is a GPU the table of projections is timed on it as well.

    python -m experiments.paper.fig8 [--size small|full] [--only k=20] [--again]
"""

from __future__ import annotations

import statistics
from functools import partial

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments import commands, results
from experiments.paper.cells import Size
from experiments.paper.timing import Parts, Record, rounded, run, timings
from rainpp.index.artifact import Index
from rainpp.index.score import contracted

KS = (5, 10, 20, 30, 40)
COUNTS = (10, 100, 1_000, 10_000, 100_000, 300_000, 600_000)
INFERENCES, CLASSES = 10_000, 10
TOP = 100
_SECONDS = {"small": 0.3, "full": 2.0}
_MOST = 300


def main() -> None:
    run("fig8", __doc__ or "", parts, {"ks": KS, "counts": COUNTS, "top": TOP})


def parts(size: Size) -> Parts:
    """A number of eigenpairs and of interventions each."""
    places = ["host"] if jax.default_backend() == "cpu" else ["host", "device"]
    return {
        f"k={k} {count} {place}": partial(measure, k, count, place, _SECONDS[size])
        for place in places
        for k in KS
        for count in COUNTS
    }


def measure(k: int, count: int, place: str, seconds: float) -> Record:
    """Milliseconds from ∂q/∂P to the top, and of the ranking without its first part."""
    index = made_up_index(count, k)
    if place == "device":
        index = index.on_device()
    generator = np.random.default_rng(1)
    projections = generator.standard_normal((INFERENCES, CLASSES, k), np.float32)
    weights = generator.random((INFERENCES, CLASSES))
    classes = np.arange(CLASSES)

    def complain() -> pd.DataFrame:
        return index.rank(contracted(projections, weights, classes)).top(TOP)

    vector = contracted(projections, weights, classes)
    _touched(index, vector)
    complain()
    taken = timings(complain, seconds=seconds, most=_MOST)
    ranking = timings(lambda: index.rank(vector).top(TOP), seconds=seconds, most=_MOST)
    scoring = timings(lambda: index.rank(vector).scores, seconds=seconds, most=_MOST)
    return {
        "k": k,
        "interventions": count,
        "table": place,
        "repeats": len(taken),
        "rank_ms": rounded(statistics.median(ranking) * 1e3),
        "score_ms": rounded(statistics.median(scoring) * 1e3),
        "per_second": rounded(count / statistics.median(taken)),
    } | results.milliseconds(taken)


def _touched(index: Index, vector: NDArray[np.float64]) -> None:
    """Everything has been read from memory, and compiled, once."""
    assert np.isfinite(index.rank(vector).scores).all()


def made_up_index(count: int, k: int) -> Index:
    """An index of `count` interventions, ten for each training row, of random projections."""
    generator = np.random.default_rng(0)
    num_rows = count // CLASSES
    arrays = {
        "projections": generator.standard_normal((count, k), np.float32),
        "plausibility": generator.random(count, np.float32),
        "eigenvalues": np.linspace(2.0, 1.0, k),
        "labels": generator.integers(0, CLASSES, num_rows).astype(np.int32),
        "train_ids": np.arange(num_rows),
    }
    manifest = {
        "num_train": num_rows,
        "num_classes": CLASSES,
        "num_params": 0,
        "interventions": ["delete", "relabel"],
    }
    return Index(manifest, arrays)


if __name__ == "__main__":
    commands.run(main)
