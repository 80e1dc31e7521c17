"""The sections of the page of results about the online stage."""

from __future__ import annotations

from collections import Counter
from typing import Any

from experiments.markdown import table
from experiments.wrong_complaints import area

Run = dict[str, Any]

_MEASURES = {"score": "trust", "reach": "reach", "pair_share": "pair share"}
_KINDS = ("right", "misdirected", "irrelevant", "satisfied")
_CALLED = {
    "right": "right",
    "misdirected": "misdirected",
    "no errors found": "no errors",
    "already satisfied": "satisfied",
    "unknown": "cannot tell",
}


def wrong_complaints(body: Run) -> str:
    """How well right complaints are told from wrong ones, and what each kind was called."""
    judging = [run for run in body["runs"] if run["model"] != "adult"]
    groups = {
        "set on (1 -> 7)": [run for run in judging if run["use"] == "fit"],
        "held out": [run for run in judging if run["use"] != "fit"],
        "held out, all images": [r for r in judging if r["use"] != "fit" and "all" in r["scope"]],
        "held out, a quarter": [
            r for r in judging if r["use"] != "fit" and "all" not in r["scope"]
        ],
        "ADULT": [run for run in body["runs"] if run["model"] == "adult"],
    }
    refused = [run["refused"] for run in body["runs"]]
    told, of = (sum(item[name] for item in refused) for name in ("refused", "of"))
    return (
        "## Right and wrong complaints\n\n"
        f"{_planted(body)}\n\nArea under the ROC curve of right complaints against all others. "
        "*Trust* is `ranking.trust.score`; *reach* the\nsummed score of the best relabels of the "
        "top 1 000 rows, *pair share* the share of the commonest relabel\namong 200, for "
        "comparison.\n\n"
        + table(
            ["cases", "right / wrong", *(f"{name} AUC" for name in _MEASURES.values())],
            [[name, *_areas(runs)] for name, runs in groups.items() if runs],
        )
        + "\n\nBy case; the errors of 30 % are the hardest, as the wrong labels become the "
        "model's own view.\n\n"
        + table(["case", "AUC", "least right", "largest wrong"], [_case(run) for run in judging])
        + "\n\nVerdicts on MNIST:\n\n"
        + table(["complaint", *_CALLED.values()], _verdicts(judging))
        + f"\n\nTargets that the plain number meets: {told} of {of} refused by `complain`. "
        "*Satisfied* complaints have a target between the\nplain and the expected number; those "
        "about a planted digit ask for the wrong direction. With the two\nclasses of ADULT trust "
        f"gives numbers but no verdict: {_adult_verdicts(body)}.\n"
    )


def _planted(body: Run) -> str:
    return (
        f"MNIST, {body['settings']['rows']:,} training rows, with the labels of one or two digits "
        "wrong; every digit's count is called\ntoo low and too high. ADULT with private-sector "
        "men labelled high."
    )


def _scores(runs: list[Run], measure: str) -> tuple[list[float], list[float]]:
    items = [item for run in runs for item in run["complaints"]]
    return (
        [item[measure] for item in items if item["kind"] == "right"],
        [item[measure] for item in items if item["kind"] != "right"],
    )


def _areas(runs: list[Run]) -> list[str]:
    right, wrong = _scores(runs, "score")
    found = [area(*_scores(runs, measure)) for measure in _MEASURES]
    return [f"{len(right)} / {len(wrong)}", *(f"{value:.3f}" for value in found)]


def _case(run: Run) -> list[str]:
    right, wrong = _scores([run], "score")
    pairs = ", ".join(f"{a} -> {b}" for a, b in run["pairs"]) or "none planted"
    rate = f" {run['rate']:.0%}" if run["pairs"] else ""
    return [
        f"{run['model']}, {pairs}{rate}, {run['scope']}",
        f"{area(right, wrong):.3f}" if right else "",
        f"{min(right):.2f}" if right else "",
        f"{max(wrong):.2f}",
    ]


def _verdicts(runs: list[Run]) -> list[list[str]]:
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in _KINDS}
    for run in runs:
        for item in run["complaints"]:
            counts[item["kind"]][item["verdict"]] += 1
    return [[kind, *(str(counts[kind][name]) for name in _CALLED)] for kind in _KINDS]


def _adult_verdicts(body: Run) -> str:
    items = [i for run in body["runs"] if run["model"] == "adult" for i in run["complaints"]]
    unknown = sum(item["verdict"] == "unknown" for item in items)
    return f"{unknown} of {len(items)} complaints are called unknown"
