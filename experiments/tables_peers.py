"""The section of the page of results that sets rainpp beside general attribution libraries."""

from __future__ import annotations

from typing import Any

Run = dict[str, Any]

_MODELS = {"logistic": "Logistic regression", "mlp": "Two-layer network"}
_COLUMNS = [
    "library", "called", "offline s", "first complaint s", "both, times ours",
    "second complaint s", "first, times our second", "second, times our second", "AUC_R",
]  # fmt: skip


def peers(body: Run) -> str:
    """The section: a table per model, rainpp's row first."""
    settings = body["settings"]
    parts = [
        "## From a trained model to a complaint, beside general attribution libraries\n",
        f"MNIST, {settings['rate']:.0%} of the 1s labelled 7; the count of predicted 1s is too "
        f"low. The same weights and {settings['threads']}\nthreads, one after the other. *Second "
        "complaint* is about the count of another digit, after whatever\na library kept from the "
        "first; for rainpp the median of nine. The query is in the first complaint,\nnot in the "
        "second; the others run no SQL. *Both* is offline and first complaint together. *Ours* "
        "is\nthe first row: the others score deletions only. Of a score and its negative the "
        "better counts.\n*Called* is the method and the arguments of\n"
        f"`{_scripts(body['runs'])}`, in `experiments/peers`.\n"
        f"Versions: {_versions(body['runs'])}.\n{_load(body['runs'])}\n",
    ]
    for model, title in _MODELS.items():
        runs = [run for run in body["runs"] if run["model"] == model]
        if runs:
            about = f"{title}, {runs[0]['rows']:,} rows, {runs[0]['parameters']:,} parameters:"
            rows = [_row(run, settings["limit_seconds"]) for run in runs]
            parts += [about + "\n", _table(rows) + "\n"]
    return "\n".join(parts)


def _row(run: Run, limit: int) -> list[str]:
    late = f"not within {limit:,} s"
    cells = [run["library"], f"`{run['method']}`"]
    if "first_seconds" not in run:
        return [*cells, "", late, "", "", "", "", ""]
    return [
        *cells,
        _seconds(run["offline_seconds"]),
        _seconds(run["first_seconds"]),
        _times(run, "times_from_nothing"),
        _seconds(run["second_seconds"]) if "second_seconds" in run else late,
        _times(run, "times_first"),
        _times(run, "times_second"),
        f"{run['auc_r']:.4f}",
    ]


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def _times(run: Run, key: str) -> str:
    """Nothing for rainpp itself, and for what did not end."""
    if key not in run:
        return ""
    return f"{run[key]:.2g}" if run[key] < 100 else f"{run[key]:,.0f}"


def _scripts(runs: list[Run]) -> str:
    return "`, `".join(sorted({run["script"] for run in runs if "script" in run}))


def _load(runs: list[Run]) -> str:
    """How busy the machine was with other work, as far as the runs can say."""
    cores = [run["cores"] for run in runs if "cores" in run]
    return f"Processor time over wall time: {min(cores):.1f} to {max(cores):.1f} in a row."


def _versions(runs: list[Run]) -> str:
    return ", ".join(sorted({found for run in runs for found in run.get("versions", [])}))


def _table(rows: list[list[str]]) -> str:
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
