"""The sections of the page of results about streams."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.markdown import table

Run = dict[str, Any]


def streams(body: Run) -> str:
    """What a monitor costs, and what it finds."""
    settings, runs = body["settings"], body["runs"]
    head = (
        "## Monitors of a stream\n\n"
        f"MNIST logistic regression, {settings['training_rows']:,} training rows, k = "
        f"{settings['k']}; a count by source of each hour.\nBatches of "
        f"{settings['batch']:,} images: the model's own forward pass over the same rows in the "
        "same\nrun, and what the monitor takes beyond it. State in a file is on disk when the "
        "batch ends.\n"
    )
    return "\n".join(
        [
            head,
            _batches(_of(runs, "batches")),
            _stages(_of(runs, "stages")),
            "\nFigure 9: an update of so many rows, milliseconds, state in memory.\n",
            _updates(_of(runs, "update size")),
            "\nFrom an alarm to the top 50, and the gradient computed anew from all rows seen.\n",
            _breach(_of(runs, "breach")),
            "\nQuery 2 of Table 1, 1s labelled 7: AUC_R of the ranking at the first alarm (counts "
            "of some 500 digits)\nand of the complaint about all 10 000 test digits.\n",
            _alarms(_of(runs, "first alarm")),
            "\nLabels into the accuracy of a window, on disk when they are taken in; reading it.\n",
            _labels(_of(runs, "labels")),
            "",
        ]
    )


def _stages(runs: list[Run]) -> str:
    if not runs:
        return ""
    head = (
        "\nWhere the time of a batch goes, state in a file: the passes that give probabilities and "
        "gradients, each\nalone; the line of the journal, alone; what is left is grouping, exact "
        "sums, windows and what is said.\n"
    )
    columns = ["kept of a row", "whole ms", "forward", "with gradients", "journal", "the rest"]
    rows = [
        [
            run["keep"],
            *(f"{run[f'{name}_ms']:.1f}" for name in ("whole", "forward", "gradient", "journal")),
            f"{run['whole_ms'] - run['gradient_ms'] - run['journal_ms']:.1f}",
        ]
        for run in runs
    ]
    return f"{head}\n{table(columns, rows)}"


def accuracy(body: Run) -> str:
    """Accuracy with some labels or none."""
    runs = body["runs"]
    chi, memory = _of(runs, "inclusion")[0], _of(runs, "memory")[0]
    head = (
        "## Accuracy of live rows\n\n"
        "A reservoir of rows that wait for labels: chi-squared of inclusion "
        f"{chi['chi_squared']} on {chi['degrees']} degrees of freedom\n(p = {chi['p']:.2f}, "
        f"{chi['simulations']:,} "
        f"simulations with bursts of labels); {memory['largest_bytes'] / 1e3:.0f} kB over "
        f"{memory['rows']:,} rows.\n\nShare of 95 % intervals that hold the accuracy of the "
        f"window, {body['settings']['times']:,} windows of 20 buckets each.\n"
    )
    found = _of(runs, "coverage")
    worlds = list(dict.fromkeys(run["world"] for run in found))
    sizes = sorted({run["rows"] for run in found})
    columns = ["labels", *(f"{world}, {size:,} rows" for world in worlds for size in sizes)]
    by_place = {(run["labels"], run["world"], run["rows"]): run["covered"] for run in found}
    rows = [
        [name, *(f"{by_place[name, world, size]:.3f}" for world in worlds for size in sizes)]
        for name in dict.fromkeys(run["labels"] for run in found)
    ]
    return f"{head}\n{table(columns, rows)}\n"


def drift(body: Run) -> str:
    """Live rows against training rows."""
    settings, runs = body["settings"], body["runs"]
    exact = max(run["largest_difference"] for run in _of(runs, "ks exactness"))
    speed = {run["rows"]: run for run in _of(runs, "ks speed")}
    online = {run["rows"]: run for run in _of(runs, "adversary speed")}
    onset = _of(runs, "adversary onset")
    head = (
        "## Live rows against training rows\n\n"
        f"Synthetic, {settings['features']} features, {settings['training_rows']:,} training rows. "
        f"K-S distance from counts: at most {exact} from SciPy's,\n"
        f"{speed[1000]['million_values_a_second']:.0f} million values a second in batches of "
        "1000. A classifier that learns in one pass: "
        f"{online[1000]['microseconds_a_row']:.1f}\nmicroseconds a row; it sees a shift in the "
        f"same window as one trained anew on every window in {_same(onset)} of {len(onset)} "
        "runs.\nRows until a shift of 0.3 standard deviations in one feature is sure, and of a "
        "rule that knows which,\nwhen and by how much; streams without drift that were ever "
        "accused.\n"
    )
    delay = [
        [
            f"{run['quiet_rows']:,}",
            f"{run['median_rows']:.0f} / {run['worst_rows']:.0f}",
            f"{run['informed_median_rows']:.0f}",
        ]
        for run in _of(runs, "evidence delay")
    ]
    false = [
        [
            f"{run['rows']:,}",
            f"{run['families_accused']} of {run['families']}",
            f"{run['accused_by_a_ks_test_in_the_first_window']} of {run['families']}",
        ]
        for run in _of(runs, "false alarms")
    ]
    columns = ["rows without drift", "accused", "by one K-S test a feature, first window"]
    return "\n".join(
        [
            head,
            table(["quiet rows before", "rows, median / worst", "informed rule"], delay),
            "",
            table(columns, false),
            "",
        ]
    )


def _of(runs: Iterable[Run], part: str) -> list[Run]:
    return [run for run in runs if run["part"] == part]


def _same(runs: Iterable[Run]) -> int:
    return sum(run["online_onset"] <= run["retrained_onset"] for run in runs)


def _batches(runs: list[Run]) -> str:
    columns = ["state", "kept of a row", "rows seen", "forward ms", "beyond ms", "p50 ms", "p95 ms"]
    rows = [
        [
            run["state"],
            run["keep"],
            f"{run['seen']:,}",
            f"{run['forward_ms']:.2f}",
            f"{run['beyond_ms']:.2f}",
            f"{run['p50_ms']:.2f}",
            f"{run['p95_ms']:.2f}",
        ]
        for run in runs
    ]
    return table(columns, rows)


def _updates(runs: list[Run]) -> str:
    sizes = sorted({run["update"] for run in runs})
    by_place = {(run["seen"], run["update"]): run["p50_ms"] for run in runs}
    rows = [
        [f"{seen:,}", *(f"{by_place[seen, size]:.1f}" for size in sizes)]
        for seen in sorted({run["seen"] for run in runs})
    ]
    return table(["rows seen", *(f"{size:,}" for size in sizes)], rows)


def _breach(runs: list[Run]) -> str:
    rows = [
        [
            f"{run['interventions']:,}",
            f"{run['seen']:,}",
            f"{run['p50_ms']:.2f}",
            f"{run['p99_ms']:.2f}",
            f"{run['anew_ms']:,.0f}",
            f"{run['times_faster']:,}",
        ]
        for run in runs
    ]
    columns = ["interventions", "rows seen", "p50 ms", "p99 ms", "anew ms", "times faster"]
    return table(columns, rows)


def _alarms(runs: list[Run]) -> str:
    rows: list[list[str]] = []
    for rate in sorted({run["rate"] for run in runs}):
        some = [run for run in runs if run["rate"] == rate]
        alarmed = [run for run in some if run["scans_until_alarm"] is not None]
        if not alarmed:
            rows.append([f"{rate:.0%}", f"0 of {len(some)}", "", "", "", ""])
            continue
        found = [run["auc_r_at_first_alarm"] for run in alarmed]
        rows.append(
            [
                f"{rate:.0%}",
                f"{len(alarmed)} of {len(some)}",
                ", ".join(f"{run['scans_until_alarm']:,}" for run in alarmed),
                f"{sum(found) / len(found):.3f} / {min(found):.3f}",
                f"{sum(run['auc_r_offline'] for run in alarmed) / len(alarmed):.3f}",
                f"{min(run['ratio'] for run in alarmed):.3f}",
            ]
        )
    columns = [
        "flipped", "alarms", "digits until it", "AUC_R at it, mean / worst", "offline",
        "worst ratio",
    ]  # fmt: skip
    return table(columns, rows)


def _labels(runs: list[Run]) -> str:
    columns = ["rows seen", "one label ms", "p95", "each of 1000, microseconds", "read after it ms",
               "read again ms"]  # fmt: skip
    rows = [
        [
            f"{run['seen']:,}",
            f"{run['single_ms']:.2f}",
            f"{run['single_p95_ms']:.2f}",
            f"{run['microseconds_each_of_1000']:.1f}",
            f"{run['read_ms']:.2f}",
            f"{run['read_again_ms']:.2f}" if "read_again_ms" in run else "",
        ]
        for run in runs
    ]
    return table(columns, rows)
