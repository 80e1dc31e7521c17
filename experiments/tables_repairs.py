"""The sections of the page of results about repairs: the loop, and predicates that explain."""

from __future__ import annotations

import statistics
from typing import Any

from experiments.markdown import table

Run = dict[str, Any]


def repair_loop(body: Run) -> str:
    """What the loop touched, and the counts it ended at."""
    settings = body["settings"]
    rows = [
        [
            run["kinds"],
            str(run["seed"]),
            str(run["planted"]),
            f"{run['touched']} ({run['touched_over_planted']:.2f})",
            f"{run['right']:.2f}",
            f"{run['count_before']:.0f}",
            f"{run['count_after']:.0f}",
            str(run["count_clean"]),
            f"{run['largest_error_before']:.1%}",
            f"{run['largest_error_of_a_class']:.1%}",
            str(len(run["rounds"])),
            f"{run['seconds']:.0f}",
        ]
        for run in body["runs"]
    ]
    return (
        "## The repair loop\n\n"
        f"MNIST, logistic regression, {settings['rows']:,} rows, {settings['rate']:.0%} of the 1s "
        "labelled 7. The complaint: the count of predicted 1s\nshould be that of a model trained "
        "on clean labels. *Touched* in brackets over the planted errors; *right* the\nshare of "
        "touched rows that were planted; *worst class* the largest relative error of any class's "
        "count.\n\n"
        + table(
            ["kinds", "seed", "planted", "touched", "right", "count before", "after", "clean",
             "worst class before", "after", "rounds", "s"],
            rows,
        )
        + "\n"
    )  # fmt: skip


def explain_adult(body: Run) -> str:
    """Where the planted predicate stands among those that are given."""
    queries = sorted({run["query"] for run in body["runs"]})
    rows: list[list[str]] = []
    for query in queries:
        runs = [run for run in body["runs"] if run["query"] == query]
        places = ["none" if run["place"] is None else str(run["place"]) for run in runs]
        rows.append(
            [
                query,
                ", ".join(places),
                str(sum(run["place"] is not None and run["place"] <= 3 for run in runs)),
                f"`{statistics.mode(run['first'] for run in runs)}`",
                f"{statistics.median(run['seconds'] for run in runs):.1f}",
            ]
        )
    return (
        "## Predicates that explain a ranking\n\n"
        f"ADULT, {body['settings']['rate']:.0%} of the low earners among private-sector men "
        "labelled high; seeds "
        f"{', '.join(map(str, body['settings']['seeds']))}. *Place* of the planted predicate\n"
        "`workclass = 'Private' AND sex = 'Male' AND label = 1` among those of `ranking.explain`. "
        "The vaguer the complaint, from Q4\n(private-sector men) to Q7 (everybody), the vaguer "
        "the predicate.\n\n"
        + table(["complaint", "place", "in the first 3", "commonest first", "s"], rows)
        + "\n"
    )


def fix_families(body: Run) -> str:
    """Families of changes on salt and pepper: AUC_R of each, and which is called best."""
    settings, runs = body["settings"], body["runs"]
    families = list(dict.fromkeys(run["family"] for run in runs))
    rows: list[list[str]] = []
    for rate in sorted({float(run["rate"]) for run in runs}):
        for family in families:
            group = [run for run in runs if run["rate"] == rate and run["family"] == family]
            scores = [run["auc_r"] for run in group]
            rows.append(
                [
                    f"{rate:.0%}",
                    family,
                    f"{statistics.mean(scores):.3f} / {min(scores):.3f}",
                    f"{statistics.mean(run['together'] for run in group):.0f}",
                    ", ".join(str(run["place"]) for run in group),
                ]
            )
    return (
        "## Which kind of change resolves a complaint (Fig. 15)\n\n"
        f"MNIST, logistic regression, {settings['rows']:,} rows; salt and pepper on "
        f"{settings['pixels']:.0%} of the pixels of a share of the 1s. The complaint: too\nfew "
        "predicted 1s. *AUC_R* of each family's own scores, mean / worst; *together* what its best "
        "rows are predicted to do, as\nmany as are corrupted; *place* among the families by that, "
        "for each seed. The paper has deletion near 0 and the median\nfilter from 0.65 up to 1 "
        "at rates of 70 % to 100 %.\n\n"
        + table(["rate", "family", "AUC_R", "together", "place"], rows)
        + "\n"
    )
