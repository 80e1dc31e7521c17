"""What the figures should show, and whether what was measured does: counted, never typed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.paper import fig4, fig5, fig11, fig12, fig13, fig15, records, table5
from experiments.paper.fig13 import Point
from experiments.paper.records import Asked, Run

# A k is good enough when it reaches this share of the peak.
ENOUGH = 0.98
_NAMED = 4  # of those that fall short


@dataclass(frozen=True)
class Item:
    """One thing that a target is about; `told` is its numbers."""

    name: str
    told: str
    reached: bool


@dataclass(frozen=True)
class Target:
    """A target and everything it is about.

    Attributes
    ----------
    needed : share of the items that must reach it.
    """

    figure: str
    asked: str
    items: list[Item]
    needed: float = 1.0

    @property
    def reached(self) -> int:
        """How many items do."""
        return sum(item.reached for item in self.items)

    @property
    def met(self) -> str:
        """The verdict."""
        if not self.items:
            return "not measured"
        return "met" if self.reached >= self.needed * len(self.items) else "**not met**"

    @property
    def row(self) -> list[str]:
        """For the page."""
        short = [f"{item.name}: {item.told}" for item in self.items if not item.reached]
        more = [f"{len(short) - _NAMED} more"] if len(short) > _NAMED else []
        counted = f"{self.reached} of {len(self.items)}" if self.items else ""
        return [self.figure, self.asked, counted, self.met, "; ".join([*short[:_NAMED], *more])]


def targets(runs: list[Run], points: list[Run]) -> list[Target]:
    """All of them.

    Parameters
    ----------
    runs : records of the sweep.
    points : of Figure 11.
    """
    return [
        *_keeping_up(runs),
        _two_errors(runs),
        *_choosing_k(runs),
        _corrections(points),
        *(_adult(runs, query) for query in fig12.TARGETS),
        *_large_errors(runs),
        *_interventions(runs),
    ]


def _keeping_up(runs: list[Run]) -> Iterable[Target]:
    """All complaints, and those in which there is something to find (§6.4)."""
    found = sorted(fig4.shown(runs), key=_lead)
    effective = [one for one in found if max(one.peak, one.rain) > fig5.LEAST_PEAK]
    about = f"Rain++ >= Rain - {fig4.TIE}, peaks, in 90% of the complaints"
    for asked, shown in (
        (about, found),
        (f"{about} with a peak over {fig5.LEAST_PEAK} of either", effective),
    ):
        items = [
            Item(one.name, f"{one.peak:.3f}, Rain {one.rain:.3f}", fig4.keeps_up(one))
            for one in shown
        ]
        yield Target("Fig. 4", asked, items, needed=0.9)


def _lead(one: Asked) -> float:
    return one.peak - one.rain


def _two_errors(runs: list[Run]) -> Target:
    items = [
        Item(f"{query} {rate:.0%}", f"{found:.3f}, paper {paper}", found >= paper)
        for network, rate, asked in table5.rows(runs)
        if network == "cnn"
        for query, paper in zip(table5.QUERIES, table5.PAPER[rate], strict=True)
        for found in [round(records.mean_of(asked[query], lambda one: one.peak), 3)]
    ]
    return Target("Table 5", "every cell of the CNN at least the paper's", items)


def _choosing_k(runs: list[Run]) -> Iterable[Target]:
    """Against the peak of the curve that the figure shows, and of every complaint's own curve."""
    shares = fig5.shares(runs)
    of_curve = [
        Item(records.title(o.run), f"{o.of_best:.3f} of k = {o.best_k}", o.of_best >= ENOUGH)
        for o in shares
    ]
    yield Target("Fig. 5", f"the library's k has {ENOUGH:.0%} of the best k of a network", of_curve)
    of_own = [Item(records.title(o.run), f"{o.chosen:.3f}", o.chosen >= ENOUGH) for o in shares]
    asked = f"the library's k has {ENOUGH:.0%} of each complaint's own peak, mean"
    yield Target("Fig. 5", asked, of_own)


def _corrections(points: list[Run]) -> Target:
    items = [
        Item(records.title(run), f"{found:.3f}", found >= fig11.PAPER)
        for run in records.of(points, data="cifar10")
        for found in [run["corrections"]["peak"]]
    ]
    asked = f"complaints about all differing predictions >= {fig11.PAPER} on CIFAR-10"
    return Target("§6.8.1", asked, items)


def _adult(runs: list[Run], query: str) -> Target:
    least = fig12.TARGETS[query]
    items = [
        Item(f"{rate:.0%}", f"{found:.3f}", found >= least)
        for rate, asked in fig12.by_rate(runs, query)
        for found in [round(records.mean_of(asked, lambda one: one.chosen), 3)]
    ]
    return Target("Fig. 12", f"{query} >= {least} at the library's k, mean", items)


def _large_errors(runs: list[Run]) -> Iterable[Target]:
    found = fig13.points(runs)
    about = f"AUC_R > {fig13.GOOD} in 90% of relative errors over {fig13.LARGE:.0%}"
    for reading, read in fig13.READINGS.items():
        large = fig13.between(read(found), fig13.LARGE, float("inf"))
        items = [_item(point) for point in sorted(large, key=_peak)]
        yield Target("Fig. 13", f"{about}; {reading}", items, needed=0.9)


def _peak(point: Point) -> float:
    return point.peak


def _item(point: Point) -> Item:
    return Item(f"{point.run['cell']}, {point.query}", f"{point.peak:.3f}", point.peak > fig13.GOOD)


def _interventions(runs: list[Run]) -> Iterable[Target]:
    found = fig15.compared(runs)
    yield Target(
        "Fig. 15",
        f"filter >= {fig15.LEAST_DENOISED}",
        [Item(o.name, f"{o.denoised:.3f}", o.denoised >= fig15.LEAST_DENOISED) for o in found],
    )
    rising = [
        Item(
            f"{records.title(first.run)} {first.query}",
            f"{first.denoised:.3f} to {last.denoised:.3f}",
            last.denoised > first.denoised,
        )
        for first, last in fig15.ends(found)
    ]
    yield Target("Fig. 15", "filter finds more at the highest rate than at the lowest", rising)
    yield Target(
        "Fig. 15",
        f"delete <= {fig15.MOST_DELETED}",
        [Item(o.name, f"{o.deleted:.3f}", o.deleted <= fig15.MOST_DELETED) for o in found],
    )
