"""The sections of the page of results that set rainpp beside other libraries."""

from __future__ import annotations

import statistics
from typing import Any

from experiments.markdown import table

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
            parts += [about + "\n", table(_COLUMNS, rows) + "\n"]
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


def twenty(body: Run) -> str:
    """Times of the first and the last of many complaints, memory, disk and quality, per model."""
    settings = body["settings"]
    count = settings["complaints"]
    parts = [
        f"## {count} different complaints, beside attribution libraries and cleanlab\n",
        f"MNIST, {settings['rate']:.0%} of the 1s labelled 7; the same rows, weights and "
        f"{settings['threads']} threads, each library in a fresh process,\none after the other, "
        "some in a call of their own (`--libraries`).\n"
        "First complaint: the count of predicted 1s is too low. Times are wall / processor\n"
        f"seconds of seed 0; each of the {count} is another count. AUC_R is that of the first "
        "complaint over all seeds.\n*Times ours*: processor time of "
        f"complaint {count} over rainpp's. *Memory*: the process at its peak, and before it began"
        ".\n*Disk*: what it left. rainpp also runs each query, which the section before leaves "
        "out; of the attribution libraries'\nscores and their negatives the better counts. "
        "cleanlab needs no complaint and gives each the same answer; *held out*\ntrains "
        f"{settings['folds']} more models.\nVersions: {_versions(body['runs'])}.\n"
        f"{_load([run for run in body['runs'] if run['timed']])}\n",
    ]
    for model, title in _MODELS.items():
        runs = [run for run in body["runs"] if run["model"] == model]
        if runs:
            first = runs[0]
            seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in runs}))
            about = f"{title}, {first['rows']:,} rows, {first['parameters']:,} parameters"
            parts += [f"{about}, seeds {seeds}:\n", _twenty_table(runs, settings) + "\n"]
    return "\n".join(parts)


def _twenty_table(runs: list[Run], settings: Run) -> str:
    columns = [
        "library", "called", "offline s", "complaint 1 s", f"complaint {settings['complaints']} s",
        "times ours", "memory MB", "disk MB", "AUC_R mean / worst",
    ]  # fmt: skip
    timed = [run for run in runs if run["timed"]]
    own = next(run for run in timed if run["library"] == "rainpp")
    rows = [
        _twenty_row(run, own, [r for r in runs if r["method"] == run["method"]], settings)
        for run in timed
    ]
    return table(columns, rows)


def _twenty_row(run: Run, own: Run, alike: list[Run], settings: Run) -> list[str]:
    cells = [run["library"], f"`{run['method']}`"]
    if "first_seconds" not in run:
        return [*cells, "", f"not within {settings['limit_seconds']} s", *[""] * 5]
    wall, processor = run["complaint_seconds"], run["complaint_processor"]
    reached = "" if len(wall) == settings["complaints"] else f" (complaint {len(wall)})"
    scores = [each["auc_r"] for each in alike if "auc_r" in each]
    ratio = processor[-1] / own["complaint_processor"][-1]
    return [
        *cells,
        f"{_seconds(run['offline_seconds'])} / {_seconds(run['offline_processor'])}",
        f"{_seconds(wall[0])} / {_seconds(processor[0])}",
        f"{_seconds(wall[-1])} / {_seconds(processor[-1])}{reached}",
        "" if run is own else f"{ratio:,.1f}",
        f"{1024 * run['peak_gb']:,.0f} ({1024 * run['start_gb']:,.0f})",
        f"{run['disk_mb']:.1f}",
        f"{statistics.mean(scores):.3f} / {min(scores):.3f}",
    ]
