"""A batch of rows as pairs (row, class) that count in some group, with their weights.

Conditions and keys that read only the row are asked of DuckDB once for every row, those that read
only the predicted class once for every class when the query is understood; what reads both is asked
for every row and class. Bare columns are not asked for at all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rainpp.errors import DataError, one_line
from rainpp.relax.capture import registered
from rainpp.relax.catalog import clean, quote
from rainpp.relax.codes import key_codes
from rainpp.relax.query import hole_name
from rainpp.stream.cells import Key
from rainpp.stream.standing import Expression, Side
from rainpp.types import ClassValue

Index = NDArray[np.int64]
Array = NDArray[np.float64]

# One object, so that groups named by it are found again: NaN is unequal to itself.
NAN = float("nan")
_PLACE = "__place"
_CLASS = "__class"
# Where the names of tables go; no SQL holds a NUL.
_BATCH, _CLASSES = "\0batch", "\0classes"


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs (m,) of a row and a class in which the row counts.

    Attributes
    ----------
    code : (m,) the group of each pair, a position in `keys`.
    weights : (m, weights of the side).
    """

    rows: Index
    classes: Index
    code: Index
    keys: list[Key]
    weights: Array


@dataclass(eq=False)
class PairFinder:
    """Evaluates one side of a standing query over batches."""

    con: duckdb.DuckDBPyConnection
    side: Side
    hole: tuple[int, int] | None
    classes: Sequence[ClassValue]
    _by_class: pa.Table = field(init=False)
    _separable: bool = field(init=False)
    _class_weights: dict[int, Array] = field(init=False)

    def __post_init__(self) -> None:
        parts = [*self.side.conditions, *self.side.keys, *self.side.weights]
        self._separable = not any(part.mixed for part in parts)
        self._by_class = self._asked(self._class_sql(), {_CLASSES: self._class_table()})
        self._class_weights = {
            place: _numbers(self._by_class.column(f"weight_{place}"))
            for place, weight in enumerate(self.side.weights)
            if not weight.reads_row
        }

    @property
    def touched(self) -> Index:
        """Classes in which a row can count at all."""
        return self._by_class.column(_CLASS).to_numpy()

    def find(self, batch: pa.Table) -> Pairs:
        """The pairs of a batch; columns are those of the source, rows are numbered as they stand.

        Raises
        ------
        DataError : DuckDB refuses an expression on these rows.
        """
        return self._product(batch) if self._separable else self._joined(batch)

    def _product(self, batch: pa.Table) -> Pairs:
        of_rows, of_classes = self._row_part(batch), self._by_class
        rows, classes = of_rows.column(_PLACE).to_numpy(), self.touched
        code, keys = _coded(of_rows, self.side.keys, of_classes)
        wide = len(classes)
        weights = np.empty((len(rows), wide, len(self.side.weights)))
        for place in range(len(self.side.weights)):
            if place in self._class_weights:
                weights[:, :, place] = self._class_weights[place]
            else:
                weights[:, :, place] = _numbers(of_rows.column(f"weight_{place}"))[:, None]
        return Pairs(
            np.repeat(rows, wide),
            np.tile(classes, len(rows)),
            code,
            keys,
            weights.reshape(-1, len(self.side.weights)),
        )

    def _row_part(self, batch: pa.Table) -> pa.Table:
        """What reads the row alone, for the rows that satisfy it."""
        side = self.side
        conditions = [part for part in side.conditions if not part.reads_class]
        keys = {f"key_{at}": part for at, part in enumerate(side.keys) if not part.reads_class}
        weights = {f"weight_{at}": part for at, part in enumerate(side.weights) if part.reads_row}
        columns = {name: self._bare(batch, part) for name, part in {**keys, **weights}.items()}
        if not conditions and all(column is not None for column in columns.values()):
            return pa.table({_PLACE: np.arange(batch.num_rows), **columns})
        chosen = [f'"{_PLACE}"', *(f"({part.sql}) AS {name}" for name, part in keys.items())]
        chosen += [f"({part.sql}) AS {name}" for name, part in weights.items()]
        sql = f"SELECT {', '.join(chosen)} FROM {_BATCH} AS {quote(side.source.alias)}"
        return self._asked(sql + _where(conditions), {_BATCH: _numbered(batch)})

    def _bare(self, batch: pa.Table, part: Expression) -> pa.ChunkedArray | None:
        """The column an expression is, if it is nothing else."""
        prefix = f"{quote(self.side.source.alias)}."
        if not part.sql.startswith(prefix):
            return None
        name = part.sql.removeprefix(prefix)
        for column in batch.column_names:
            if name == quote(column):
                return batch.column(column)
        return None

    def _class_sql(self) -> str:
        """What reads the class alone, for the classes that satisfy it."""
        side = self.side
        conditions = [part for part in side.conditions if part.reads_class and not part.mixed]
        chosen = [_CLASS]
        for at, part in enumerate(side.keys):
            if part.reads_class and not part.mixed:
                chosen.append(f"({part.sql}) AS key_{at}")
        for at, part in enumerate(side.weights):
            if not part.reads_row:
                chosen.append(f"({part.sql}) AS weight_{at}")
        return f"SELECT {', '.join(chosen)} FROM {_CLASSES}" + _where(conditions)

    def _class_table(self) -> pa.Table:
        name = "__nothing" if self.hole is None else hole_name(self.hole)
        values = list(self.classes) if self.hole is not None else [0]
        return pa.table({name: pa.array(values), _CLASS: np.arange(len(values))})

    def _joined(self, batch: pa.Table) -> Pairs:
        side = self.side
        chosen = [f'"{_PLACE}"', _CLASS]
        chosen += [f"({part.sql}) AS key_{at}" for at, part in enumerate(side.keys)]
        chosen += [f"({part.sql}) AS weight_{at}" for at, part in enumerate(side.weights)]
        sql = f"SELECT {', '.join(chosen)} FROM {_BATCH} AS {quote(side.source.alias)}, {_CLASSES}"
        tables = {_BATCH: _numbered(batch), _CLASSES: self._class_table()}
        found = self._asked(sql + _where(side.conditions), tables)
        code, keys = _coded(found, side.keys, None)
        columns = [_numbers(found.column(f"weight_{at}")) for at in range(len(side.weights))]
        return Pairs(
            found.column(_PLACE).to_numpy(),
            found.column(_CLASS).to_numpy(),
            code,
            keys,
            np.stack(columns, axis=1),
        )

    def _asked(self, sql: str, tables: dict[str, pa.Table]) -> pa.Table:
        names: dict[str, str] = {}
        held = [registered(self.con, table) for table in tables.values()]
        for name, manager in zip(tables, held, strict=True):
            names[name] = manager.__enter__()
        try:
            return self.con.sql(_filled(sql, names)).to_arrow_table()
        except duckdb.Error as error:
            raise DataError(
                f"DuckDB cannot evaluate the standing query on these rows: {clean(error)}. "
                "Nothing of the batch was taken."
            ) from None
        finally:
            for manager in held:
                manager.__exit__(None, None, None)


