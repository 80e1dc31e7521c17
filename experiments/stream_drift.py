"""Monitors of a stream without drift and with it: speed, exactness, false alarms, delay, coverage.

Synthetic, 50 features. K-S from counts against SciPy on the rows themselves; the online adversary
beside a logistic regression trained anew on every window; the test of exchangeability over a
million rows without drift, watched after each 1000, and how long it needs for a shift of 0.3
standard deviations in one feature, beside a rule that knows feature, size and begin of the shift
and only has to be as sure; and confidence sequences at 200 looks a stream. Processor time stands
beside the clock, for a machine that is not alone.

    python -m experiments.stream_drift [--families 10] [--rows 1000000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from experiments import results
from rainpp.stream.adversarial import Adversary
from rainpp.stream.evidence import ExchangeabilityTest, MeanSequence
from rainpp.stream.kolmogorov import Reference

WIDTH = 50
NAMES = [f"x{number}" for number in range(WIDTH)]
KNOWN = 10_000
BATCH = 1000
ALPHA = 0.05

Float = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--families", type=int, default=10)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    steps: list[Callable[[], list[dict[str, Any]]]] = [
        kolmogorov_exactness,
        kolmogorov_speed,
        adversary_speed,
        adversary_onset,
        evidence_speed,
        evidence_delay,
        coverage,
        lambda: false_alarms(options.families, options.rows),
    ]
    for step in steps:
        for run in step():
            runs.append(run)
            print(run, flush=True)
    settings = {
        "features": WIDTH,
        "training_rows": KNOWN,
        "batch": BATCH,
        "alpha": ALPHA,
        "scipy": version("scipy"),
        "scikit_learn": version("scikit-learn"),
        "load": round(os.getloadavg()[0] / (os.cpu_count() or 1), 1),
    }
    command = "python -m experiments.stream_drift"
    print(results.save("stream_drift", command=command, settings=settings, runs=runs))


def kolmogorov_exactness() -> list[dict[str, Any]]:
    """Largest |D - SciPy's| over 50 pairs of samples of each kind."""
    draws: dict[str, Callable[[np.random.Generator, int, float], NDArray[Any]]] = {
        "normal": lambda rng, rows, by: rng.normal(by, 1 + by, rows),
        "lognormal, float32": lambda rng, rows, by: rng.lognormal(by, 1, rows).astype(np.float32),
        "lognormal, to 0.1": lambda rng, rows, by: rng.lognormal(by, 1, rows).round(1),
        "poisson": lambda rng, rows, by: rng.poisson(3 + by, rows),
        "half zeros": lambda rng, rows, by: np.maximum(rng.normal(by, 1, rows), 0.0),
    }
    runs: list[dict[str, Any]] = []
    for kind, draw in draws.items():
        slots, gaps = 0, list[float]()
        for seed in range(50):
            rng = np.random.default_rng(seed)
            known, live = draw(rng, 20_000, 0.0), draw(rng, 5000, seed / 100)
            reference = Reference.of({"x": known})
            found = reference.distance(reference.count({"x": live}))[0]
            gaps.append(abs(float(found) - _ks(known, live)[0]))
            slots = len(reference.counts)
        about = {"part": "ks exactness", "kind": kind, "seeds": 50, "slots": slots}
        runs.append(about | {"largest_difference": float(f"{max(gaps):.3g}")})
    return runs


