"""The sections of the page of results about the paper's figures of time: 1, 6 (Table 4), 7, 8, 10.

Full results stand where there are some, and small ones, which say so, where there are none.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from experiments import results
from experiments.markdown import table

Run = dict[str, Any]

NAMES = {
    "mnist logistic": "LogReg", "mnist mlp": "FeedForw", "mnist cnn": "CNN",
    "cifar10 wrn10": "WRN-10", "cifar10 wrn18": "WRN-18", "cifar10 wrn26": "WRN-26",
}  # fmt: skip
# Seconds of ∇q, of a conjugate-gradient step, of Rain's score, and of all of Rain and Rain++.
TABLE_4 = {
    "mnist logistic": (0.02, 0.23, 0.16, 0.61, 0.02),
    "mnist mlp": (0.04, 0.46, 0.16, 1.14, 0.04),
    "mnist cnn": (0.16, 1.46, 0.48, 3.50, 0.16),
    "cifar10 wrn10": (0.73, 5.90, 2.92, 26.91, 0.73),
    "cifar10 wrn18": (1.21, 9.26, 2.91, 41.02, 1.22),
    "cifar10 wrn26": (2.20, 15.86, 4.63, 71.08, 2.20),
}
K = "20"
# Above this many processes for each core a time is not to be trusted.
_BUSY = 1.0


def sections() -> Iterator[tuple[str, list[Run]]]:
    """Each figure something of which has been measured, and the results it is made from."""
    for figure, section in _SECTIONS.items():
        runs, bodies = measured(figure)
        if runs:
            yield section(runs), bodies


def measured(figure: str) -> tuple[list[Run], list[Run]]:
    """Records of a figure, full before small ones of the same part; the results used."""
    known: dict[str, Run] = {}
    bodies: list[Run] = []
    for size in ("full", "small"):
        name = f"paper_{figure}_{size}"
        if (results.FOLDER / f"{name}.json").exists():
            body = results.load(name)
            new = [run for run in body["runs"] if run["part"] not in known]
            known |= {run["part"]: run for run in new}
            bodies += [body] * bool(new)
    order = list(NAMES)
    rank = {name: place for place, name in enumerate(order)}
    return sorted(known.values(), key=lambda run: rank.get(run["part"], len(rank))), bodies


def fig1(runs: list[Run]) -> str:
    """The headline."""
    columns = ["network", "parameters", "Rain s", "Rain++ ms p50 / p95", "again", "ratio",
               "Rain: compiling s", "paper: Rain s", "how"]  # fmt: skip
    rows = [
        [
            NAMES[run["part"]],
            f"{run['parameters']:,}",
            f"{run['rain_s']:.2f}{_stopped(run)}",
            f"{run['p50_ms']:.2f} / {run['p95_ms']:.2f}",
            f"{run['again_p50_ms']:.2f}",
            f"{run['ratio']:,.0f}",
            f"{run['rain_first_call_s']:.1f}",
            f"{TABLE_4[run['part']][3]:.2f}",
            how(run),
        ]
        for run in runs
    ]
    return (
        "## Figure 1: one complaint by Rain and by Rain++\n\n"
        "A join on equal predictions gives too many rows. Paper: 1.18 minutes by Rain and about\n"
        "1 ms by Rain++ for the WRN-26, 70,000 times as fast, on a V100. *Rain*: the query's\n"
        "gradient, 2 steps of conjugate gradients on MNIST and 4 on CIFAR-10, scores of all rows.\n"
        "*Rain++*: from\n"
        f"`complain(...)` on an answer not seen before to the frame of the top 100, k = {K}, the\n"
        "inference database materialised; *again*: about the same cell once more.\n\n"
        f"{table(columns, rows)}\n\n![Time of a complaint by parameters](results/paper_fig1.svg)\n"
    )


def fig6(runs: list[Run]) -> str:
    """Table 4; the picture is Figure 6."""
    columns = ["network", "∇q", "CG step", "Rain score", "Rain", "Rain++", "Rain / Rain++",
               "Rain++ score alone, ms", "how"]  # fmt: skip
    rows = [
        [
            NAMES[run["part"]],
            *map(_beside, TABLE_4[run["part"]], _table_4(run)),
            _ratios(run),
            f"{run['rainpp_score_s'][K] * 1e3:.2f}",
            how(run),
        ]
        for run in runs
    ]
    return (
        "## Figure 6 and Table 4: the time of a complaint in its parts\n\n"
        f"Seconds, paper (V100) / ours. *Rain*: 2 steps on MNIST, 4 on CIFAR-10; *Rain++*: {K}\n"
        "eigenpairs, the query's gradient by backpropagation. Medians, all compiled before. The\n"
        "paper finds Rain++ more than ten times as fast as Rain with one step.\n\n"
        f"{table(columns, rows)}\n\n"
        "![Time by steps and by eigenpairs](results/paper_fig6.svg)\n"
    )


def fig7(runs: list[Run]) -> str:
    """The query gradient from stored projections."""
    ks = sorted(runs[0]["stored_s"], key=int)
    columns = ["network", "unoptimised ms", *(f"k = {k}, ms" for k in ks), f"ratio at k = {K}",
               "forward mode, ratio", "how"]  # fmt: skip
    rows = [
        [
            NAMES[run["part"]],
            f"{run['unoptimised_s'] * 1e3:.1f}",
            *(f"{run['stored_s'][k] * 1e3:.2f}" for k in ks),
            f"{run['unoptimised_s'] / run['stored_s'][K]:,.0f}",
            f"{run['backward_s'] / run['forward_s']:.1f}",
            how(run),
        ]
        for run in runs
    ]
    return (
        "## Figure 7: the query's gradient from stored projections\n\n"
        "*Unoptimised* is backpropagation through the inference database. Paper: more than ten\n"
        "times as fast on CIFAR-10 (§6.6), three orders of magnitude (§5.1). *Forward mode* is\n"
        f"what storing takes: {K} tangents against the gradient of every probability by\n"
        "backpropagation, on some rows; paper: 12 times as fast for the WRN-26.\n\n"
        f"{table(columns, rows)}\n\n"
        "![Query gradient by eigenpairs](results/paper_fig7.svg)\n"
    )


def fig8(runs: list[Run]) -> str:
    """The number of interventions."""
    counts = sorted({run["interventions"] for run in runs})
    columns = ["k", *(f"{count:,}" for count in counts), "millions a second, all",
               "ranking alone", "scores alone", "how"]  # fmt: skip
    rows = [_by_count(group, counts) for group in by_table_and_k(runs).values()]
    return (
        "## Figure 8: the time of a complaint by interventions\n\n"
        "MNIST's 10 000 inferences of 10 classes, ten interventions a training row. Milliseconds\n"
        "(p50) from ∂q/∂P to the frame of the top 100; interventions a second at the largest\n"
        "number. Projections are random numbers of the right shape; the size is the paper's.\n"
        "Paper (V100): about 1 ms at most, and about 28 million interventions a second; the two\n"
        "cannot both hold of one complaint about 600 000, which takes 21 ms at that speed.\n\n"
        f"{table(columns, rows)}\n\n![Time by interventions](results/paper_fig8.svg)\n"
    )


def fig10(runs: list[Run]) -> str:
    """The offline stage."""
    ks = sorted({k for run in runs for k in run["training_s"]}, key=int)
    columns = ["network", *(f"k = {k}" for k in ks), f"{K} eigenpairs", "rows of curvature",
               "compiling", "paper", "how"]  # fmt: skip
    rows = [
        [
            NAMES[run["part"]],
            *(_pair(run, k) for k in ks),
            f"{run['eigenpairs_s']:.2f}" if "eigenpairs_s" in run else "",
            f"{run['curvature_rows']:,}" if "curvature_rows" in run else "",
            f"{max(run['first_call_s'].values()):.1f}",
            "20 minutes at k = 20" if run["part"] == "cifar10 wrn26" else "",
            how(run),
        ]
        for run in runs
    ]
    return (
        "## Figure 10: the offline stage by eigenpairs\n\n"
        "Seconds of projecting training rows / the inference database on k vectors, and of\n"
        "finding eigenpairs from a sample of the rows, without compilation. The paper's number is\n"
        'for "gradients for the training set", on a V100.\n\n'
        f"{table(columns, rows)}\n\n![Offline time by eigenpairs](results/paper_fig10.svg)\n"
    )


_SECTIONS = {"fig1": fig1, "fig6": fig6, "fig7": fig7, "fig8": fig8, "fig10": fig10}


def how(run: Run) -> str:
    """Size, rows and device of a record."""
    device = run["device"].partition(": ")[2]
    if run["load"] > _BUSY:
        device += f", busy ({run['load']} processes a core)"
    if "size" not in run:
        return device
    form = "" if run["form"] == "original" else f", {run['form']}"
    rows = f"{run['train_rows']:,} rows, {run['inference_rows']:,} inferences"
    return f"{run['size']}: {rows}{form}; {device}"


def label(run: Run) -> str:
    """Of a network in a picture."""
    return NAMES[run["part"]] + " (small)" * (run["size"] == "small")


def rain_by_step(run: Run) -> list[float]:
    """Rain's seconds of a complaint with 1, 2, ... conjugate-gradient steps."""
    fixed = run["query_gradient_s"] + run["rain_score_s"]
    return [fixed + spent for spent in itertools.accumulate(run["cg_steps_s"])]


