"""Reading what `sweep` has saved: which records count, peaks, and the AUC_R at the library's k."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from experiments import results
from experiments.paper.cells import SIZES, Size

Run = dict[str, Any]
DATA = {
    "mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10", "sst2": "SST-2",
    "adult": "ADULT",
}  # fmt: skip


def saved(size: Size, name: str = "paper") -> list[Run]:
    """Records of a size, in the order they were measured."""
    return results.runs(f"{name}_{size}")


def known() -> list[Run]:
    """Every model with its errors at full size where that has been measured, otherwise small."""
    return preferred([run for size in SIZES for run in saved(size)])


def preferred(runs: list[Run]) -> list[Run]:
    """Without small records of what there is at full size."""
    full = {_what(run) for run in runs if run["size"] == "full"}
    return [run for run in runs if run["size"] == "full" or _what(run) not in full]


def _what(run: Run) -> tuple[Any, ...]:
    return run["data"], run["network"], run["corruption"], run["rate"]


def of(runs: Iterable[Run], **wanted: Any) -> list[Run]:
    """Those with some values; a tuple holds several to choose from."""
    return [run for run in runs if all(_agrees(run[key], wanted[key]) for key in wanted)]


def _agrees(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def groups(runs: Iterable[Run], *keys: str) -> Iterator[tuple[tuple[Any, ...], list[Run]]]:
    """Records with equal values, in the order of the first of each."""
    grouped: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        grouped.setdefault(tuple(run[key] for key in keys), []).append(run)
    yield from grouped.items()


@dataclass(frozen=True)
class Asked:
    """A complaint about a cell."""

    run: Run
    found: Run

    @property
    def query(self) -> str:
        """Q1, Q3, ..."""
        return self.found["query"]

    @property
    def curve(self) -> list[float]:
        """AUC_R by k."""
        return self.found["k"]

    @property
    def peak(self) -> float:
        """AUC_R at the best k."""
        return max(self.curve)

    @property
    def chosen(self) -> float:
        """AUC_R at the k the library takes."""
        return at(self.curve, self.run["chosen_k"])

    @property
    def rain(self) -> float:
        """AUC_R of Rain at its best number of steps."""
        return max(self.found["steps"], default=float("nan"))

    @property
    def rain_last(self) -> float:
        """AUC_R of Rain after all steps that were taken."""
        return self.found["steps"][-1] if self.found["steps"] else float("nan")

    @property
    def relative_error(self) -> float:
        """Of the answer, against the model trained on clean data."""
        value, correct = self.found["value"], self.found["correct"]
        return abs(value - correct) / abs(correct) if correct else float("inf")

    @property
    def name(self) -> str:
        """Cell and query."""
        return f"{self.run['cell']}, {self.query}"


def complaints(runs: Iterable[Run], *queries: str) -> list[Asked]:
    """Every complaint about some cells, or those with these names."""
    return [
        Asked(run, found)
        for run in runs
        for found in run["queries"]
        if not queries or found["query"] in queries
    ]


def at(curve: list[float], k: int) -> float:
    """What a curve has at k, or at the last k that was measured."""
    return curve[min(k, len(curve)) - 1]


def mean_curve(curves: Iterable[list[float]]) -> list[float]:
    """As far as the shortest of them."""
    return [statistics.mean(values) for values in zip(*curves, strict=False)]


def mean_of(asked: Iterable[Asked], value: Callable[[Asked], float]) -> float:
    """NaN where there is none."""
    found = [value(one) for one in asked]
    return statistics.mean(found) if found else float("nan")


def title(run: Run) -> str:
    """Data and network."""
    return f"{DATA[run['data']]} {run['network']}"
