"""The sections of the page of results about putting complaints together and about relaxations."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from experiments.markdown import table

Run = dict[str, Any]


def adult_together(body: Run) -> str:
    """AUC_R of each set of complaints by rate, and against the complaints alone."""
    runs, rates = body["runs"], body["settings"]["rates"]
    sets = list(dict.fromkeys(tuple(run["asked"]) for run in runs))
    rows = [
        [
            " + ".join(asked) or "loss alone",
            *(_mean_worst(_of(runs, asked, rate)) for rate in rates),
            _gain(runs, asked, asked),
            *(_gain(runs, asked, {query} & set(asked)) for query in ("Q6", "Q7")),
            _cosine(runs, asked),
        ]
        for asked in sets
    ]
    columns = ["asked", *(f"{rate:.0%}: mean / worst" for rate in rates)]
    columns += ["against its best", "against Q6", "against Q7", "least cosine"]
    return (
        "## Complaints together\n\n"
        f"ADULT, {runs[0]['train_rows']:,} rows, low earners among private-sector men labelled "
        f"high, {len(body['settings']['seeds'])} seeds. Q4: private-sector\nmen, Q5: the private "
        "sector, Q6: men, Q7: everybody; all shares are too high. AUC_R of deletions. *Against*:\n"
        "mean difference to what one of its complaints has alone in the same run, *its best* to "
        "the best of them.\n*Least cosine*: between two of them, mean.\n\n"
        + table(columns, rows)
        + "\n"
    )


def _of(runs: list[Run], asked: tuple[str, ...], rate: float) -> list[float]:
    return [r["auc_r"] for r in runs if tuple(r["asked"]) == asked and r["rate"] == rate]


def _mean_worst(scores: list[float]) -> str:
    return f"{statistics.mean(scores):.3f} / {min(scores):.3f}"


def _gain(runs: list[Run], asked: tuple[str, ...], against: Iterable[str]) -> str:
    """Mean difference to the best of the complaints `against`; nothing for a single one."""
    queries = list(against)
    if len(asked) < 2 or not queries:
        return ""
    alone = {(r["rate"], r["seed"], *r["asked"]): r["auc_r"] for r in runs if len(r["asked"]) == 1}
    gains = [
        run["auc_r"] - max(alone[run["rate"], run["seed"], query] for query in queries)
        for run in runs
        if tuple(run["asked"]) == asked
    ]
    return f"{statistics.mean(gains):+.3f}"


def _cosine(runs: list[Run], asked: tuple[str, ...]) -> str:
    if len(asked) < 2:
        return ""
    found = [run["least_cosine"] for run in runs if tuple(run["asked"]) == asked]
    return f"{statistics.mean(found):.2f}"


def relaxed_twice(body: Run) -> str:
    """Both relaxations by query, and the verdict of the rule that was fixed before the runs."""
    settings, runs = body["settings"], body["runs"]
    queries = list(dict.fromkeys(run["query"] for run in runs))
    rows = [
        _relaxed_row(query, [run for run in runs if run["query"] == query], settings)
        for query in queries
    ]
    columns = [
        "query", "runs", "exact: mean / worst", "Rain: mean / worst", "exact − Rain",
        "exact ahead / behind", "expected", "verdict", "correlation", "exact s", "Rain s",
    ]  # fmt: skip
    rates = sorted({run["rate"] for run in runs})
    confirmed = [row[0] for row in rows if row[6] == row[7] == "better"]
    expected = [query for query in queries if query not in settings["linear"]]
    return (
        "## Exact expectation against Rain's relaxation where a prediction is used twice\n\n"
        f"MNIST logistic regression, {settings['rows']:,} rows, {rates[0]:.0%} to {rates[-1]:.0%} "
        f"of the 1s labelled 7, {len(settings['seeds'])} seeds each. Queries, complaints and the "
        "rule\nwere written down before the first run (`experiments/relaxed_twice.py`). *Better*: "
        f"AUC_R of deletions higher by {settings['better']}\non average and ahead in "
        f"{settings['ahead']} of 12 runs. *Correlation* of the two scores of all rows, mean; *s*: "
        "query, complaint and\nranking, median.\n\n" + table(columns, rows) + "\n\n"
        f"Expected to be better: {', '.join(expected)}. So it is in: "
        f"{', '.join(confirmed) or 'none'}. {_misled(runs)}\n"
    )


def _misled(runs: list[Run]) -> str:
    """How often the truth lies where the planted errors did not push from."""
    found = [r for r in runs if not r["right"] and max(r["exact_auc_r"], r["rain_auc_r"]) < 0.01]
    counts = Counter(run["query"] for run in found)
    told = ", ".join(f"{number} of {query}" for query, number in counts.items())
    return (
        f"In some runs ({told}) the true answer\nlies the other way than the planted errors moved "
        "the query, and both relaxations find none of them."
    )


def _relaxed_row(query: str, group: list[Run], rule: Run) -> list[str]:
    runs = [run for run in group if not run["right"]]
    exact, rain = ([run[f"{mode}_auc_r"] for run in runs] for mode in ("exact", "rain"))
    gains = [one - other for one, other in zip(exact, rain, strict=True)]
    seconds = (
        statistics.median(run[f"{mode}_seconds"] for run in runs) for mode in ("exact", "rain")
    )
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return [
        query,
        str(len(runs)),
        _mean_worst(exact),
        _mean_worst(rain),
        f"{statistics.mean(gains):+.4f}",
        f"{ahead} / {behind}",
        "no difference" if query in rule["linear"] else "better",
        verdict(gains, rule),
        f"{statistics.mean(run['correlation'] for run in runs):.4f}",
        *(f"{value:.2f}" for value in seconds),
    ]


def verdict(gains: list[float], rule: Run) -> str:
    """The rule that was fixed before the runs, for exact minus Rain's AUC_R."""
    mean = statistics.mean(gains)
    for sign, name in ((1, "better"), (-1, "worse")):
        if sign * mean >= rule["better"] and sum(sign * g > 0 for g in gains) >= rule["ahead"]:
            return name
    return "no difference"