def _filled(sql: str, names: dict[str, str]) -> str:
    for name, table in names.items():
        sql = sql.replace(name, table)
    return sql


def _where(conditions: Sequence[Expression]) -> str:
    joined = " AND ".join(f"({part.sql})" for part in conditions)
    return f" WHERE {joined}" if joined else ""


def _numbered(batch: pa.Table) -> pa.Table:
    return batch.append_column(_PLACE, pa.array(np.arange(batch.num_rows)))


def _numbers(column: pa.ChunkedArray) -> Array:
    return column.cast(pa.float64()).fill_null(0.0).to_numpy()


def _coded(
    rows: pa.Table, keys: Sequence[Expression], classes: pa.Table | None
) -> tuple[Index, list[Key]]:
    """The group of every row, or of every row and class, and the values of the groups."""
    own = [at for at, part in enumerate(keys) if classes is None or not part.reads_class]
    code, values = _distinct([rows.column(f"key_{at}") for at in own], rows.num_rows)
    if classes is None:
        return code, values
    if len(own) == len(keys):
        return np.repeat(code, classes.num_rows), values
    other = [at for at in range(len(keys)) if at not in own]
    of_class, class_values = _distinct(
        [classes.column(f"key_{at}") for at in other], classes.num_rows
    )
    both = (code[:, None] * max(1, len(class_values)) + of_class).reshape(-1)
    present, code = np.unique(both, return_inverse=True)
    order = np.argsort([*own, *other], kind="stable")
    found: list[Key] = []
    for item in present.tolist():
        row, kind = divmod(item, max(1, len(class_values)))
        mixed = (*values[row], *class_values[kind])
        found.append(tuple(mixed[place] for place in order))
    return code.astype(np.int64), found


def _distinct(columns: list[Any], count: int) -> tuple[Index, list[Key]]:
    if not columns:
        return np.zeros(count, np.int64), [()] if count else []
    code, first = key_codes(columns)
    try:
        values = [column.take(pa.array(first)).to_pylist() for column in columns]
    except (OverflowError, pa.ArrowException, ValueError) as problem:
        raise DataError(
            f"a value of a group cannot be read: {one_line(problem)}. Days and instants lie in the "
            "years 1 to 9999; group by text or numbers instead, or filter such rows out."
        ) from None
    known: dict[Key, int] = {}
    # Values that Arrow tells apart may be one in Python, as 0.0 and -0.0 are.
    place = [
        known.setdefault(tuple(map(key_value, key)), len(known))
        for key in zip(*values, strict=True)
    ]
    return np.asarray(place, np.int64)[code], list(known)


def key_value(value: Any) -> Any:
    """A value of a group key, the same object or an equal one whenever SQL calls it the same.

    Instants with a zone become UTC, lists tuples, a STRUCT a tuple of (name, value).
    """
    if isinstance(value, float) and value != value:
        return NAN
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC)
    if isinstance(value, dict):
        value = list(cast("dict[str, Any]", value).items())
    return tuple(map(key_value, value)) if isinstance(value, list | tuple) else value
