"""Long runs of the relaxation against oracles nobody on our side wrote: DuckDB and enumeration.

    python -m experiments.relaxation_corpus generated --queries 10000
    python -m experiments.relaxation_corpus onehot --queries 5000 [--sqlglot-sdist PATH]
    python -m experiments.relaxation_corpus tpch --sqlglot-sdist PATH

PATH is the source distribution of sqlglot, unpacked (`pip download --no-binary :all: --no-deps
sqlglot`): its test fixtures hold the TPC-H and TPC-DS queries with data. Each command writes
``results/relaxation_<command>.json``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from experiments import results
from tests.relax import corpus_runs, corpus_tpch

DATABASE_SHARE = 20
"""Queries asked of one random database."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["generated", "onehot", "tpch"])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sqlglot-sdist", type=Path, default=None)
    arguments = parser.parse_args()
    run: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "generated": generated,
        "onehot": onehot,
        "tpch": tpch,
    }
    started = time.perf_counter()
    record = run[arguments.command](arguments)
    record["seconds"] = round(time.perf_counter() - started, 1)
    settings = {"queries": arguments.queries, "seed": arguments.seed}
    command = f"python -m experiments.relaxation_corpus {arguments.command}"
    name = f"relaxation_{arguments.command}"
    print(results.save(name, command=command, settings=settings, runs=[record]))


def generated(arguments: argparse.Namespace) -> dict[str, Any]:
    """Random queries against enumeration of their possible worlds."""
    return _counted(_spread(corpus_runs.enumerated, arguments))


def onehot(arguments: argparse.Namespace) -> dict[str, Any]:
    """Random queries, and the fixtures of sqlglot, with certain predictions against DuckDB."""
    record = _counted(_spread(corpus_runs.certain, arguments))
    if arguments.sqlglot_sdist is None:
        record["fixtures"] = "skipped: no --sqlglot-sdist"
    else:
        record["fixtures"] = corpus_tpch.certain_fixtures(arguments.sqlglot_sdist)
    return record


def tpch(arguments: argparse.Namespace) -> dict[str, Any]:
    """The 22 TPC-H queries with a learned predicate, certain and uncertain."""
    if arguments.sqlglot_sdist is None:
        raise SystemExit("give --sqlglot-sdist: the queries and data are not part of this project")
    rows: list[dict[str, Any]] = []
    for row in corpus_tpch.table(arguments.sqlglot_sdist):
        print(row, flush=True)
        rows.append(row)
    return {"queries": rows, "counts": dict(Counter(row["certain"] for row in rows))}


def _spread(work: Callable[[int, int], Any], arguments: argparse.Namespace) -> Iterable[Any]:
    count = -(-arguments.queries // DATABASE_SHARE)
    seeds = range(arguments.seed, arguments.seed + count)
    with ProcessPoolExecutor(arguments.processes) as pool:
        for number, found in enumerate(pool.map(work, seeds, [DATABASE_SHARE] * count), 1):
            if number % 25 == 0:
                print(f"{number * DATABASE_SHARE} queries", flush=True)
            yield from found


def _counted(outcomes: Iterable[corpus_runs.Outcome]) -> dict[str, Any]:
    """Statuses, constructs and refusals tallied; every disagreement in full."""
    statuses: Counter[str] = Counter()
    constructs: dict[str, Counter[str]] = {}
    refusals: Counter[str] = Counter()
    methods: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    covered: list[bool] = []
    for outcome in outcomes:
        status = outcome.verdict.status
        statuses[status] += 1
        for construct in outcome.query.constructs:
            constructs.setdefault(construct, Counter())[status] += 1
        methods[outcome.verdict.method.split(";")[0]] += 1
        if status == "refused":
            refusals[outcome.verdict.detail] += 1
        if status == "approximate":
            covered += outcome.verdict.covered
        if status in ("wrong", "crash"):
            found.append(corpus_runs.described(outcome))
            print(found[-1], flush=True)
    return {
        "queries": sum(statuses.values()),
        "statuses": dict(statuses),
        "constructs": {name: dict(counts) for name, counts in sorted(constructs.items())},
        "methods": dict(methods.most_common(20)),
        "refusals": dict(refusals.most_common(40)),
        "disagreements": len(found),
        "found": found[:40],
        "approximate_cells": len(covered),
        "covered_by_error_bar": round(sum(covered) / len(covered), 4) if covered else None,
    }


if __name__ == "__main__":
    main()
