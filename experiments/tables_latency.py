"""The section of the page of results about the time of a complaint."""

from __future__ import annotations

from typing import Any

from experiments.markdown import table

Run = dict[str, Any]

_CHECKED = {False: "sizes and headers", "on use": "each array before its use", True: "all at once"}


def latency(body: Run) -> str:
    """Complaints on the two queries, on queries not seen before, and opening an index."""
    settings = body["settings"]
    parts = [
        "## Time of a complaint: MNIST, 60 000 training rows, 10 000 materialised inferences\n",
        f"From `complain(...)` to the frame of the top 100, {settings['repeats']:,} times about "
        "one cell. *New cell* is the first complaint about\na cell, in 200 answers; *cold* the "
        "first of the process; *read* one pass over the table of projections; `sql` is\nthe query "
        "itself, with the check that the table has not changed. Milliseconds.\n",
        table(_COLUMNS, [_complaints(run) for run in body["runs"]]),
        "\nQueries of a structure not asked before, until the top 100. *DuckDB* is its part: the "
        "plain query over stored\npredictions, and one hash over the tables that the model "
        "reads.\n",
        table(
            ["query", "DuckDB ms", "all ms", "beyond DuckDB ms"],
            [
                [
                    f"`{run['query']}`",
                    f"{run['duckdb_ms']:.0f}",
                    f"{run['answer_and_complaint_ms']:.0f}",
                    f"{run['beyond_duckdb_ms']:.0f}",
                ]
                for run in settings["new_queries"]
            ],
        ),
        f"\nOpening an index of {settings['opening'][0]['rows']:,} rows and ten interventions a "
        "row, in a process of its own, median of five:\n",
        table(
            ["compared with checksums", "ms", "memory grows by MB"],
            [
                [_CHECKED[run["verify"]], f"{run['ms']:.1f}", f"{run['grown_mb']:.1f}"]
                for run in settings["opening"]
            ],
        ),
    ]
    return "\n".join(parts) + "\n"


_COLUMNS = [
    "query", "interventions", "k", "p50", "p95", "new cell p50", "p95", "cold", "read",
    "p50 / read", "sql", "index built s",
]  # fmt: skip


def _complaints(run: Run) -> list[str]:
    return [
        run["query"],
        f"{run['interventions']:,}",
        str(run["k"]),
        f"{run['p50_ms']:.2f}",
        f"{run['p95_ms']:.2f}",
        f"{run['first_p50_ms']:.2f}",
        f"{run['first_p95_ms']:.2f}",
        f"{run['cold_ms']:.1f}",
        f"{run['read_ms']:.2f}",
        f"{run['p50_ms'] / run['read_ms']:.1f}",
        f"{run['sql_ms']:.0f}",
        f"{run['index_seconds']:.1f}",
    ]
