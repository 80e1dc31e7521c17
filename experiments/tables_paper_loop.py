"""The sections of the page of results about Rain's loop and about Figure 9."""

from __future__ import annotations

from itertools import groupby
from statistics import mean
from typing import Any

from experiments.markdown import table
from experiments.paper.train_rank_fix import RAIN_2020, RATES

Run = dict[str, Any]


def train_rank_fix(body: Run) -> str:
    """AUC_R of the order in which rows went, by network and rate."""
    runs = sorted(body["runs"], key=_case)
    rows = [_loop(*case, list(group)) for case, group in groupby(runs, _case)]
    columns = [
        "network", "flipped", "Rain 2020", "AUC_R of the loop, mean / worst", "one shot, mean",
        "count before, after, clean", "met", "how",
    ]  # fmt: skip
    head = (
        "## Train, rank, delete, train again: Rain's own loop\n\n"
        "MNIST, 1s labelled 7, too few 1s counted; in every round the best ranked rows go,\n"
        "until as many have gone as there are errors. *One shot* is the first ranking.\n"
    )
    return f"{head}\n{table(columns, rows)}\n"


def fig9(body: Run) -> str:
    """What an update costs, by its size and what is there already."""
    runs = body["runs"]
    seen = sorted({run["seen"] for run in runs})
    times = {(run["seen"], run["update"]): run["p50_ms"] for run in runs}
    rows = [
        [f"{size:,}", *(f"{times[have, size]:.1f}" for have in seen)]
        for size in sorted({run["update"] for run in runs})
    ]
    columns = ["rows of an update", *(f"ms, {have:,} rows seen" for have in seen)]
    head = (
        "## Figure 9: keeping a count up to date\n\n"
        "MNIST logistic regression, k = 20, state in memory. The paper, on a V100: updates of up\n"
        "to 1000 rows in less than 500 ms, whatever the size of the database.\n"
    )
    return f"{head}\n{table(columns, rows)}\n"


def _case(run: Run) -> tuple[str, float]:
    return run["network"], run["rate"]


def _loop(network: str, rate: float, runs: list[Run]) -> list[str]:
    wanted = RAIN_2020[network][RATES.index(rate)]
    found = [run["auc_r"] for run in runs]
    first = runs[0]
    counts = f"{first['counts'][0]}, {first['counts'][-1]}, {first['count_clean']}"
    return [
        network,
        f"{rate:.0%}",
        f"{wanted:.2f}",
        f"{mean(found):.3f} / {min(found):.3f}",
        f"{mean(run['auc_r_once'] for run in runs):.3f}",
        counts,
        "met" if mean(found) >= wanted else "**not met**",
        f"{first['train_rows']:,} rows, {first['rounds']} rounds, {len(runs)} seed(s)",
    ]
