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
    """Families of changes on corrupted rows: AUC_R of each, and which is called best."""
    runs = body["runs"]
    rows = [
        _family_row([run for run in runs if (run["case"], run["rate"], run["family"]) == key])
        for key in dict.fromkeys((run["case"], run["rate"], run["family"]) for run in runs)
    ]
    firsts = [run for run in runs if run["place"] == 1]
    right = sum(_is_right(run) for run in firsts)
    return (
        "## Which kind of change resolves a complaint (Fig. 15)\n\n"
        "A share of the rows of class 1 has its inputs corrupted (*salt* and pepper, MNIST; hours "
        "per day for hours per week,\n*unit*, and years of education *missing*, ADULT; "
        "*spelling*, SST-2), or its labels (*labels*, 1s labelled 7). The complaint:\nthe count of "
        "predicted 1s should be that of a model trained on clean rows. *AUC_R* of each family's "
        "own scores, mean / worst of\nthe seeds; *share* of what is missing to that count that its "
        "best rows bring, as many as are corrupted; *credible* and\n*control*: whether its claims "
        "about the rows hold, and those of as many changes the other way; *place* by share and "
        "lead\nover the control, for each seed. The paper has deletion near 0 and the right repair "
        "from 0.65 up.\n"
        f"The right family comes first in\n**{right} of {len(firsts)}** comparisons (of wrong "
        "labels, deleting and relabelling are both right).\n\n"
        + table(["case", "rate", "family", "AUC_R", "share", "credible", "control", "place"], rows)
        + "\n"
    )


def _is_right(run: Run) -> bool:
    return run["family"] == run["right"] or (run["case"], run["family"]) == ("labels", "delete")


def _family_row(group: list[Run]) -> list[str]:
    first = group[0]
    scores = [run["auc_r"] for run in group]
    known = {
        name: [run[name] for run in group if run[name] == run[name]]
        for name in ("share", "credible", "control")
    }
    bold = "**" if first["family"] == first["right"] else ""
    return [
        first["case"],
        f"{first['rate']:.0%}",
        f"{bold}{first['family']}{bold}",
        f"{statistics.mean(scores):.3f} / {min(scores):.3f}",
        *(f"{statistics.mean(values):.2f}" if values else "" for values in known.values()),
        ", ".join(str(run["place"]) for run in group),
    ]


def adult_vague(body: Run) -> str:
    """AUC_R of a vague complaint, and of what makes it less vague."""
    names = list(dict.fromkeys(run["asked"] for run in body["runs"]))
    rows: list[list[str]] = []
    for name in names:
        scores = [run["auc_r"] for run in body["runs"] if run["asked"] == name]
        rows.append([name, f"{statistics.mean(scores):.3f}", f"{min(scores):.3f}"])
    return (
        "## A vague complaint, sharpened\n\n"
        f"ADULT, {body['settings']['rate']:.0%} of the low earners among private-sector men "
        f"labelled high, {len(body['settings']['seeds'])} seeds. Q7: too many of all\npeople are "
        "predicted to earn much. *Held*: cells somebody knows to be right, `rank(keep=[...])`: the "
        "shares among women\nand outside the private sector. *Predicate 1* to *5*: the rows of "
        "the first predicates of `ranking.explain` before\nall others. Q4 asks about exactly the "
        "group with the errors.\n\n" + table(["asked", "AUC_R, mean", "worst"], rows) + "\n"
    )


def plausibility(body: Run) -> str:
    """What the plausibility of new labels does to the first N rows."""
    runs = body["runs"]
    rows: list[list[str]] = []
    keys = dict.fromkeys((run["model"], tuple(run["flip"]), run["ranking"]) for run in runs)
    for model, (old, new), ranking in keys:
        group = [
            run
            for run in runs
            if (run["model"], tuple(run["flip"]), run["ranking"]) == (model, (old, new), ranking)
        ]
        means = {
            name: statistics.mean(run[name] for run in group)
            for name in ("precision", "right_label", "auc_r", "log_loss")
        }
        rows.append(
            [
                model,
                f"{old} → {new}",
                ranking,
                f"{means['precision']:.3f}",
                f"{means['right_label']:.1%}",
                f"{means['auc_r']:.3f}",
                f"{means['log_loss']:.3f}",
            ]
        )
    return (
        "## How plausible a new label is\n\n"
        f"MNIST, {body['settings']['rows']:,} rows, {body['settings']['rate']:.0%} of a class "
        f"labelled as another, means of {len(body['settings']['seeds'])} seeds. *Model's*: "
        "plausibility is the model's own\nprobability of the new label; *unseen*: "
        "`rainpp.label_probabilities`, models that have not seen the row, corrected for how\noften "
        "one class is labelled as another; *corrected*: the model's own, corrected. *Precision*: "
        "planted rows among the first\nN, N being how many were planted; *right label*: of those, "
        "the share whose best new label is the true one; *log loss*:\nof the true labels.\n\n"
        + table(
            ["model", "labels", "ranking", "precision", "right label", "AUC_R", "log loss"], rows
        )
        + "\n"
    )
