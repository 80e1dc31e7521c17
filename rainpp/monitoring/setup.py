"""A standing query understood: its tables, how it is kept up to date, what rows leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa
from sqlglot import exp

from rainpp.connection import exclusive
from rainpp.errors import QueryError, SettingsError, UnsupportedQueryError, one_line
from rainpp.inference import RegisteredModel
from rainpp.monitoring.tables import TableSchema, event_times
from rainpp.relax.ask import prepare
from rainpp.relax.capture import registered
from rainpp.relax.catalog import clean, quote
from rainpp.relax.dialect import dialect_for, function_names, parse_query, spelling
from rainpp.relax.plan import Slot
from rainpp.stream.directory import id_keys
from rainpp.stream.passes import Passes
from rainpp.stream.standing import Standing, standing
from rainpp.stream.view import SideView
from rainpp.stream.window import Last, Session, Window

Keep = Literal["auto", "inputs", "gradients", "nothing"]
KEEPS: tuple[Keep, ...] = ("auto", "inputs", "gradients", "nothing")


@dataclass(frozen=True)
class Columns:
    """Names of the columns with a meaning of their own.

    Attributes
    ----------
    id, label : None where predictions have no ids, or labels never come.
    """

    time: str | None
    id: str | None
    label: str | None


@dataclass(frozen=True, eq=False)
class Streamed:
    """One table of the query.

    Attributes
    ----------
    arguments : the columns the model reads of it; empty where it calls no model.
    read : columns the query reads besides.
    slot : the predictions of its rows.
    """

    schema: TableSchema
    slot: Slot | None
    arguments: tuple[str, ...]
    read: tuple[str, ...]

    @property
    def name(self) -> str:
        """As SQL calls it."""
        return self.schema.name


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything that follows from the query, the schemas, the model and the window.

    Attributes
    ----------
    query : None where the query is recomputed; `reason` says why.
    sides : one view for each table of `query`.
    keep : what of a row stays until it expires, so that it can be taken away again.
    """

    sql: str
    registered: RegisteredModel
    passes: Passes
    tables: tuple[Streamed, ...]
    query: Standing | None
    reason: str
    sides: tuple[SideView, ...]
    keep: Literal["inputs", "gradients", "nothing"]

    def table(self, name: str | None) -> int:
        """Which table of the query a batch is for; the only one by default.

        Raises
        ------
        QueryError : the query reads no such table, or several and none is named.
        """
        names = [table.name for table in self.tables]
        if name is None and len(names) == 1:
            return 0
        found = [at for at, known in enumerate(names) if known.lower() == str(name).lower()]
        if found:
            return found[0]
        raise QueryError(
            f"`table` is {name!r}; the standing query reads {', '.join(names)}: say which, "
            f"table={names[0]!r}."
        )

    @property
    def touched(self) -> tuple[np.ndarray, ...]:
        """For each table the classes whose derivatives can matter."""
        if self.query is None:
            return tuple(np.arange(len(self.registered.classes)) for _ in self.tables)
        return tuple(side.touched for side in self.sides)


def understand(
    sql: str,
    registered_model: RegisteredModel,
    schemas: Mapping[str, pa.Schema],
    columns: Columns,
    *,
    window: Window,
    keep: Keep,
    also: tuple[str, ...] = (),
    con: duckdb.DuckDBPyConnection,
) -> Setup:
    """Read a standing query over tables of these schemas; they are made, empty, in `con`.

    Parameters
    ----------
    also : columns that are kept although the query does not read them.

    Raises
    ------
    QueryError, UnsupportedQueryError : the query cannot be understood, or not be kept over windows
        of this kind.
    SettingsError : a column with a meaning is not there, or what should be kept does not suffice.
    """
    _check_clock(sql, registered_model.name)
    with exclusive(con):
        for name, schema in schemas.items():
            _make_table(con, name, _with_label(schema, columns, registered_model))
        functions = {registered_model.name: registered_model.classes}
        plan = prepare(sql, con, functions)
        query, reason = _standing(sql, con, functions)
    index, model = registered_model.index, registered_model.model
    assert index is not None  # the caller asks for both
    assert model is not None
    passes = Passes.of(model, np.asarray(index.eigenvectors))
    tables = tuple(
        _streamed(
            sql,
            TableSchema(name, _with_label(schema, columns, registered_model)),
            plan.slots,
            columns,
            also,
        )
        for name, schema in schemas.items()
    )
    if query is not None:
        by_name = {table.name.lower(): table for table in tables}
        tables = tuple(by_name[side.source.table.lower()] for side in query.sides)
    _check_window(window, query, reason)
    sides = _sides(con, query, registered_model, passes)
    kept = _kept(keep, tables, query, sides, passes)
    return Setup(sql, registered_model, passes, tables, query, reason, sides, kept)


