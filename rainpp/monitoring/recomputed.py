"""The rows of one window asked again: what cannot be kept by additions, and proof for what can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from sqlglot import exp

from rainpp.connection import sealed
from rainpp.database import Database, connect
from rainpp.errors import DataError
from rainpp.inference import encoded_rows
from rainpp.lanczos.projection import gradient_of_probabilities
from rainpp.monitoring.setup import Setup
from rainpp.relax.capture import registered
from rainpp.relax.catalog import quote
from rainpp.relax.dialect import dialect_for, parse_query
from rainpp.result import Result
from rainpp.stream.cells import Key
from rainpp.stream.pairs import key_value
from rainpp.stream.reading import Reading, Row

_CHANCES = "__p"


def value_columns(setup: Setup) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the group columns and of the columns one can complain about."""
    if setup.query is not None:
        return setup.query.key_names, setup.query.value_names
    with _database(setup, [table.schema.schema.empty_table() for table in setup.tables]) as db:
        found = db.sql(setup.sql)
        values = found.answer.columns
        keys = tuple(str(name) for name in found.df().columns if str(name) not in values)
    return keys, values


def recomputed_rows(setup: Setup, rows: Sequence[pa.Table]) -> list[Row]:
    """The answer for the rows of a window, of every table those stored of it."""
    keys, values = value_columns(setup)
    with _database(setup, rows) as db:
        result = db.sql(setup.sql)
        frame, relaxed = result.df(), result.relaxed()
        gradients = [
            {name: result.gradient(name, row=at) for name in values} for at in range(len(frame))
        ]
    found: list[Row] = []
    for at in range(len(frame)):
        cells = {
            name: Reading(
                _number(frame[name].iloc[at]),
                _number(relaxed[name].iloc[at]),
                float("nan"),
                lambda weights=gradients[at][name]: _projected(setup, rows, weights),
            )
            for name in values
        }
        key = tuple(_plain(frame[name].iloc[at]) for name in keys)
        found.append(Row(key, True, float(sum(part.num_rows for part in rows)), cells))
    return found


def chosen_rows(rows: Sequence[Row], keys: Sequence[Key] | None, setup: Setup) -> list[Row]:
    """Some rows of an answer; for those that are not in it, rows without numbers."""
    if keys is None:
        return list(rows)
    names = value_columns(setup)[1]
    nothing = Reading(float("nan"), float("nan"), float("nan"), np.zeros(setup.passes.k))
    found = {row.key: row for row in rows}
    absent = dict.fromkeys(names, nothing)
    return [found.get(key) or Row(key, False, 0.0, absent) for key in keys]


def accuracy_sql(setup: Setup, label: str) -> str:
    """The accuracy of the labelled rows of a window as a query."""
    (table,) = setup.tables
    call = f"{setup.registered.name}({', '.join(map(quote, table.arguments))})"
    return (
        f"SELECT avg(CASE WHEN {call} = {quote(label)} THEN 1 ELSE 0 END) AS accuracy "
        f"FROM {quote(table.name)} WHERE {quote(label)} IS NOT NULL"
    )


def group_sql(setup: Setup, group: Mapping[str, Any]) -> str:
    """The query for one group, which has an answer also where no row of it counts.

    Raises
    ------
    DataError : the query is not kept by groups, so one that is not in its answer cannot be asked.
    """
    if setup.query is None:
        raise DataError(
            f"the answer has no row where {dict(group)}, and the query is not kept by groups; "
            "complain about a row that is there."
        )
    dialect = dialect_for([setup.registered.name])
    tree = cast("exp.Select", parse_query(setup.sql, dialect).copy())
    keys = {item.alias_or_name: item.unalias() for item in tree.selects}
    for name, value in group.items():
        tree = tree.where(exp.NullSafeEQ(this=keys[name].copy(), expression=exp.convert(value)))
    tree.set("group", None)
    tree.set("order", None)
    tree.set("expressions", [i for i in tree.selects if i.alias_or_name not in group])
    return tree.sql(dialect=dialect, normalize_functions=False)


def window_result(setup: Setup, rows: Sequence[pa.Table], sql: str | None = None) -> Result:
    """A result over the rows of a window, with the model behind it: it can be complained about.

    `sql` : another query than the standing one.
    """
    con = sealed()
    _fill(con, setup, rows)
    db = connect(con)
    model = setup.registered
    assert model.model is not None
    db.register_model(
        model.name, model.model, model.index, encode=model.encode, classes=model.classes
    )
    return db.sql(setup.sql if sql is None else sql)


def _database(setup: Setup, rows: Sequence[pa.Table]) -> Database:
    con = sealed()
    _fill(con, setup, rows)
    db = Database(con, owned=True)
    model = setup.registered
    for table, part in zip(setup.tables, rows, strict=True):
        if table.slot is None:
            continue
        chances = np.zeros((0, len(model.classes)))
        if part.num_rows:
            flat = part.column(_CHANCES).combine_chunks().flatten().to_numpy()
            chances = np.asarray(flat, float).reshape(part.num_rows, -1)
            chances = chances / chances.sum(axis=1, keepdims=True)
        db.register_predictions(
            model.name, table=table.name, probabilities=chances, classes=model.classes
        )
    return db


def _fill(con: duckdb.DuckDBPyConnection, setup: Setup, rows: Sequence[pa.Table]) -> None:
    for table, part in zip(setup.tables, rows, strict=True):
        names = [name for name in table.schema.schema.names if name in part.column_names]
        with registered(con, part.select(names)) as new:
            con.execute(f"CREATE TABLE {quote(table.name)} AS SELECT * FROM {new}")


def _projected(
    setup: Setup, rows: Sequence[pa.Table], weights: dict[tuple[str, str], np.ndarray]
) -> np.ndarray:
    model, index = setup.registered.model, setup.registered.index
    assert model is not None
    assert index is not None
    total = np.zeros(model.theta.shape[0])
    for table, part in zip(setup.tables, rows, strict=True):
        for (_, name), derivative in weights.items():
            if name.lower() == table.name.lower() and part.num_rows:
                inputs = encoded_rows(
                    setup.registered, part, table=table.name, arguments=table.arguments
                )
                total += np.asarray(gradient_of_probabilities(model, inputs, derivative))
    return np.asarray(index.eigenvectors, float) @ total


def _number(value: Any) -> float:
    return float("nan") if pd.isna(value) else float(value)


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NaT or value is None else key_value(value)
