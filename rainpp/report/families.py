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
    together, low, high : applied together, and an interval for it.
    """

    name: str
    rows: int
    first_order: float
    together: float
    low: float
    high: float


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
        does += f"{number(best.together)} ({number(best.low)} to {number(best.high)})"
        if self.needed is None:
            return f"“{best.name}” helps most: {does}."
        if best.together < self.needed:
            return (
                "No kind of change resolves the complaint with so many rows. "
                f"“{best.name}” comes closest: {does}, of {number(self.needed)} asked for."
            )
        narrowly = ", if only just" if best.low < self.needed else ""
        return (
            f"“{best.name}” resolves the complaint{narrowly}: {does}, where {number(self.needed)} "
            f"is asked for. {self._others()}"
        )

    def _others(self) -> str:
        names = [f"“{e.name}”" for e in self.found[1:] if e.together >= (self.needed or 0.0)]
        if not names:
            return "No other kind does." if len(self.found) > 1 else ""
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
        return f"So {'does' if len(names) == 1 else 'do'} {listed}."


def families_of(ranking: Ranking, count: int, *, aim: str, needed: float | None) -> Families:
    """The best `count` rows of every kind of the index; see `Ranking.families`."""
    found = ranking.families(count).itertuples(index=False, name=None)
    return Families(tuple(Family(*values) for values in found), aim, needed)


def family_table(families: Families) -> str:
    """Every kind with a bar for what its rows do together; what is asked for is a line."""
    largest = max([families.needed or 0.0, *(each.high for each in families.found), 1e-12])
    heads = "".join(
        f'<th scope="col" class="{kind}">{name}</th>'
        for name, kind in (
            ("together", ""),
            ("interval", "wide"),
            ("sum of single effects", "wide"),
            ("rows", ""),
        )
    )
    rows = "".join(_row(each, families.needed, largest) for each in families.found)
    title = f"predicted to {families.aim} by"
    return (
        f"<p>{escape(families.verdict)}</p>{_legend(families)}"
        '<div class="scroll"><table><thead><tr><th scope="col">kind of change</th>'
        f'<th scope="col" class="bars">{escape(title)}</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _legend(families: Families) -> str:
    keys = [("after", "together"), ("range", "interval")]
    if families.needed is not None:
        keys.append(("mark", "asked for"))
    items = "".join(f'<li><span class="key {kind}"></span>{text}</li>' for kind, text in keys)
    return f'<ul class="legend">{items}</ul>'


def _row(family: Family, needed: float | None, largest: float) -> str:
    resolves = needed is not None and family.together >= needed
    mark = ' class="complained"' if resolves else ""
    interval = f"{number(family.low)} to {number(family.high)}" if family.rows else ""
    return (
        f'<tr{mark}><th scope="row">{escape(family.name)}</th>'
        f'<td class="bars" aria-hidden="true">{_bar(family, needed, largest)}</td>'
        f'<td>{number(family.together)}</td><td class="wide">{interval}</td>'
        f'<td class="wide">{number(family.first_order)}</td><td>{family.rows:,}</td></tr>'
    )


def _bar(family: Family, needed: float | None, largest: float) -> str:
    low, high = (100 * max(value, 0.0) / largest for value in (family.low, family.high))
    width = 100 * max(family.together, 0.0) / largest
    parts = [f'<span class="bar after" style="width:{width:.1f}%"></span>']
    if high > 0:
        parts.append(f'<span class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>')
    if needed is not None:
        parts.append(f'<span class="mark" style="left:{100 * needed / largest:.1f}%"></span>')
    return f'<span class="track">{"".join(parts)}</span>'
