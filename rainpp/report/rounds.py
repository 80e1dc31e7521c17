"""The rounds of a repair loop: a table, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from rainpp.repair import RepairLoop, Round
from rainpp.report.words import duration, number


@dataclass(frozen=True, eq=False)
class Rounds:
    """What a loop did to one number, round by round.

    Attributes
    ----------
    name : of the number.
    before, relaxed : its value before the first round.
    target : where it was to go.
    rounds : one after the other.
    ended : why there are no more.
    """

    name: str
    before: float
    relaxed: float
    target: float
    rounds: tuple[Round, ...]
    ended: str

    @property
    def verdict(self) -> str:
        """How far the loop came and why it ended."""
        last = self.rounds[-1]
        count = f"{len(self.rounds)} round{'s' if len(self.rounds) > 1 else ''}"
        return (
            f"After {count} and {last.touched:,} changed training rows, none of them twice, "
            f"{self.name} went from {number(self.before)} to {number(last.value)}; it was to reach "
            f"{number(self.target)}. Why it ended: {self.ended.rstrip('.')}."
        )


def rounds_of(loop: RepairLoop, name: str) -> Rounds:
    """The rounds of `loop`, about the number called `name`."""
    complaint = loop.complaint
    return Rounds(name, loop.before, complaint.relaxed, loop.target, loop.rounds, loop.ended)


def rounds_table(rounds: Rounds) -> str:
    """One row for each round, under the number before the first."""
    heads = "".join(
        f'<th scope="col" class="{kind}">{name}</th>'
        for name, kind in (
            (escape(rounds.name), ""),
            ("relaxed", ""),
            ("relaxed, promised", ""),
            ("rows changed", ""),
            ("rows so far", "wide"),
            ("time", "wide"),
        )
    )
    before = _row("before", rounds.before, rounds.relaxed)
    body = "".join(_round(each) for each in rounds.rounds)
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">round</th>'
        f"{heads}</tr></thead><tbody>{before}{body}</tbody></table></div>"
    )


def _round(each: Round) -> str:
    return _row(
        str(each.number),
        each.value,
        each.relaxed,
        number(each.predicted),
        f"{each.changed:,}",
        f"{each.touched:,}",
        duration(each.seconds),
    )


def _row(
    name: str,
    value: float,
    relaxed: float,
    promised: str = "",
    changed: str = "",
    touched: str = "",
    seconds: str = "",
) -> str:
    return (
        f'<tr><th scope="row">{name}</th><td>{number(value)}</td><td>{number(relaxed)}</td>'
        f'<td>{promised}</td><td>{changed}</td><td class="wide">{touched}</td>'
        f'<td class="wide">{seconds}</td></tr>'
    )
