"""Whether a schema fits the model, tried with one row before there is a state file to begin.

A state file keeps the schema that it began with, so a wrong one would outlive its correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from rainpp.errors import ModelError, SettingsError, ShapeError, one_line
from rainpp.monitoring.opening import monitor


def try_schema(name: str, sql: str, options: Mapping[str, Any]) -> None:
    """Give a monitor in memory a row of zeros; options are those of `rainpp.monitor`.

    Nothing is tried where there is no schema, where lists may have any length, or where a function
    of the user's reads the rows: zeros need not be among what that understands.

    Raises
    ------
    SettingsError : the model cannot read rows of this schema.
    """
    schema = options.get("schema")
    if schema is None or options.get("encode") is not None:
        return
    tables: Mapping[str | None, pa.Schema]
    tables = {None: schema} if isinstance(schema, pa.Schema) else schema
    rows = {table: _row(found) for table, found in tables.items()}
    if any(row is None for row in rows.values()):
        return
    given = {key: value for key, value in options.items() if key != "reference"}
    with monitor(name, sql, **given) as tried:
        try:
            with tried.batch() as batch:
                for table, row in rows.items():
                    batch.predictions(row, table=table)
        except (ModelError, ShapeError) as problem:
            raise SettingsError(
                f"[[monitor]] {name} schema does not fit the model: {one_line(problem)}"
            ) from None


def _row(schema: pa.Schema) -> pa.Table | None:
    values = [_zero(field.type) for field in schema]
    if any(value is None for value in values):
        return None
    columns = [pa.array([value], one.type) for value, one in zip(values, schema, strict=True)]
    return pa.table(columns, schema=schema)


def _zero(kind: pa.DataType) -> Any:
    """A value of a type; None where a list may have any length."""
    if pa.types.is_fixed_size_list(kind):
        inner = _zero(kind.value_type)
        return None if inner is None else [inner] * kind.list_size
    if pa.types.is_list(kind):
        return None
    if pa.types.is_timestamp(kind):
        return datetime.now(UTC).replace(tzinfo=None)
    if pa.types.is_date(kind):
        return datetime.now(UTC).date()
    if pa.types.is_string(kind):
        return ""
    return b"" if pa.types.is_binary(kind) else 0
