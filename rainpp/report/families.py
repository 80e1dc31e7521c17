"""Which kind of change resolves a complaint: the best rows of each, together."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rainpp.ranking import Ranking
from rainpp.report.words import number


@dataclass(frozen=True, slots=True)
class Family:
    """What the best `rows` of one kind of change are predicted to do, as improvements.

    Attributes
    ----------
    first_order : the sum of their single effects.
    together, low, high : applied together, and an interval for it, relaxed.
    share : of what is asked for, up to 1, by the number itself; NaN for a direction alone.
    credible, control : mean probability of what the changes claim, and that of as many changes
        the other way; NaN where nothing can be said.
    """

    name: str
    rows: int
    first_order: float
    together: float
    low: float
    high: float
    share: float = float("nan")
    credible: float = float("nan")
    control: float = float("nan")

    @property
    def leads(self) -> bool:
        """Whether its claims hold better than those of the control, as far as is known."""
        return not self.credible <= self.control

    @property
    def resolves(self) -> bool:
        """Whether it does all that is asked for."""
        return self.share >= 1


@dataclass(frozen=True, slots=True)
class Families:
    """Kinds of change compared, the most helpful first.

    Attributes
    ----------
    aim : what an improvement does, as in "raise n of 1".
    needed : how much of it is asked for, or None for a direction alone.
    """

    found: tuple[Family, ...]
    aim: str
    needed: float | None = None

    @property
    def verdict(self) -> str:
        """Which kind resolves the complaint, or comes closest, in a sentence or two."""
        best = self.found[0]
        if best.together <= 0:
            return "No kind of change is predicted to help."
        does = f"its best {best.rows:,} rows together are predicted to {self.aim} by "
        by = f"{number(best.together)} ({number(best.low)} to {number(best.high)})"
        if self.needed is None:
            return f"“{best.name}” helps most: {does}{by}."
        asked = f"the {number(self.needed)} asked for, and its expected value by {by}"
        if not best.leads:
            return (
                "No kind of change stands out: what each claims of the rows holds no better than "
                f"of as many changes the other way. “{best.name}” moves most: "
                f"{does}{best.share:.0%} of {asked}."
            )
        if not best.resolves:
            return f"“{best.name}” fits best: {does}{best.share:.0%} of {asked}. {self._others()}"
        return f"“{best.name}” resolves the complaint: {does}all of {asked}. {self._others()}"

    def _others(self) -> str:
        names = [f"“{each.name}”" for each in self.found[1:] if each.resolves]
        if not names:
            return "No other kind does." if len(self.found) > 1 else ""
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
        does, claim = ("does", "it claims") if len(names) == 1 else ("do", "they claim")
        return f"So {does} {listed}, but what {claim} about the rows is less credible."


def families_of(ranking: Ranking, count: int, *, aim: str, needed: float | None) -> Families:
    """The best `count` rows of every kind of the index; see `Ranking.families`."""
    found = ranking.families(count).itertuples(index=False, name=None)
    return Families(tuple(Family(*values) for values in found), aim, needed)


def family_table(families: Families) -> str:
    """Every kind with a bar for what its rows do together; what is asked for is a line."""
    largest = max([*(each.high for each in families.found), 1e-12])
    heads = "".join(
        f'<th scope="col" class="{kind}">{name}</th>'
        for name, kind in (
            ("expected value", ""),
            ("interval", "wide"),
            ("sum of single effects", "wide"),
            ("of what is asked", ""),
            ("credible", ""),
            ("rows", ""),
        )
    )
    rows = "".join(_row(each, families.needed, largest) for each in families.found)
    title = f"predicted to {families.aim} by"
    note = (
        '<p class="note">Credible: how likely what the changes claim is to a model that has not '
        "seen the rows; for changed inputs, how well they can be told from those the query reads "
        "before the change and not after it. In brackets the same of as many changes the other "
        "way: a kind without a lead over them only picks odd rows.</p>"
    )
    return (
        f"<p>{escape(families.verdict)}</p>{_legend(families)}"
        '<div class="scroll"><table><thead><tr><th scope="col">kind of change</th>'
        f'<th scope="col" class="bars">{escape(title)}</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _legend(families: Families) -> str:
    keys = [("after", "together"), ("range", "interval")]
    if families.needed is not None:
        keys = [
            ("after", "the number itself"),
            ("mark", f"the {number(families.needed)} asked for"),
        ]
    items = "".join(f'<li><span class="key {kind}"></span>{text}</li>' for kind, text in keys)
    return f'<ul class="legend">{items}</ul>'


def _row(family: Family, needed: float | None, largest: float) -> str:
    mark = ' class="complained"' if family.resolves else ""
    interval = f"{number(family.low)} to {number(family.high)}" if family.rows else ""
    return (
        f'<tr{mark}><th scope="row">{escape(family.name)}</th>'
        f'<td class="bars" aria-hidden="true">{_bar(family, needed, largest)}</td>'
        f'<td>{number(family.together)}</td><td class="wide">{interval}</td>'
        f'<td class="wide">{number(family.first_order)}</td><td>{_share(family.share)}</td>'
        f"<td>{_credible(family)}</td><td>{family.rows:,}</td></tr>"
    )


def _share(value: float) -> str:
    return "–" if value != value else f"{value:.0%}"


def _credible(family: Family) -> str:
    return f"{_share(family.credible)} ({_share(family.control)})"


def _bar(family: Family, needed: float | None, largest: float) -> str:
    if needed is not None:  # the number itself, as far as is asked for
        width = max(100 * family.share, 0.0) if family.share == family.share else 0.0
        after, mark = f"width:{width:.1f}%", "left:100.0%"
        return (
            f'<span class="track"><span class="bar after" style="{after}"></span>'
            f'<span class="mark" style="{mark}"></span></span>'
        )
    low, high = (100 * max(value, 0.0) / largest for value in (family.low, family.high))
    width = 100 * max(family.together, 0.0) / largest
    parts = [f'<span class="bar after" style="width:{width:.1f}%"></span>']
    if high > 0:
        parts.append(f'<span class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>')
    return f'<span class="track">{"".join(parts)}</span>'