def kolmogorov_speed() -> list[dict[str, Any]]:
    """Values counted in a second, and what sliding a window and reading all D cost."""
    columns = {
        name: np.random.default_rng(j).normal(size=100_000).astype(np.float32)
        for j, name in enumerate(NAMES)
    }
    reference = Reference.of(columns)
    runs: list[dict[str, Any]] = []
    for rows in (BATCH, 10_000, 100_000):
        batch = {name: values[:rows].copy() for name, values in columns.items()}
        pane = reference.count(batch)
        window = 10 * pane

        def slide(window: NDArray[np.int64] = window, pane: NDArray[np.int64] = pane) -> None:
            reference.distance(window + pane - pane)

        counting = _seconds(lambda batch=batch: reference.count(batch), 200_000 // rows)
        runs.append(
            {
                "part": "ks speed",
                "rows": rows,
                "million_values_a_second": round(rows * WIDTH / counting[0] / 1e6, 1),
                "million_values_a_cpu_second": round(rows * WIDTH / counting[1] / 1e6, 1),
                "slide_and_read_ms": round(_seconds(slide, 20)[0] * 1e3, 3),
                "state_kilobytes": round(
                    sum(a.nbytes for a in reference.to_arrays().values()) / 1e3
                ),
            }
        )
    return runs


def adversary_speed() -> list[dict[str, Any]]:
    """Microseconds for a live row, scored and learned from."""
    rng = np.random.default_rng(0)
    adversary = Adversary.start(rng.normal(size=(KNOWN, WIDTH)), NAMES, seed=0)
    runs: list[dict[str, Any]] = []
    for rows in (1, 50, BATCH, 10_000):
        batch = rng.normal(size=(rows, WIDTH))
        taken = _seconds(lambda batch=batch: adversary.update(batch), min(50_000 // rows, 200))
        runs.append(
            {
                "part": "adversary speed",
                "rows": rows,
                "microseconds_a_row": round(taken[0] / rows * 1e6, 2),
                "cpu_microseconds_a_row": round(taken[1] / rows * 1e6, 2),
            }
        )
    return runs


def change(rows: Float, kind: str, rng: np.random.Generator) -> None:
    """Move the fourth feature of these rows."""
    if kind == "mean":
        rows[:, 3] += 0.5
    elif kind == "spread":
        rows[:, 3] *= 1.5
    else:
        rows[rng.random(len(rows)) < 0.2, 3] = np.nan


def adversary_onset() -> list[dict[str, Any]]:
    """AUC by window, online and of a logistic regression trained anew on each; seconds of both."""
    runs: list[dict[str, Any]] = []
    for kind in ("mean", "spread", "missing"):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            known = rng.normal(size=(KNOWN, WIDTH))
            adversary = Adversary.start(known, NAMES, seed=seed)
            online: list[float] = []
            retrained: list[float] = []
            seconds = [0.0, 0.0]
            for window in range(16):
                rows = rng.normal(size=(BATCH, WIDTH))
                if window >= 12:
                    change(rows, kind, rng)
                began = time.perf_counter()
                adversary.update(rows)
                online.append(adversary.take().auc)
                between = time.perf_counter()
                retrained.append(_retrained(rows, known[rng.integers(KNOWN, size=BATCH)]))
                seconds[0] += between - began
                seconds[1] += time.perf_counter() - between
            runs.append(
                {
                    "part": "adversary onset",
                    "kind": kind,
                    "seed": seed,
                    "quiet_auc": round(statistics.mean(online[2:12]), 3),
                    "quiet_auc_sd": round(statistics.stdev(online[2:12]), 3),
                    "online_auc": [round(value, 3) for value in online[12:]],
                    "retrained_auc": [round(value, 3) for value in retrained[12:]],
                    "online_onset": _onset(online, 12),
                    "retrained_onset": _onset(retrained, 12),
                    "suspect": adversary.suspects()[0].name,
                    "retrained_over_online_seconds": round(seconds[1] / seconds[0], 1),
                }
            )
    return runs


def evidence_speed() -> list[dict[str, Any]]:
    """Values tested in a second."""
    rng = np.random.default_rng(0)
    test = ExchangeabilityTest.start(rng.normal(size=(KNOWN, WIDTH)), NAMES, seed=0)
    runs: list[dict[str, Any]] = []
    for rows in (1, BATCH, 10_000):
        batch = rng.normal(size=(rows, WIDTH))
        taken = _seconds(lambda batch=batch: test.update(batch), min(20_000 // rows, 200))
        runs.append(
            {
                "part": "evidence speed",
                "rows": rows,
                "million_values_a_second": round(rows * WIDTH / taken[0] / 1e6, 3),
                "million_values_a_cpu_second": round(rows * WIDTH / taken[1] / 1e6, 3),
            }
        )
    return runs


def evidence_delay() -> list[dict[str, Any]]:
    """Rows until a shift of 0.3 sd in one of 50 features is an alarm, after so many quiet rows.

    `informed`: rows until the likelihood ratio of the known shift, in the known feature from its
    known begin on, reaches the same threshold.
    """
    runs: list[dict[str, Any]] = []
    for quiet in (0, 10_000, 100_000):
        delays: list[int] = []
        informed: list[int] = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            test = ExchangeabilityTest.start(rng.normal(size=(KNOWN, WIDTH)), NAMES, seed=seed)
            for _ in range(quiet // BATCH):
                test.update(rng.normal(size=(BATCH, WIDTH)))
            ratio, rows_needed, rows_seen = 0.0, 0, 0
            while not any(alarm.name == "x3" for alarm in test.alarms()) or not rows_needed:
                rows = rng.normal(size=(50, WIDTH))
                rows[:, 3] += 0.3
                test.update(rows)
                ratio += float((0.3 * rows[:, 3] - 0.045).sum())
                rows_seen += 50
                if ratio >= test.threshold and not rows_needed:
                    rows_needed = rows_seen
            (row,) = (alarm.row for alarm in test.alarms() if alarm.name == "x3")
            delays.append(row - quiet)
            informed.append(rows_needed)
        runs.append(
            {
                "part": "evidence delay",
                "quiet_rows": quiet,
                "seeds": 10,
                "median_rows": statistics.median(delays),
                "worst_rows": max(delays),
                "informed_median_rows": statistics.median(informed),
            }
        )
    return runs


def coverage() -> list[dict[str, Any]]:
    """Streams of 100 000 outcomes of which any of 200 intervals misses the mean."""
    looks = np.unique(np.geomspace(1, 100_000, 200).astype(int))
    sequence = MeanSequence(ALPHA)
    runs: list[dict[str, Any]] = []
    for mean in (0.02, 0.5, 0.9):
        rng = np.random.default_rng(0)
        missed = fixed = 0
        for _ in range(2000):
            hits = np.cumsum(rng.random(100_000) < mean)[looks - 1]
            low, high = sequence.interval(looks, hits)
            missed += bool(((low > mean) | (high < mean)).any())
            half = 1.96 * np.sqrt(np.maximum(hits * (looks - hits), 1) / looks) / looks
            fixed += bool((np.abs(hits / looks - mean) > half)[looks >= 100].any())
        low, high = sequence.interval([100, 10_000], [100 * mean, 10_000 * mean])
        runs.append(
            {
                "part": "coverage",
                "mean": mean,
                "streams": 2000,
                "ever_missed": missed / 2000,
                "ever_missed_fixed_n_intervals": fixed / 2000,
                "width_at_100": round(float(high[0] - low[0]), 4),
                "width_at_10000": round(float(high[1] - low[1]), 4),
            }
        )
    return runs


def false_alarms(families: int, rows: int) -> list[dict[str, Any]]:
    """Families of 50 features without drift: how many raise an alarm while `rows` rows pass.

    Long ones, and twenty times as many that are a fiftieth as long. Beside them the rule of a K-S
    test at the same level on each window and feature: how many families it accuses.
    """
    runs: list[dict[str, Any]] = []
    for count, length in ((families, rows), (20 * families, rows // 50)):
        began, wrong, peaks = time.perf_counter(), 0, [0.0]
        wrong_windows = 0
        for seed in range(count):
            rng = np.random.default_rng(seed)
            known = rng.standard_normal((KNOWN, WIDTH), np.float32)
            test = ExchangeabilityTest.start(known, NAMES, seed=seed, alpha=ALPHA)
            peaks += [
                float(test.update(rng.standard_normal((BATCH, WIDTH), np.float32)).max())
                for _ in range(length // BATCH)
            ]
            wrong += bool(test.alarms())
            wrong_windows += _windows_accuse(known, rng)
        runs.append(
            {
                "part": "false alarms",
                "families": count,
                "rows": length,
                "families_accused": wrong,
                "family_wise_rate": wrong / count,
                "largest_log_evidence": round(max(peaks), 2),
                "threshold": round(float(np.log(WIDTH / ALPHA)), 2),
                "accused_by_a_ks_test_in_the_first_window": wrong_windows,
                "seconds": round(time.perf_counter() - began),
            }
        )
    return runs


def _windows_accuse(known: NDArray[np.float32], rng: np.random.Generator) -> bool:
    """Whether any of 50 K-S tests at the level α accuses a window without drift."""
    live = rng.standard_normal((BATCH, WIDTH), np.float32)
    return any(_ks(known[:, j], live[:, j])[1] < ALPHA for j in range(WIDTH))


def _ks(known: NDArray[Any], live: NDArray[Any]) -> tuple[float, float]:
    """SciPy's statistic and p-value."""
    found: Any = ks_2samp(known, live)
    return float(found.statistic), float(found.pvalue)


def _retrained(live: Float, known: Float) -> float:
    """Cross-validated AUC of a logistic regression on values, squares and gaps of one window."""
    rows = np.concatenate([live, known])
    filled = np.nan_to_num(rows, nan=0.0)
    inputs = np.concatenate([filled, np.square(filled), np.isnan(rows)], axis=1)
    labels = np.repeat([1, 0], [len(live), len(known)])
    model = LogisticRegression(max_iter=200)
    chances = np.asarray(cross_val_predict(model, inputs, labels, cv=3, method="predict_proba"))
    return float(roc_auc_score(labels, chances[:, 1]))


def _onset(aucs: list[float], before: int) -> int:
    """First window after the change whose AUC leaves the quiet ones by four of their sd."""
    quiet = np.array(aucs[2:before])
    beyond = np.array(aucs[before:]) > quiet.mean() + 4 * max(float(quiet.std()), 0.013)
    return int(beyond.argmax()) if beyond.any() else len(aucs)


def _seconds(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median seconds of a call by the clock and of the processor, after one that does not count."""
    call()
    wall: list[float] = []
    used: list[float] = []
    for _ in range(max(repeats, 5)):
        began, before = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - began)
        used.append(time.process_time() - before)
    return statistics.median(wall), statistics.median(used)


if __name__ == "__main__":
    main()
