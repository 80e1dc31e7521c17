"""A complaint about one prediction, as a query over the one row it was made for."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainpp.bound_complaint import BoundComplaint
from rainpp.complaint import Prediction, Presence
from rainpp.errors import ComplaintError
from rainpp.inference import RegisteredModel
from rainpp.relax.catalog import TableEntry, quote
from rainpp.relax.masks import literal, sql_type
from rainpp.result import Result
from rainpp.types import ClassValue

_COLUMN = "n"


def read_point(registered: RegisteredModel, rowid: Any, label: Any) -> tuple[int, ClassValue]:
    """Row id and class as the table and the model have them.

    Raises
    ------
    ComplaintError : no whole number, or no class of the model.
    """
    if isinstance(rowid, bool) or not isinstance(rowid, int | np.integer):
        raise ComplaintError(f"`rowid` is {rowid!r}; it must be a whole number.")
    value = label.item() if isinstance(label, np.generic) else label
    for known in registered.classes:
        if known == value and isinstance(known, bool) == isinstance(value, bool):
            return int(rowid), known
    raise ComplaintError(
        f"`label` is {label!r}; the classes of `{registered.name}` are: "
        f"{', '.join(map(repr, registered.classes))}."
    )


def read_wanted(should: Any) -> bool:
    """Whether the label should be predicted.

    Raises
    ------
    ComplaintError : another word than "be" and "not_be".
    """
    if not isinstance(should, str) or should not in ("be", "not_be"):
        raise ComplaintError(f"`should` is {should!r}; it must be 'be' or 'not_be'.")
    return should == "be"


def point_sql(
    registered: RegisteredModel,
    entry: TableEntry,
    point: tuple[int, ClassValue],
    arguments: tuple[str, ...] | None,
) -> str:
    """SQL that counts 1 if the row is predicted as the label, else 0; relaxed its probability."""
    columns = "*" if arguments is None else ", ".join(quote(name) for name in arguments)
    rowid, label = point
    value = literal(label, sql_type(registered.classes))
    return (
        f"SELECT count(*) AS {_COLUMN} FROM {entry.qualified} "
        f"WHERE rowid = {rowid} AND {registered.name}({columns}) = {value}"
    )


def complain_about_point(
    result: Result, point: tuple[int, ClassValue], *, wanted: bool
) -> BoundComplaint:
    """The complaint, about the answer of `point_sql`.

    Raises
    ------
    ComplaintError : the table has no such row, or the prediction is as asked.
    """
    (slot, found), *_ = result.setting.tables.items()
    rowid, label = point
    place = int(np.searchsorted(found.predictions.rowids, rowid))
    known = found.predictions.rowids
    if place == len(known) or known[place] != rowid:
        ends = f"from {known[0]} to {known[-1]}" if len(known) else "none: it is empty"
        raise ComplaintError(
            f"`{slot.table}` has no row with rowid {rowid}; its row ids are {ends}."
        )
    winner = int(found.predictions.probabilities[place].argmax())
    predicted = found.predictions.classes[winner]
    about = Prediction(slot.model, slot.table, rowid, label, predicted, _COLUMN)
    return result.complain_about(about, Presence(wanted=wanted))
