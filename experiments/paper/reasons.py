"""What was measured tells of targets that are missed: control runs and curves, never guesses."""

from __future__ import annotations

from experiments.paper import fig4, fig5, fig11, fig12, fig13, records, table5
from experiments.paper.fig13 import Point
from experiments.paper.records import Asked, Run

# A peak in this last part of a curve: it may not have ended.
_LAST_PART = 0.8


def reasons(runs: list[Run], points: list[Run]) -> list[str]:
    """A line for every target that is missed and has a control.

    Parameters
    ----------
    runs, points : as in `targets`.
    """
    found = [
        _behind_rain(runs),
        _two_errors(runs),
        _corrections(points),
        _adult(runs),
        _large_errors(runs),
    ]
    return [text for text in found if text]


def _behind_rain(runs: list[Run]) -> str:
    behind = [one for one in fig4.shown(runs) if not fig4.keeps_up(one)]
    if not behind:
        return ""
    little = [one for one in behind if one.rain <= fig5.LEAST_PEAK]
    images = [one for one in behind if one.run["corruption"] != "flip" and one not in little]
    others = [one for one in behind if one not in little and one not in images]
    told = [f"Fig. 4: {len(behind)} complaints are short of it. In {len(little)} Rain, too, finds "
            f"at most {fig5.LEAST_PEAK}."]  # fmt: skip
    if images:
        told.append(
            f"{len(images)} about spoilt images that keep their labels; Rain beside a random "
            f"order: {', '.join(map(_beside_chance, images))}."
        )
    if others:
        ends = sum(map(_still_rising, others))
        networks = ", ".join(sorted({records.title(one.run) for one in others}))
        told.append(
            f"{len(others)} of {networks}, of which {ends} find most with the last fifth of the "
            "pairs that were measured (Fig. 5)."
        )
    return " ".join(told)


def _beside_chance(one: Asked) -> str:
    return f"{one.rain:.3f} and {one.run['corrupted_rows'] / one.run['train_rows']:.3f}"


def _still_rising(one: Asked) -> bool:
    return one.curve.index(one.peak) + 1 > _LAST_PART * len(one.curve)


def _two_errors(runs: list[Run]) -> str:
    """The place of the peak, and Rain on the same models."""
    short = [
        (asked[query], paper)
        for network, rate, asked in table5.rows(runs)
        if network == "cnn"
        for query, paper in zip(table5.QUERIES, table5.PAPER[rate], strict=True)
        if round(records.mean_of(asked[query], _peak), 3) < paper
    ]
    if not short:
        return ""
    rising = sum(_still_rising(one) for asked, _ in short for one in asked)
    also = sum(round(records.mean_of(asked, _rain), 3) < paper for asked, paper in short)
    return (
        f"Table 5: of the {sum(len(asked) for asked, _ in short)} curves behind the {len(short)} "
        f"cells short of it, {rising} have their peak in the last fifth of the pairs that were "
        f"measured. Rain's own peak is short of the paper's in {also} of the cells."
    )


def _peak(one: Asked) -> float:
    return one.peak


def _rain(one: Asked) -> float:
    return one.rain


def _corrections(points: list[Run]) -> str:
    short = [
        run
        for run in records.of(points, data="cifar10")
        if run["corrections"]["peak"] < fig11.PAPER
    ]
    others = [run for run in points if run["data"] != "cifar10"]
    if not short or not others:
        return ""
    told = [
        f"{records.title(run)}, of accuracy {run['accuracy_clean']:.2f} after training on clean "
        f"data, {run['corrections']['peak']:.3f}"
        for run in [*short, *others]
    ]
    return f"§6.8.1: by the same code, {'; '.join(told)}."


def _adult(runs: list[Run]) -> str:
    """Neither the best k nor conjugate gradients is known to a user; both are the control."""
    told = [
        f"{query} {rate:.0%}: the best k has {records.mean_of(asked, _peak):.3f}, Rain after all "
        f"its steps {records.mean_of(asked, lambda one: one.rain_last):.3f}"
        for query, least in fig12.TARGETS.items()
        for rate, asked in fig12.by_rate(runs, query)
        if asked and round(records.mean_of(asked, lambda one: one.chosen), 3) < least
    ]
    return f"Fig. 12: {'; '.join(told)}." if told else ""


def _large_errors(runs: list[Run]) -> str:
    """Readings beside one another: where it is the reading that misses."""
    found = fig13.points(runs)
    plain, followed = _missed(found), _missed(fig13.READINGS[fig13.RELAXED](found))
    if not plain:
        return ""
    return (
        f"Fig. 13: {len(plain)} are short where joins ask for fewer pairs. {len(plain - followed)} "
        "of them are not where errors and directions are those of the relaxed answer, which is "
        f"what is differentiated; {len(followed)} are short there."
    )


def _missed(found: list[Point]) -> set[tuple[str, str]]:
    large = fig13.between(found, fig13.LARGE, float("inf"))
    return {(one.run["cell"], one.query) for one in large if one.peak <= fig13.GOOD}
