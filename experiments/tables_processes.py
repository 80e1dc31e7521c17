"""Sections of the page of results: one core against two processes, float32 against bfloat16."""

from __future__ import annotations

from typing import Any

from experiments.markdown import table

Run = dict[str, Any]

_MODELS = {"logistic": "logistic regression", "mlp": "two-layer network"}


def processes(body: Run) -> str:
    """Seconds of `rainpp.precompute` by setup, and what two cores gain."""
    runs = body["runs"]
    busiest = max(run["load_before"] for run in runs)
    settings = body["settings"]
    head = (
        f"## The offline stage by two processes: MNIST, {runs[0]['rows']:,} rows\n\n"
        f"k = {settings['k']}, index on disk; median of {settings['repeats']} calls "
        "of `rainpp.precompute`. Every process is pinned to its\ncores, with one thread for each. "
        "*Speedup* is over one process on one core. Where the curvature comes\nfrom all rows, "
        "products and projections are nearly all of the time; from few rows, what every process\n"
        "does for itself (Lanczos, self-checks, hashing) weighs more. The load of the machine "
        f"before a run was\n{busiest:.1f} at most (1 is one core at work).\n"
    )
    columns = [
        "model", "parameters", "curvature rows", "setup", "seconds", "eigenpairs s",
        "projections s", "speedup",
    ]  # fmt: skip
    rows = [
        [
            _MODELS[run["model"]],
            f"{run['parameters']:,}",
            f"{run['used_rows']:,}",
            run["setup"],
            f"{run['seconds']:.2f}",
            f"{run['stages'].get('eigenpairs', 0.0):.2f}",
            f"{run['stages'].get('projections', 0.0):.2f}",
            f"{run['speedup']:.2f}",
        ]
        for run in runs
    ]
    return f"{head}\n{table(columns, rows)}\n"


def matmul(body: Run) -> str:
    """What bfloat16 products do to an index and to its rankings."""
    head = (
        "## Matrix products in bfloat16\n\n"
        "`rainpp.precompute(..., matmul='bfloat16')` beside float32, k chosen by the library. "
        "*Product error* is the\nself-check `float64`, *residual* that of the eigenpairs, "
        "*Spearman* between the scores of deletions in both.\n"
    )
    columns = ["case", "query", "k", "products", "product error", "residual", "AUC_R", "Spearman"]
    rows = [
        [
            run["case"],
            run["query"],
            str(run["k"]),
            run["matmul"],
            f"{run['product_error']:.1e}",
            f"{run['residual']:.1e}",
            f"{run['auc_r']:.3f}",
            f"{run['spearman']:.4f}",
        ]
        for run in sorted(body["runs"], key=lambda run: (run["case"], run["query"]))
    ]
    return f"{head}\n{table(columns, rows)}\n"


def modes(body: Run) -> str:
    """Forward mode beside reverse mode, by k."""
    ks = body["settings"]["ks"]
    head = (
        "## Training gradients on k vectors, forward mode beside reverse mode\n\n"
        f"{body['settings']['rows']} rows. Milliseconds, forward (the paper's, k tangents at "
        "once) / reverse (gradients of\na few rows at a time, times the vectors); the last column "
        "is their largest difference. `precompute`\ntakes the second for convolutions on a CPU "
        "from three vectors on, unless rows are relabelled.\n"
    )
    columns = ["network", "parameters", *(f"k = {k}" for k in ks), "ratio at k = 20", "apart"]
    rows = [
        [
            run["network"],
            f"{run['parameters']:,}",
            *(f"{run['forward_ms'][str(k)]:.4g} / {run['reverse_ms'][str(k)]:.4g}" for k in ks),
            f"{run['forward_ms']['20'] / run['reverse_ms']['20']:.2g}",
            f"{run['apart']:.0e}",
        ]
        for run in body["runs"]
    ]
    return f"{head}\n{table(columns, rows)}\n"
