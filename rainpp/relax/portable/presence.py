"""The probability that a group has a row: 1 - Π (1 - w) over independent predictions.

Where the predictions that decide it all belong to one table, a group is there unless every row of
that table misses it, whatever else that table is joined with: the rows are independent, and w is
the probability of all classes that some joined row allows. LN(0) is never asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from rainpp.relax.events import atoms_of
from rainpp.relax.measures import Relaxation
from rainpp.relax.portable.keys import Key
from rainpp.relax.portable.masks import Writer, class_column
from rainpp.relax.portable.select import ONE, Rows
from rainpp.relax.query import Atom


def presence_sql(writer: Writer, relaxed: Relaxation, keys: Sequence[Key]) -> str | None:
    """SELECT of (keys ..., w) for every group; None if rows of several tables decide together."""
    atoms = _deciding(relaxed, keys)
    if len({atom.source for atom in atoms}) > 1:
        return None
    rows = Rows.of(writer, range(len(writer.query.sources)), writer.certain, atoms)
    rows.where += [writer.event(event) for event in relaxed.measures[0].events]
    names = [key.name for key in keys]
    columns = [(key.sql, key.name) for key in keys]
    if not atoms:
        return f"SELECT DISTINCT {', '.join(names)}, {ONE} AS w FROM ({rows.select(columns)}) AS r"
    columns.append((writer.row_id(atoms[0].source), "rid"))
    columns += [(class_column(atom), f"cls_{i}") for i, atom in enumerate(atoms)]
    # DISTINCT: the joined rows that allow one class of a row are one event, not several.
    every = rows.select([*columns, (rows.weight(), "w")], distinct=True)
    by = ", ".join(names)
    per_row = f"SELECT {by}, rid, SUM(w) AS w FROM ({every}) AS r GROUP BY {by}, rid"
    return f"SELECT {by}, {_ANY} AS w FROM ({per_row}) AS r GROUP BY {by}"


_ANY = (
    "CASE WHEN MAX(w) >= 1 THEN 1 ELSE 1 - EXP(SUM(CASE WHEN w < 1 THEN LN(1 - w) ELSE 0 END)) END"
)


def _deciding(relaxed: Relaxation, keys: Sequence[Key]) -> list[Atom]:
    """The predictions that decide which groups there are."""
    found = {atom for event in relaxed.measures[0].events for atom in atoms_of(event)}
    return sorted(found | {key.atom for key in keys if key.atom})