# Their values change although no row does, so sums of rows that came earlier would be wrong.
_CLOCKS = {
    "age",
    "current_date",
    "current_localtime",
    "current_localtimestamp",
    "current_time",
    "current_timestamp",
    "get_current_time",
    "get_current_timestamp",
    "localtime",
    "localtimestamp",
    "now",
    "today",
    "transaction_timestamp",
}


def _check_clock(sql: str, function: str) -> None:
    dialect = dialect_for([function])
    for node in parse_query(sql, dialect).walk():
        names = function_names(node)
        if (
            isinstance(node, exp.Func)
            and names & _CLOCKS
            and ("age" not in names or len(list(node.iter_expressions())) < 2)
        ):
            raise UnsupportedQueryError(
                spelling(node, sql, dialect),
                why="its value changes while the rows stay, and the query is not asked again then",
                instead="Let a window forget old rows: window=Sliding(...)",
            )


def check_names(names: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    """Refuse columns of an answer that would hide one another where it is read.

    Raises
    ------
    QueryError : two have one name, or one has a name that `Monitor.read` gives.
    """
    groups, values = names
    shown = [f"{name}{end}" for name in values for end in ("_relaxed", "_low", "_high")]
    known = ["window_start", "window_end", "rows", "final", *shown]
    for place, name in enumerate([*groups, *values]):
        if name in known or name in [*groups, *values][:place]:
            raise QueryError(
                f"the query calls a column `{name}`, which is the name of another one where a "
                "monitor is read; call it something else with AS."
            )


def table_names(sql: str, function: str) -> list[str]:
    """Tables a query reads, in the order they are named.

    Raises
    ------
    QueryError, UnsupportedQueryError : it does not parse, or is no SELECT.
    """
    tree = parse_query(sql, dialect_for([function]))
    own = {part.alias.lower() for part in tree.find_all(exp.CTE)}
    names = [table.name for table in tree.find_all(exp.Table) if table.name]
    names = [name for name in names if name.lower() not in own]
    return list(dict.fromkeys(names))


def check_called(sql: str, function: str) -> None:
    """Refuse a query that does not ask the model anything.

    Raises
    ------
    QueryError, UnsupportedQueryError : as `table_names`, or it does not call the function.
    """
    tree = parse_query(sql, dialect_for([function]))
    if not any(function.lower() in function_names(node) for node in tree.walk()):
        raise QueryError(
            f"the query does not call `{function}`, so no training row is behind its answer; write "
            f"{function}(...) where the model predicts, or name it: function='...'."
        )


def selected_names(sql: str, function: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the SELECT items without and with an aggregate, before any table is known.

    Raises
    ------
    QueryError, UnsupportedQueryError : as `table_names`.
    """
    dialect = dialect_for([function])
    tree = parse_query(sql, dialect)
    groups: list[str] = []
    values: list[str] = []
    for item in tree.selects:
        aggregated = item.find(exp.AggFunc, exp.CountIf) is not None
        name = item.alias_or_name or spelling(item, sql, dialect)
        (values if aggregated else groups).append(name)
    return tuple(groups), tuple(values)


def _standing(
    sql: str, con: duckdb.DuckDBPyConnection, functions: Mapping[str, Any]
) -> tuple[Standing | None, str]:
    try:
        return standing(sql, con, functions), ""
    except UnsupportedQueryError as problem:
        return None, f"`{problem.fragment}`: {problem.why}"


def _make_table(con: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema) -> None:
    lower = [column.lower() for column in schema.names]
    twice = [column for column in schema.names if lower.count(column.lower()) > 1]
    if twice:
        raise SettingsError(
            f"`{name}` has the columns {', '.join(twice)}, which are one to SQL; rename or leave "
            "out all but one."
        )
    try:
        with registered(con, schema.empty_table()) as empty:
            con.execute(f"CREATE TABLE {quote(name)} AS SELECT * FROM {empty}")
    except (pa.ArrowException, duckdb.Error) as problem:
        said = clean(problem) if isinstance(problem, duckdb.Error) else one_line(problem)
        raise SettingsError(
            f"DuckDB cannot hold a table `{name}` with the columns "
            f"{', '.join(f'{field.name} {field.type}' for field in schema)}: {said}. Give columns "
            "of other names or types."
        ) from None


def _with_label(schema: pa.Schema, columns: Columns, model: RegisteredModel) -> pa.Schema:
    """The schema with a label column in the type of the classes, if labels come later."""
    if columns.label is None or columns.label in schema.names:
        return schema
    same = [name for name in schema.names if name.lower() == columns.label.lower()]
    if same:
        raise SettingsError(
            f"`label` is {columns.label!r}, but the table has a column {same[0]!r}; spell it so."
        )
    return schema.append(pa.field(columns.label, pa.array(list(model.classes)).type))


def _streamed(
    sql: str,
    schema: TableSchema,
    slots: Sequence[Slot],
    columns: Columns,
    also: Sequence[str],
) -> Streamed:
    names = schema.schema.names
    for what, name in (("time", columns.time), ("id", columns.id), ("label", columns.label)):
        if name is not None and name not in names:
            raise SettingsError(
                f"`{what}` is {name!r}, but `{schema.name}` has the columns {', '.join(names)}."
            )
    if columns.time is not None:
        event_times(_empty(schema, columns.time), columns.time)
    if columns.id is not None:
        id_keys(_empty(schema, columns.id), columns.id)
    own = [slot for slot in slots if slot.table.lower() == schema.name.lower()]
    slot = own[0] if own else None
    meaning = {columns.time, columns.id, columns.label}
    arguments: tuple[str, ...] = ()
    if slot is not None:
        arguments = slot.arguments or tuple(name for name in names if name not in meaning)
    for name in also:
        if name not in names:
            raise SettingsError(
                f"`buckets` read {name!r}, but `{schema.name}` has the columns {', '.join(names)}."
            )
    read = tuple(dict.fromkeys([*_read_columns(sql, names, slot), *also]))
    taken = [name for name in (*read, *arguments, *meaning) if _is_ours(name)]
    if taken:
        raise SettingsError(
            f"`{schema.name}` has a column {taken[0]!r}, a name that monitors keep for themselves; "
            "rename it."
        )
    return Streamed(schema, slot, arguments, read)


def _is_ours(name: str | None) -> bool:
    known = ("__row", "__epoch", "__time", "__p", "__t", "__place", "__class")
    return name is not None and (name.lower() in known or name.lower().startswith("__prediction_"))


def _empty(schema: TableSchema, name: str) -> pa.ChunkedArray:
    return pa.chunked_array([], schema.schema.field(name).type)


def _read_columns(sql: str, names: Sequence[str], slot: Slot | None) -> tuple[str, ...]:
    """Columns that the query names outside calls of the model."""
    function = "predict" if slot is None else slot.model
    tree = parse_query(sql, dialect_for([function]))
    for call in list(tree.find_all(exp.Anonymous)):
        if call.name.lower() == function.lower():
            call.replace(exp.null())
    used = {column.name.lower() for column in tree.find_all(exp.Column)}
    dotted = {part.lower() for dot in tree.find_all(exp.Dot) for part in str(dot).split(".")}
    return tuple(name for name in names if name.lower() in used | dotted)


def _check_window(window: Window, query: Standing | None, reason: str) -> None:
    if query is None and isinstance(window, Session):
        raise UnsupportedQueryError(
            reason,
            why="it is recomputed from the rows of a window; sessions are formed by group",
            instead="Use Tumbling, Sliding or Last windows",
        )
    if query is not None and len(query.sides) > 1 and isinstance(window, Session | Last):
        raise UnsupportedQueryError(
            query.query.sql.strip(),
            why=f"{window} are not defined for two tables",
            instead="Use Tumbling or Sliding windows",
        )


def _sides(
    con: duckdb.DuckDBPyConnection,
    query: Standing | None,
    model: RegisteredModel,
    passes: Passes,
) -> tuple[SideView, ...]:
    if query is None:
        return ()
    holes = {source: hole for hole, _ in query.query.calls for source in [hole[1]]}
    return tuple(
        SideView(con, side, holes.get(place), model.classes, passes)
        for place, side in enumerate(query.sides)
    )


def _kept(
    keep: Keep,
    tables: Sequence[Streamed],
    query: Standing | None,
    sides: Sequence[SideView],
    passes: Passes,
) -> Literal["inputs", "gradients", "nothing"]:
    if keep not in KEEPS:
        raise SettingsError(f"`keep` is {keep!r}; it must be one of {', '.join(KEEPS)}.")
    if query is None:
        if keep not in ("auto", "inputs"):
            raise SettingsError(
                f"`keep` is {keep!r}, but the query is recomputed from the rows of a window, which "
                "needs keep='inputs'."
            )
        return "inputs"
    if keep != "auto":
        return keep
    inputs = sum(_row_bytes(table) for table in tables)
    width = np.dtype(passes.model.theta.dtype).itemsize
    gradients = sum(len(side.touched) * passes.k * width for side in sides if side.side.slot)
    return "inputs" if inputs <= gradients else "gradients"


def _row_bytes(table: Streamed) -> float:
    """Bytes of a row's model arguments; more than any gradient where rows differ in length."""
    return sum(_type_bytes(table.schema.schema.field(name).type) for name in table.arguments)


def _type_bytes(kind: pa.DataType) -> float:
    if pa.types.is_fixed_size_list(kind):
        return kind.list_size * _type_bytes(kind.value_type)
    try:
        return kind.bit_width / 8
    except ValueError:
        return float("inf")