def rainpp_by_k(run: Run) -> dict[int, float]:
    """Rain++'s seconds of a complaint by eigenpairs, the gradient by backpropagation."""
    return {k: run["query_gradient_s"] + found for k, found in by_k(run["rainpp_score_s"]).items()}


def by_k(found: dict[str, float]) -> dict[int, float]:
    """Numbers by ascending k; JSON has words as keys, and sorts them as such."""
    return {k: found[str(k)] for k in sorted(map(int, found))}


def by_table_and_k(runs: list[Run]) -> dict[tuple[str, int], dict[int, Run]]:
    """Records of Figure 8 by number of interventions, those of the host's table first."""
    grouped: dict[tuple[str, int], dict[int, Run]] = {}
    for run in sorted(runs, key=lambda run: (run["table"] != "host", run["k"])):
        grouped.setdefault((run["table"], run["k"]), {})[run["interventions"]] = run
    return grouped


def _table_4(run: Run) -> tuple[float, ...]:
    """Ours, in the paper's columns: Rain is the sum of its parts."""
    gradient, step, score = (
        run[name] for name in ("query_gradient_s", "cg_step_s", "rain_score_s")
    )
    rain = gradient + run["rain_steps"] * step + score
    return gradient, step, score, rain, rainpp_by_k(run)[int(K)]


def _ratios(run: Run) -> str:
    *_, theirs, theirs_fast = TABLE_4[run["part"]]
    *_, ours, ours_fast = _table_4(run)
    return f"{theirs / theirs_fast:.0f} / {ours / ours_fast:.0f}"


def _beside(paper: float, ours: float) -> str:
    return f"{paper:.2f} / {ours:.3f}"


def _stopped(run: Run) -> str:
    done, asked = run["steps_done"], run["rain_steps"]
    return "" if done == asked else f" ({done} of {asked} steps: curvature turned negative)"


def _by_count(group: dict[int, Run], counts: list[int]) -> list[str]:
    last = group[max(group)]
    speeds = (
        last["interventions"] / last[name] / 1e3 for name in ("p50_ms", "rank_ms", "score_ms")
    )
    return [
        str(last["k"]),
        *(f"{group[count]['p50_ms']:.2f}" if count in group else "" for count in counts),
        *(f"{speed:.0f}" for speed in speeds),
        f"table on the {last['table']}; {how(last)}",
    ]


def _pair(run: Run, k: str) -> str:
    if k not in run["training_s"]:
        return ""
    return f"{run['training_s'][k]:.2f} / {run['inference_s'][k]:.2f}"
