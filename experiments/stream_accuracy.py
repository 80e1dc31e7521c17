"""Accuracy of a live model, with labels, with some, and without: bias, coverage, error, time.

Five parts, all on made-up streams: the reservoir's inclusion counts under bursts of labels and its
memory over 10 million rows; how often the 95 % interval of a window holds its true accuracy, by the
way labels are missing, while the reference holds and after the rates have drifted; the error of
estimates without labels and with 5 % of them, against importance weighting by one column and
against the mean confidence of the model (what confidence-based estimation takes for accuracy); the
cost of a label after 10 thousand and after 10 million; and of reading a window with its interval.

    python -m experiments.stream_accuracy [--rows 10000000] [--times 4000]
"""

from __future__ import annotations

import argparse
import time
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from experiments import results
from rainpp.stream.blend import blend
from rainpp.stream.buckets import Buckets
from rainpp.stream.outcomes import Outcomes
from rainpp.stream.reservoir import Reservoir

Run = dict[str, Any]
Draw = np.random.Generator
CLASSES, BUCKETS = 10, 64
SIMULATIONS = 10_000
REFERENCE, WINDOWS, WINDOW, LABELLED = 10_000, 200, 2000, 0.05
PATTERNS: dict[str, Callable[[Draw], NDArray[np.float64]]] = {
    "none": lambda _: np.zeros(20),
    "very few (1 %)": lambda _: np.full(20, 0.01),
    "at random (20 %)": lambda _: np.full(20, 0.2),
    "by bucket (40 % of them none)": lambda draw: np.where(draw.random(20) < 0.4, 0, 0.3),
    "uneven between buckets": lambda draw: draw.random(20) ** 2,
    "most (90 %)": lambda _: np.full(20, 0.9),
    "all": lambda _: np.ones(20),
}
WORLDS = {"reference holds": (0.0, 0.0), "10 points down": (-0.1, 0.0), "each ± 10": (0.0, 0.1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=4000)
    options = parser.parse_args()
    runs = [inclusion(), memory(options.rows)]
    runs += [
        coverage(pattern, world, rows, options.times)
        for rows in (500, 5000, 50_000)
        for world in WORLDS
        for pattern in PATTERNS
    ]
    runs += [errors(concept) for concept in (0.0, 1.0)]
    runs += [label_cost(options.rows), read_cost()]
    for run in runs:
        print(run)
    command = "python -m experiments.stream_accuracy"
    settings = {"rows": options.rows, "times": options.times, "labelled": LABELLED}
    print(results.save("stream_accuracy", command=command, settings=settings, runs=runs))


def inclusion() -> Run:
    """Σ 1/probability of every row over 10 000 seeds against 10 000, by chi-squared.

    Twenty rows for six places, labels for twelve of them at once, then five more rows.
    """
    weights = np.zeros((SIMULATIONS, 25))
    for seed, weight in enumerate(weights):
        reservoir = Reservoir(6, seed=seed)
        reservoir.offer(np.arange(20))
        joined = reservoir.label(np.arange(12))
        reservoir.offer(np.arange(20, 25))
        weight[reservoir.ids] = 1 / reservoir.probabilities
        weight[joined.rows] = 1 / joined.probabilities
    variance = np.where(weights > 0, weights**2 - weights, 0).sum(0)
    statistic = float(((weights.sum(0) - SIMULATIONS) ** 2 / variance).sum())
    return {
        "part": "inclusion",
        "simulations": SIMULATIONS,
        "chi_squared": round(statistic, 2),
        "degrees": 25,
        "p": round(float(chi2.sf(statistic, 25)), 4),
    }


def memory(rows: int) -> Run:
    """Bytes of a reservoir of 4096 while rows come in; one in a hundred is labelled."""
    reservoir, sizes, batch = Reservoir(4096), list[int](), 10_000
    began = time.perf_counter()
    for start in range(0, rows, batch):
        ids = np.arange(start, start + batch)
        reservoir.offer(ids, {"predicted": ids % 2})
        reservoir.label(ids[::100])
        sizes.append(reservoir.nbytes)
    seconds = time.perf_counter() - began
    waiting = rows - len(range(0, rows, 100))
    total = reservoir.estimate(np.ones(len(reservoir)))
    return {
        "part": "memory",
        "rows": rows,
        "largest_bytes": max(sizes),
        "bytes_after_tenth": max(sizes[: len(sizes) // 10]),
        "bytes_at_end": sizes[-1],
        "nanoseconds_per_row": round(seconds / rows * 1e9),
        "waiting": waiting,
        "waiting_estimated": round(total.value),
        "waiting_deviation": round(total.variance**0.5),
    }


def coverage(pattern: str, world: str, rows: int, times: int) -> Run:
    """Windows over 20 buckets, of which the reference has 300 rows each on average."""
    draw, (drift, wobble) = np.random.default_rng(0), WORLDS[world]
    found: list[tuple[float, ...]] = []
    for _ in range(times):
        base = draw.uniform(0.6, 0.98, 20)
        rates = np.clip(base + drift + wobble * draw.standard_normal(20), 0.01, 0.99)
        counts = draw.multinomial(6000, np.full(20, 1 / 20))
        live = draw.multinomial(rows, draw.dirichlet(np.ones(20)))
        right = draw.binomial(live, rates)
        labelled = draw.binomial(live, PATTERNS[pattern](draw))
        correct = draw.hypergeometric(right, live - right, labelled)
        measured = draw.binomial(counts, base) / np.maximum(counts, 1)
        estimate = blend(live, labelled, correct, measured, counts)
        truth = right.sum() / rows
        inside = estimate.low - 1e-12 <= truth <= estimate.high + 1e-12
        width, error = estimate.high - estimate.low, abs(estimate.value - truth)
        unsure = not estimate.identified
        found.append((inside, width, error, estimate.drifted, unsure))
    names = ("covered", "width", "mean_error", "drifted", "not_identified")
    means = np.mean(np.array(found, np.float64), axis=0)
    about = {"part": "coverage", "labels": pattern, "world": world, "rows": rows}
    return about | {name: round(float(m), 4) for name, m in zip(names, means, strict=True)}


def stream(
    draw: Draw, rows: int, *, shift: NDArray[np.float64], mix: NDArray[np.float64], concept: float
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """Rows with a model twice too sure of itself, whose error depends on place and region.

    `shift` moves the features, `mix` weighs the places; `concept` turns the true direction, which
    the model does not learn of.
    """
    x = draw.normal(size=(rows, 3)) + shift
    place = draw.choice(5, rows, p=mix)
    odds = x @ np.array([1.0, 0.7 - concept, -0.5]) + 0.8 * np.maximum(x[:, 0], 0) * x[:, 1]
    truth = draw.random(rows) < 1 / (1 + np.exp(-odds * np.array([2.0, 1.5, 1.0, 0.6, 0.2])[place]))
    score = 1 / (1 + np.exp(-2 * (x @ np.array([1.0, 0.7, -0.5]))))
    columns = {f"x{i}": x[:, i] for i in range(3)} | {
        "place": np.array(list("abcde"))[place],
        "confidence": np.maximum(score, 1 - score),
    }
    return columns, (score > 0.5) == truth


def errors(concept: float) -> Run:
    """Mean absolute error over windows of every strength of covariate shift."""
    draw, even = np.random.default_rng(1), np.full(5, 0.2)
    still = np.zeros(3)
    columns, right = stream(draw, REFERENCE, shift=still, mix=even, concept=0)
    tree, plain = Buckets.fit(columns, right), Buckets.by(columns, "place", right)
    found: list[dict[str, float]] = []
    inside: list[bool] = []
    flagged: list[bool] = []
    for _ in range(WINDOWS):
        shift, mix = draw.normal(size=3) * draw.uniform(0, 1), draw.dirichlet(np.ones(5))
        live, correct = stream(draw, WINDOW, shift=shift, mix=mix, concept=concept)
        labelled = draw.random(WINDOW) < LABELLED
        numbers = tree.assign(live)
        rates, counts = np.append(tree.rates, 0), np.append(tree.counts, 0)
        none = np.zeros(len(tree) + 1)
        total = tree.count(numbers)
        with_labels = blend(
            total,
            tree.count(numbers[labelled]),
            tree.count(numbers[labelled & correct]),
            rates,
            counts,
        )
        without = blend(total, none, none, rates, counts)
        truth = correct.mean()
        by_place = plain.estimate(plain.count(plain.assign(live))).value
        inside.append(with_labels.low <= truth <= with_labels.high)
        flagged.append(with_labels.drifted)
        values = {
            "mean confidence": live["confidence"].mean(),
            "importance weighting by place": by_place,
            "fitted buckets, no labels": without.value,
            "labels alone, 5 %": correct[labelled].mean(),
            "fitted buckets and 5 % labels": with_labels.value,
        }
        found.append({name: abs(float(value - truth)) for name, value in values.items()})
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {
        "part": "errors",
        "concept_drift": concept,
        "buckets": len(tree),
        "mean_absolute_error": {name: round(mean, 4) for name, mean in means.items()},
        "covered_with_labels": round(float(np.mean(inside)), 3),
        "drifted": round(float(np.mean(flagged)), 3),
    }


def label_cost(rows: int) -> Run:
    """Microseconds per label after 10 thousand rows and after all of them."""
    outcomes, draw = Outcomes(CLASSES, buckets=BUCKETS), np.random.default_rng(0)

    def some(n: int) -> list[NDArray[np.int64]]:
        return [draw.integers(0, top, n) for top in (200, BUCKETS, CLASSES, CLASSES)]

    batch = some(1000)
    one_pane = [np.full(1000, 7), *batch[1:]]
    calls = {
        "one": (lambda: outcomes.labelled(7, 3, 2, 2), 5000),
        "one corrected": (lambda: _correct(outcomes), 1000),
        "thousand in one pane": (lambda: outcomes.labelled(*one_pane), 200),
        "thousand in 200 panes": (lambda: outcomes.labelled(*batch), 50),
    }
    outcomes.labelled(*some(10_000))
    early = {name: _micros(*call) for name, call in calls.items()}
    for _ in range(rows // 100_000):
        outcomes.labelled(*some(100_000))
    late = {name: _micros(*call) for name, call in calls.items()}
    return {
        "part": "label cost",
        "microseconds_at_10_thousand": early,
        f"microseconds_at_{rows}": late,
        "ratio": {name: round(late[name] / early[name], 2) for name in calls},
    }


def _correct(outcomes: Outcomes) -> None:
    outcomes.unlabelled(7, 3, 2, 2)
    outcomes.labelled(7, 3, 2, 1)
    outcomes.unlabelled(7, 3, 2, 1)
    outcomes.labelled(7, 3, 2, 2)


def read_cost() -> Run:
    """Milliseconds from counts to an estimate with its interval, 64 buckets."""
    outcomes, draw = Outcomes(2, buckets=BUCKETS), np.random.default_rng(0)
    for pane in range(24):
        outcomes.predicted(pane, draw.integers(0, BUCKETS, 5000), draw.integers(0, 2, 5000))
        same = draw.integers(0, 2, 1000)
        wrong = draw.random(1000) < 0.15
        outcomes.labelled(
            pane, draw.integers(0, BUCKETS, 1000), same, np.where(wrong, 1 - same, same)
        )
    rates, counts = np.full(BUCKETS + 1, 0.85), np.append(np.full(BUCKETS, 300), 0)

    def read() -> None:
        tally = outcomes.last(24)
        blend(tally.live, tally.labelled, tally.correct, rates, counts)

    seconds = [_once(read) for _ in range(1000)]
    accuracy = [_once(lambda: outcomes.last(24).accuracy()) for _ in range(1000)]
    return {
        "part": "read cost",
        "panes": 24,
        "buckets": BUCKETS,
        "accuracy_alone": results.milliseconds(accuracy),
        **results.milliseconds(seconds),
    }


def _once(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _micros(call: Callable[[], Any], number: int) -> float:
    return round(min(timeit.repeat(call, number=number, repeat=7)) / number * 1e6, 2)


if __name__ == "__main__":
    main()
