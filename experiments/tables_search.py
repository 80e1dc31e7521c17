"""The section of the page of results about finding the top 100 of very many interventions."""

from __future__ import annotations

from typing import Any

Run = dict[str, Any]

_COLUMNS = [
    "rows", "lengths", "method", "recall mean / worst", "processor ms", "p50 ms", "p95 ms",
    "build s", "MB", "rows read",
]  # fmt: skip


def vector_search(body: Run) -> str:
    """A table with a row per table size and method."""
    settings = body["settings"]
    head = (
        "## Top 100 of very many interventions\n\n"
        f"Synthetic rows, k = {settings['k']}, with the spectrum and the lengths of the 600 000 "
        "interventions of MNIST\nlogistic regression, or all of one length; medians over "
        f"{settings['complaints']} complaints. *Longest rows* reads rows by\nfalling length and "
        "stops at the Cauchy-Schwarz bound: nothing is missed. Other programs ran on the\nsame "
        "cores: compare processor times, which include threads that wait.\n"
    )
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_row, body["runs"])]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{head}\n{table}\n"


def _row(run: Run) -> list[str]:
    return [
        f"{run['rows']:,}",
        run["lengths"],
        run["method"],
        f"{run['recall']:.3f} / {run['worst_recall']:.2f}",
        f"{run['cpu_ms']:.2f}",
        f"{run['p50_ms']:.2f}",
        f"{run['p95_ms']:.2f}",
        f"{run['build_cpu_s']:.1f}",
        f"{run['bytes'] / 1e6:,.0f}",
        f"{run['rows_read']:.1%}" if "rows_read" in run else "",
    ]
