"""Short conditions that describe which training rows a ranking blames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rainpp.ranking import Ranking
from rainpp.report.sql import highlight
from rainpp.report.words import number, share


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition over training columns.

    Attributes
    ----------
    rows : training rows that it holds for.
    precision : share of them among the top of the ranking.
    recall : share of the top that it holds for.
    effect : sum over its rows of the single effects of their best interventions.
    """

    sql: str
    rows: int
    precision: float
    recall: float
    effect: float


@dataclass(frozen=True, slots=True)
class Predicates:
    """The best conditions, best first, for the `top` rows of a ranking."""

    found: tuple[Predicate, ...]
    top: int


def predicates_of(ranking: Ranking, rows: Any, top: int) -> Predicates:
    """Conditions over the columns of `rows`; see `Ranking.explain`."""
    found = ranking.explain(rows, top=top).itertuples(index=False, name=None)
    return Predicates(tuple(Predicate(*values) for values in found), top)


def predicate_table(predicates: Predicates) -> str:
    """Every condition with how well it fits the top of the ranking."""
    if not predicates.found:
        return "<p>No short condition tells the rows that are blamed from the others.</p>"
    heads = "".join(
        f'<th scope="col" class="{kind}">{name}</th>'
        for name, kind in (
            ("rows", ""),
            ("precision", ""),
            ("recall", ""),
            ("sum of effects", "wide"),
        )
    )
    body = "".join(_row(each) for each in predicates.found)
    return (
        '<div class="scroll"><table class="predicates"><thead><tr>'
        f'<th scope="col">condition</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="note">Chosen for the score of all training rows. Precision is the share of the '
        f"rows that are among the first {predicates.top:,} of the ranking, recall the share of "
        "those that the condition holds for; effects are of each row’s best change alone.</p>"
    )


def _row(predicate: Predicate) -> str:
    return (
        f'<tr><th scope="row"><code>{highlight(predicate.sql)}</code></th>'
        f"<td>{predicate.rows:,}</td><td>{share(predicate.precision)}</td>"
        f'<td>{share(predicate.recall)}</td><td class="wide">{number(predicate.effect)}</td></tr>'
    )
