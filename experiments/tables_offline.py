"""Sections of the page of results about the offline stage; see `experiments.tables`."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import results
from experiments.markdown import table
from rainpp.lanczos.choose_k import choose_k as rule
from rainpp.lanczos.choose_k import is_determined

Run = dict[str, Any]

# k of the paper's own rule by data set (Flokas et al. 2022, §6.4).
PAPERS_K = {"MNIST": 10, "CIFAR-10": 13, "SST-2": 2, "ADULT": 6}
# A k is good enough when it reaches this share of the best k's AUC_R.
ENOUGH = 0.98
RATIOS = ("work_ratio", "time_ratio", "again_ratio")
_SMALL_NETWORKS = (
    "Sizes are what two cores allow: 1 500 to 4 000 rows, few passes, networks far from the\n"
    "paper's accuracy. "
)


def choose_k(body: Run) -> str:
    """AUC_R of the automatic k, of the paper's rule, and of the best k, by case and query."""
    pairs = [(run, query) for run in body["runs"] for query in sorted(run["auc_r"])]
    rows = [_k_row(*pair) for pair in pairs]
    good = sum(row[-1] == "yes" for row in rows)
    columns = [
        "case", "parameters", "train rows", "query", "best AUC_R at k", "automatic k", "AUC_R",
        "paper's rule k", "AUC_R", "paper's k", "all, damped", f"automatic reaches {ENOUGH:.0%}",
    ]  # fmt: skip
    return (
        f"## {_k_title(body)}\n\n"
        f"The automatic k reaches {ENOUGH:.0%} of the best AUC_R in {good} of {len(rows)} rows.\n"
        f"{_without_floor(pairs)}"
        "*Paper's rule* is the first inflection of the same spectrum (`k='inflection'`), *paper's\n"
        "k* what the paper found by it (§6.4). *All, damped*: AUC_R of every eigenpair there is, "
        "divided by λ + λ₁ instead of λ.\n"
        f"{_about_pixels(body)}\n{table(columns, rows)}\n"
    )


def _without_floor(pairs: list[tuple[Run, str]]) -> str:
    """What a rule that knows nothing of the number of classes would do to the same rows."""
    ratios, changes = [], []
    for run, query in pairs:
        found, kept = run["auc_r"][query], _at(run["auc_r"][query], run["k"])
        other = _at(found, _k_without_floor(run))
        if kept is not None and other is not None:
            ratios.append(other / max(found))
            changes.append(other - kept)
    good = sum(ratio >= ENOUGH for ratio in ratios)
    return (
        f"Without its floor of R − 2 pairs for R classes it would in {good}, with AUC_R "
        f"{np.mean(changes):+.3f} on average\nand {min(changes):+.3f} at worst.\n"
        if changes
        else ""
    )


def _k_without_floor(run: Run) -> int | None:
    """The automatic k of two classes, which is as good as of none."""
    determined = is_determined(run["train_rows"], run["parameters"])
    return rule(np.array(run["eigenvalues"]), 2, many=determined)


def _k_title(body: Run) -> str:
    return (
        "The number of eigenpairs: small CNN, WRN and LSTM"
        if body["experiment"] == "choose_k_deep"
        else "The number of eigenpairs: AUC_R of the k that is chosen against the best k"
    )


def _k_row(run: Run, query: str) -> list[str]:
    found = run["auc_r"][query]
    best = max(found)
    chosen = _at(found, run["k"])
    enough = chosen is not None and chosen >= ENOUGH * best
    paper = next((k for name, k in PAPERS_K.items() if run["case"].startswith(name)), None)
    return [
        run["case"],
        f"{run['parameters']:,}",
        f"{run['train_rows']:,}",
        query,
        f"{best:.3f} at {found.index(best) + 1}",
        *_k_and_quality(found, run["k"]),
        *_k_and_quality(found, run["k_inflection"]),
        str(paper),
        f"{run['auc_r_damped'][query][-1]:.3f}",
        "yes" if enough else "no",
    ]


def _at(found: list[float], k: int | None) -> float | None:
    """AUC_R at k, None where the spectrum that was computed does not settle k."""
    return None if k is None or k > len(found) else found[k - 1]


def _k_and_quality(found: list[float], k: int | None) -> list[str]:
    value = _at(found, k)
    more = f"more than {len(found)}"
    return [more if k is None else str(k), "" if value is None else f"{value:.3f}"]


def _about_pixels(body: Run) -> str:
    """How small the networks are and what happened to the photos, for cases that have any."""
    forms = sorted({run["images"] for run in body["runs"] if "images" in run})
    if not forms:
        return ""
    pixels = f"CIFAR-10's images: {', '.join(forms)}. Complaints read the first 1 000 test images."
    return f"{_SMALL_NETWORKS}{pixels}\n"


def subsample(body: Run) -> str:
    """Eigenpairs from some rows against those of all."""
    columns = [
        "case", "parameters", "train rows", "k", "asked", "rows", "less work", "less time",
        "and again", "correlation, random complaints: median / tenth / worst", "about 1 row",
        "AUC_R", "AUC_R − all rows'",
    ]  # fmt: skip
    whole = {run["case"]: run for run in body["runs"] if run["asked"] == "all"}
    rows = [_subsample_row(run, whole[run["case"]]) for run in body["runs"]]
    return (
        "## Curvature from a subsample against all rows\n\n"
        "*auto* draws two halves that grow until they agree, and takes all rows where halves\n"
        "would cost more. *Work* is how many rows went through curvature products, trials and\n"
        "padding included: 2.0 is half of what all rows take; *time* is by the clock of a machine\n"
        "shared with others, *again* when all is compiled. Correlations are of all training rows'\n"
        "scores with those from all rows; *about 1 row*: a complaint about one prediction.\n"
        f"{_about_pixels(body)}{_unmeasured(body)}\n{table(columns, rows)}\n"
    )


