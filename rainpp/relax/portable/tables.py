"""The tables of probabilities that portable SQL reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rainpp.relax.catalog import quote
from rainpp.relax.portable.expressions import render_for
from rainpp.relax.portable.masks import Writer
from rainpp.relax.portable.select import base_table, probability_table
from rainpp.relax.query import Slot
from rainpp.types import ClassValue, PredictionTable


@dataclass(frozen=True, slots=True)
class ProbabilityTable:
    """A table the database must have: one row per row id and class, also where `prob` is 0.

    `rid` are the values of the column `row_id` of table `base`; `cls` counts `classes` from 0.
    """

    name: str
    slot: Slot
    base: str
    row_id: str
    classes: tuple[ClassValue, ...]
    columns: tuple[str, ...] = ("rid", "cls", "prob")

    def create_sql(self, dialect: str = "duckdb") -> str:
        """CREATE TABLE for it."""
        text = f"CREATE TABLE {quote(self.name)} (rid BIGINT, cls INTEGER, prob DOUBLE)"
        return render_for(text, dialect)


def long_form(table: PredictionTable) -> pd.DataFrame:
    """The probabilities (V, R) of a table as V · R rows of rid, cls and prob."""
    v, r = table.probabilities.shape
    return pd.DataFrame(
        {
            "rid": np.repeat(table.rowids, r),
            "cls": np.tile(np.arange(r, dtype=np.int32), v),
            "prob": np.asarray(table.probabilities, np.float64).ravel(),
        }
    )


def probability_table_of(writer: Writer, number: int) -> ProbabilityTable:
    """The table of the predictions of one slot."""
    query = writer.query
    slot = query.slots[number]
    source = next(i for i, found in enumerate(query.sources) if found.table == slot.table)
    return ProbabilityTable(
        probability_table(number),
        slot,
        base_table(query, source),
        writer.rids[source],
        query.classes[number],
    )
