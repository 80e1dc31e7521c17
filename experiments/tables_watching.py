"""The sections of the page of results about the dashboard and rows over HTTP."""

from __future__ import annotations

from typing import Any

from experiments.markdown import table

Run = dict[str, Any]


def dashboard(body: Run) -> str:
    """How long a change takes to be seen, and what the page weighs."""
    settings = body["settings"]
    (weight,) = [run for run in body["runs"] if run["part"] == "weight"]
    runs = [run for run in body["runs"] if run["part"] == "pixel"]
    head = (
        "## The dashboard: from a commit to a changed pixel\n\n"
        f"{settings['rate']} batches a second into the demo's two monitors for "
        f"{settings['seconds']:g} s, in headless {settings['chromium'].split(' built')[0]}; the "
        "other pages are\nreaders of the stream that all got the same events. *Whole*: from before "
        "the batch is sent. The page is\n"
        f"{weight['bytes'] / 1000:.0f} kB in {weight['files']} files, "
        f"{weight['bytes_gzipped'] / 1000:.0f} kB compressed.\n"
    )
    columns = ["pages", "p50 ms", "p95 ms", "p99 ms", "max ms", "whole p99 ms", "changes"]
    rows = [
        [
            str(run["pages"]),
            *(f"{run[f'commit_{name}_ms']:.0f}" for name in ("p50", "p95", "p99", "p100")),
            f"{run['batch_p99_ms']:.0f}",
            str(run["changes"]),
        ]
        for run in runs
    ]
    return f"{head}\n{table(columns, rows)}\n"


def push(body: Run) -> str:
    """Rows a second over HTTP."""
    head = (
        "## Rows over HTTP\n\n"
        "Arrow bodies, one request after the other on one connection, into `rainpp watch` in a "
        "process of its own on\nthe same machine: digits of 64 pixels, a count by source of every "
        "minute. Each request is durable when it is\nanswered.\n"
    )
    columns = ["rows in a request", "rows/s", "p50 ms", "p95 ms", "requests"]
    rows = [
        [
            f"{run['rows_in_a_request']:,}",
            f"{run['rows_per_second']:,}",
            f"{run['p50_ms']:.1f}",
            f"{run['p95_ms']:.1f}",
            str(run["requests"]),
        ]
        for run in body["runs"]
    ]
    return f"{head}\n{table(columns, rows)}\n"