def _unmeasured(body: Run) -> str:
    """Names the kind of network that has no result."""
    if any(" wrn" in run["case"] for run in body["runs"]):
        return ""
    return "No WRN has been measured yet (`--cases photos-wrn`).\n"


def _subsample_row(run: Run, whole: Run) -> list[str]:
    reference = run is whole
    qualities = [f"{query} {value:.3f}" for query, value in sorted(run["auc_r"].items())]
    changes = [
        f"{query} {value - whole['auc_r'][query]:+.3f}"
        for query, value in sorted(run["auc_r"].items())
    ]
    random = run.get("random")
    return [
        run["case"],
        f"{run['parameters']:,}",
        f"{run['train_rows']:,}",
        str(run.get("k", 10)),
        str(run["asked"]),
        f"{run['rows']:,}",
        *(f"{run[name]:.1f}" if name in run else "" for name in RATIOS),
        "" if random is None else " / ".join(
            f"{random[name]:.3f}" for name in ("median", "tenth", "worst")
        ),
        "" if reference else f"{run['correlation']['narrow 1']:.3f}",
        ", ".join(qualities),
        "" if reference else ", ".join(changes),
    ]  # fmt: skip


def scaling(body: Run) -> str:
    """Seconds and memory by rows and parameters."""
    runs = [run for run in body["runs"] if "rows" in run]
    (fits,) = [run for run in body["runs"] if "rows" not in run]
    columns = [
        "rows", "parameters", "curvature rows", "seconds", "data MB", "index MB",
        "peak MB above the data",
    ]  # fmt: skip
    rows = [
        [
            f"{run['rows']:,}",
            f"{run['parameters']:,}",
            f"{run['curvature_rows']:,}",
            f"{run['seconds']:.1f}",
            *(f"{run[key]:,.0f}" for key in ("data_mb", "index_mb", "above_data_mb")),
        ]
        for run in runs
    ]
    return (
        "## Time and memory of the offline stage by size\n\n"
        f"Softmax regression, k = {body['settings']['k']}, deletions and relabels, index on disk. "
        f"Seconds grow as rows^{fits['exponent_in_rows']}\nand as "
        f"parameters^{fits['exponent_in_parameters']} between the largest two sizes of each.\n\n"
        f"{table(columns, rows)}\n"
    )


def damping(body: Run) -> str:
    """Retraining correlation of undamped and damped scores by k."""
    settings = body["settings"]
    shares = sorted(body["runs"][0]["lds"], key=float, reverse=True)
    by_k: dict[int, dict[str, Run]] = {}
    for run in body["runs"]:
        by_k.setdefault(run["k"], {})[run["damping"]] = run["lds"]
    columns = ["k", *(f"about {float(share):.3g} of the rows" for share in shares)]
    rows = [
        [
            str(k),
            *(f"{found['none'][share]:.2f} / {found['largest'][share]:.2f}" for share in shares),
        ]
        for k, found in sorted(by_k.items())
    ]
    return (
        "## Damped scores against retraining\n\n"
        f"MNIST logistic regression, {settings['rows']:,} rows: correlation of predicted with true "
        f"changes when {settings['removed']} random rows\nare removed and the model is trained "
        f"again, {settings['subsets']} times. Undamped / divided by λ + λ₁ instead of λ, by what\n"
        f"share of the test rows a complaint is about.\n\n{table(columns, rows)}\n"
    )


def wrn(body: Run) -> str:
    """The offline stage of the WRN-26."""
    (run,) = body["runs"]
    return (
        f"## The offline stage of the WRN-26: {run['train_rows']:,} rows, "
        f"{run['parameters']:,} parameters, k = {run['k']}\n\n"
        "The paper: 20 minutes on a V100, deletions only; here relabels too.\n"
        f"{_wrn_parts(run)}"
    )


def wrn_quick(body: Run) -> str:
    """What the page says while nobody has run the WRN-26: that, and the small run there is."""
    if (results.FOLDER / "offline_wrn.json").exists():
        return "## The script for the WRN-26 at a small size\n" + _wrn_parts(body["runs"][0])
    return (
        "## The offline stage of the WRN-26: not run yet\n\n"
        "`python -m experiments.offline wrn` trains the paper's WRN-26 (1.55M parameters) on\n"
        "50 000 photos and times its index at k = 20; the paper needed 20 minutes on a V100, the\n"
        "aim is 60 seconds on an H200. **It has not been run at full size, nor on a GPU.** Only\n"
        "this has, to see that the script works; it says nothing about the paper's setting:\n"
        f"{_wrn_parts(body['runs'][0])}"
    )


def _wrn_parts(run: Run) -> str:
    parts = [
        [
            part,
            f"{run[f'{part}_seconds']:.2f}",
            f"{run[f'{part}s']['tflop']:.3g}",
            f"{run[f'{part}s']['tflop_per_second']:.3g}",
            _share(run[f"{part}s"]["share_of_peak"]),
        ]
        for part in ("product", "projection")
    ]
    qualities = ", ".join(f"{query} {value:.3f}" for query, value in sorted(run["auc_r"].items()))
    return (
        f"\n{run['case']}, {run['train_rows']:,} rows, {run['parameters']:,} parameters, "
        f"k = {run['k']}, images {run['images']}:\n{run['offline_seconds']:.1f} s, and "
        f"{run['compiling_seconds']:.0f} s to compile; curvature from {run['curvature_rows']:,} "
        f"rows; AUC_R {qualities};\ntest accuracy {run['test_accuracy']:.2f}.\n\n"
        + table(["part", "seconds", "TFLOP", "TFLOP/s", "share of peak"], parts)
        + "\n"
    )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
