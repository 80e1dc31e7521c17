"""How the figures about time measure, and keep what they have measured.

A figure is made of parts: a network, or a size. Each is saved once it is done, with the device it
ran on, so that a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from experiments import results
from experiments.paper.cells import SIZES, Size
from rainpp.errors import DataError, SettingsError

Record = dict[str, Any]
Parts = dict[str, Callable[[], Record]]

_FEWEST, _MOST = 3, 30


class NothingNamed(SettingsError):
    """A figure has no part of the name that is asked for; another figure may have one."""


def seconds_of(call: Callable[[], Any]) -> float:
    """By the clock, until what it returns is there."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def timings(call: Callable[[], Any], *, seconds: float = 1.0, most: int = _MOST) -> list[float]:
    """Three or more, for about as long as `seconds`; fewer than three beyond ten times that.

    What has to be compiled should be by now.
    """
    found = [seconds_of(call)]
    while len(found) < most and sum(found) < (10 * seconds if len(found) < _FEWEST else seconds):
        found.append(seconds_of(call))
    return found


def median_of(call: Callable[[], Any], *, seconds: float = 1.0) -> float:
    """Median of `timings`, to four digits."""
    return rounded(statistics.median(timings(call, seconds=seconds)))


def rounded(value: float) -> float:
    """To four digits."""
    return float(f"{value:.4g}")


def run(figure: str, about: str, parts_of: Callable[[Size], Parts], settings: Record) -> None:
    """The command of a figure.

    Parameters
    ----------
    figure : its module in this package, such as "fig6".
    about : the docstring of that module.
    parts_of : what there is to measure, by name.

    Raises
    ------
    NothingNamed : no part has the words of `--only` in its name.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", nargs="+", default=[], help="words of the names of parts")
    parser.add_argument("--again", action="store_true", help="measure what is there as well")
    asked = parser.parse_args()
    known = parts_of(asked.size)
    parts = {name: known[name] for name in known if all(word in name for word in asked.only)}
    if not parts:
        raise NothingNamed(
            f"`--only` is {asked.only}, and no part of {figure} has all of these in its name. "
            f"There are {', '.join(known)}."
        )
    Saved(figure, asked.size, settings).measure(parts, again=asked.again)


class Saved:
    """Parts of a figure that have been measured, in ``results/paper_<figure>_<size>.json``."""

    def __init__(self, figure: str, size: Size, settings: Record) -> None:
        self._name = f"paper_{figure}_{size}"
        self._command = f"python -m experiments.paper.{figure} --size {size}"
        self._settings = {"size": size, "seeds": [0]} | settings

    def measure(self, parts: Parts, *, again: bool = False) -> list[Record]:
        """Records of all parts, measured where they are not saved yet; those without data are left.

        With `again` those that are saved are measured too; others that are saved stay.
        """
        results.check_place()
        for name, measure in parts.items():
            if not again and name in results.known(self._name, "part"):
                print(f"{name}: saved before", flush=True)
                continue
            began = time.perf_counter()
            try:
                found = measure()
            except DataError as problem:
                print(f"{name}: left out, {problem}", flush=True)
                continue
            record = {"part": name} | found | _circumstances(began)
            print(record, flush=True)
            with results.joined(self._name, record, by="part") as runs:
                self._save(runs)
        known = results.known(self._name, "part")
        return [known[name] for name in parts if name in known]

    def _save(self, runs: list[Record]) -> None:
        results.save(self._name, command=self._command, settings=self._settings, runs=runs)


def _circumstances(began: float) -> Record:
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        # Processes that want a core, for each core: 1 or less on a quiet machine.
        "load": round(os.getloadavg()[0] / (os.cpu_count() or 1), 1),
        "seconds": round(time.perf_counter() - began, 1),
    }
