"""Why targets are missed, as far as what was measured tells: control runs, never guesses."""

from __future__ import annotations

from collections import Counter

from experiments.paper import fig4, fig5, fig11, fig12, fig13, records, table5
from experiments.paper.records import Asked, Run

# A peak in this last part of a curve says that the curve was too short.
_LAST_PART = 0.8


def reasons(runs: list[Run], points: list[Run]) -> list[str]:
    """A sentence or more for every target that is missed and has a control.

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
    behind = [
        one for one in fig4.shown(runs) if one.rain > fig5.LEAST_PEAK and not fig4.keeps_up(one)
    ]
    if not behind:
        return ""
    images = [one for one in behind if one.run["corruption"] != "flip"]
    rising = [one for one in behind if one not in images and _still_rising(one)]
    told = [f"Fig. 4: {len(behind)} complaints of which Rain finds something are short of it."]
    if images:
        chance = [one.run["corrupted_rows"] / one.run["train_rows"] for one in images]
        told.append(
            f"{len(images)} are about images that were spoilt and keep their labels: Rain has "
            f"{_from_to([one.rain for one in images])}, a random order {_from_to(chance)}."
        )
    if rising:
        networks = ", ".join(sorted({records.title(one.run) for one in rising}))
        most = max(len(one.curve) for one in rising)
        told.append(
            f"{len(rising)}, of {networks}, find most with one of the last of the {most} pairs "
            "that were measured (Fig. 5): a longer curve might find more."
        )
    return " ".join(told)


def _from_to(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _still_rising(one: Asked) -> bool:
    return one.curve.index(one.peak) + 1 >= _LAST_PART * len(one.curve)


def _two_errors(runs: list[Run]) -> str:
    """Rain is the control: the same model and complaint without eigenpairs."""
    short = [
        (records.mean_of(asked[query], lambda one: one.rain), paper)
        for network, rate, asked in table5.rows(runs)
        if network == "cnn"
        for query, paper in zip(table5.QUERIES, table5.PAPER[rate], strict=True)
        if round(records.mean_of(asked[query], lambda one: one.peak), 3) < paper
    ]
    if not short:
        return ""
    also = sum(round(rain, 3) < paper for rain, paper in short)
    return (
        f"Table 5: in {also} of the {len(short)} cells short of it Rain's own peak on the same "
        "models is short of it as well, so that it is not the eigenpairs that are too few."
    )


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
        f"{records.title(run)}, right about {run['accuracy_clean']:.0%} of the test set after "
        f"training on clean data, {run['corrections']['peak']:.3f}"
        for run in [*short, *others]
    ]
    return f"§6.8.1: by the same code, {'; '.join(told)}."


def _adult(runs: list[Run]) -> str:
    """Rain with all its steps solves the system of ADULT: exact influence."""
    told = [
        f"{query} {rate:.0%} {records.mean_of(asked, lambda one: one.rain_last):.3f}"
        for query, least in fig12.TARGETS.items()
        for rate, asked in fig12.by_rate(runs, query)
        if asked and round(records.mean_of(asked, lambda one: one.chosen), 3) < least
    ]
    if not told:
        return ""
    return f"Fig. 12: the solved system, of which every k is a part, has {', '.join(told)}."


def _large_errors(runs: list[Run]) -> str:
    """Of the reading that follows what is differentiated, in both answers and directions."""
    *_, (reading, read) = fig13.READINGS.items()
    large = fig13.between(read(fig13.points(runs)), fig13.LARGE, float("inf"))
    missed = [point for point in large if point.peak <= fig13.GOOD]
    if not missed:
        return ""
    where = Counter(records.title(point.run) for point in missed)
    told = ", ".join(f"{count} of {name}" for name, count in where.most_common())
    return f"Fig. 13: where {reading}, {len(missed)} of {len(large)} are missed: {told}."
