"""The section of the page of results about Spark."""

from __future__ import annotations

from typing import Any

from experiments.markdown import table

Run = dict[str, Any]


def batches(body: Run) -> str:
    """Micro-batches through Spark and in one process."""
    settings, runs = body["settings"], body["runs"]
    head = (
        "## Micro-batches through Spark\n\n"
        f"MNIST logistic regression, {settings['training_rows']:,} training rows, k = "
        f"{settings['k']}; a count by source of each hour, state\nin a file, nothing kept of a "
        f"row. PySpark {settings['pyspark']} in local mode on all cores, as many partitions; "
        "*Spark alone* only counts\nthe rows of the same micro-batches. *First* holds the start "
        "of workers and compilation. Load of the machine\nover the last five minutes: "
        f"{settings['load']:.1f}.\n"
    )
    columns = ["rows", "way", "p50 ms", "p95 ms", "rows/s", "first ms", "timed"]
    rows = [
        [
            f"{run['rows']:,}",
            run["way"],
            f"{run['p50_ms']:.1f}",
            f"{run['p95_ms']:.1f}",
            f"{run['rows_a_second']:,}",
            f"{run['first_ms']:,}",
            str(run["batches"]),
        ]
        for run in runs
    ]
    return f"{head}\n{table(columns, rows)}\n"
