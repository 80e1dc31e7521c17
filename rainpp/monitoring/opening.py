"""`rainpp.monitor`: options checked, then a monitor made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from rainpp.errors import ArtifactError, QueryError, SettingsError
from rainpp.index.artifact import Index
from rainpp.inference import Encode, RegisteredModel
from rainpp.model import Model
from rainpp.monitoring.drift import Drift
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.setup import Columns, Keep, check_called, table_names
from rainpp.monitoring.spec import Spec
from rainpp.monitoring.tables import as_arrow, plain_schema
from rainpp.registration import check_kinds, class_values, with_training
from rainpp.stream.buckets import Buckets
from rainpp.stream.window import Everything, Window, microseconds
from rainpp.types import ClassValue, PyTree

_MEMORY = ":memory:"
_TAKEN = ("information_schema", "main", "pg_catalog", "system", "temp")


def monitor(
    name: str,
    sql: str,
    *,
    model: Model,
    index: Index,
    data: tuple[PyTree, Any] | None = None,
    function: str = "predict",
    encode: Encode | None = None,
    classes: Sequence[ClassValue] | None = None,
    schema: Any = None,
    time: str | None = None,
    id: str | None = None,
    label: str | None = None,
    window: Window | None = None,
    lateness: Any = "0s",
    retention: Any = None,
    ahead: Any = "1d",
    idle: Any = "5m",
    keep: Keep = "auto",
    buckets: Buckets | None = None,
    reference: Any = None,
    store: str | Path = _MEMORY,
) -> Monitor:
    """Watch a query over a growing table of predictions.

    Parameters
    ----------
    name : of the monitor, and of its schema in the state file: letters, digits and underscores.
        Several monitors may share a file, in one process.
    sql : one SELECT that calls the model; see `Monitor.plan` for how it is kept up to date.
    model, index, encode, classes : as for `Database.register_model`; `function` is the name SQL
        calls the model by.
    data : (inputs, labels) of the training set, when the index was loaded from disk and the
        proofs of `Context.bound` are wanted.
    schema : an Arrow schema or a frame of the table, or one of these for each table by name.
        By default the first batch says; a query over two tables needs it. A state file keeps the
        schema that it began with.
    time : column of event times. Without one a row's time is when it comes.
    id : column of ids, by which rows are recognised, taken back and labelled.
    label : column of true classes, which come later by `Batch.feedback`; the query may read it.
    window : Tumbling, Sliding, Session, Last or Everything (the default).
    lateness : how long after the latest row another may still come in time.
    retention : how long rows and windows are kept after that; by default twice the window, at
        least a day. Rows that come later are not counted: see `Monitor.late`.
    ahead : rows further ahead of the machine's clock are not counted.
    idle : a source that sends nothing for so long does not hold the watermark back.
    keep : what of a row stays so that it can be taken back: "inputs" of the model, "gradients"
        (k numbers for each class that can count), "nothing", or whichever of the first two is
        smaller.
    buckets : a reference for the accuracy of rows without labels: `rainpp.buckets.Buckets.fit` over
        rows the model was not trained on, and whether it was right.
    reference : training columns by name, such as {"image": images}: live rows are compared with
        them, see `Monitor.drift`, and the alarm "drift" goes off once a feature has moved.
    store : path of the state file; in memory by default.

    Raises
    ------
    SettingsError : an option is wrong, or the state file belongs to another query.
    QueryError, UnsupportedQueryError : the query cannot be understood.
    ArtifactError : the state file cannot be used, or the index belongs to another model.
    """
    check_kinds(model, index, encode)
    check_index(index)
    index.check_model(model)
    span = Everything() if window is None else window
    if not isinstance(span, Window):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(
            f"`window` is {window!r}; give Tumbling(...), Sliding(...), Session(...), Last(...) or "
            "Everything() of rainpp.windows."
        )
    spec = Spec(
        _checked_name(name),
        _checked_sql(sql),
        _called(function),
        _columns(time, id, label),
        span,
        microseconds(lateness, "lateness", least=0),
        _retention(retention, span),
        microseconds(ahead, "ahead", least=0),
        microseconds(idle, "idle"),
        keep,
        _reference(buckets),
        None if reference is None else Drift.of(reference),
    )
    if buckets is not None and label is None:
        raise SettingsError("`buckets` are for accuracy; name the column of labels, label='...'.")
    index = index if data is None else with_training(index, model, data)
    check_called(sql, function)
    registered = RegisteredModel(
        function, class_values(function, model, index, classes), model, index, encode
    )
    if registered.is_regression:
        raise SettingsError("monitors count predicted classes; a regression is not watched yet.")
    return Monitor(spec, registered, _schemas(schema, sql, function), _place(store))


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier() or name.lower() in _TAKEN:
        raise SettingsError(
            f"`name` is {name!r}; a monitor is called by letters, digits and underscores, and not "
            f"{', '.join(_TAKEN)}."
        )
    return name


def check_index(index: Any) -> None:
    """Refuse to watch without an index: a monitor keeps gradients along its eigenvectors."""
    if not isinstance(index, Index):
        raise ArtifactError("`index` is None; a monitor needs what rainpp.precompute returns.")


def _called(function: Any) -> str:
    if not isinstance(function, str) or not function.isidentifier():
        raise SettingsError(
            f"`function` is {function!r}; give the name by which the query calls the model, such "
            "as 'predict'."
        )
    return function


def _columns(time: Any, ident: Any, label: Any) -> Columns:
    named = {"time": time, "id": ident, "label": label}
    given = {what: name for what, name in named.items() if name is not None}
    for what, name in given.items():
        if not isinstance(name, str) or not name:
            raise SettingsError(f"`{what}` is {name!r}; give the name of a column.")
    if len({name.lower() for name in given.values()}) < len(given):
        raise SettingsError(
            f"{', '.join(f'`{what}` is {name!r}' for what, name in given.items())}; each is a "
            "column of its own."
        )
    return Columns(time, ident, label)


def _reference(buckets: Any) -> Buckets | None:
    if buckets is not None and not isinstance(buckets, Buckets):
        raise SettingsError(
            f"`buckets` is a {type(buckets).__name__}; give what rainpp.buckets.Buckets.fit "
            "returns."
        )
    return buckets


def _place(store: Any) -> str | Path:
    if not isinstance(store, str | Path) or not str(store) or "\0" in str(store):
        raise SettingsError(f"`store` is {store!r}; give the path of a file, or {_MEMORY!r}.")
    return store


def _checked_sql(sql: Any) -> str:
    if not isinstance(sql, str):
        raise QueryError(f"`sql` is {sql!r}; it must be a string with one SELECT.")
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise QueryError(f"`sql` is {sql!r}, which is no text in UTF-8.") from None
    return sql


def _retention(asked: Any, window: Window) -> int:
    if asked is None:
        return max(2 * window.span, microseconds("1d", "retention"))
    found = microseconds(asked, "retention")
    if found < window.span:
        raise SettingsError(
            f"`retention` is {asked!r}, shorter than the window ({window}); rows would be "
            "forgotten while their window is open. Keep them at least as long."
        )
    return found


def _schemas(schema: Any, sql: str, function: str) -> dict[str, pa.Schema] | None:
    names = table_names(sql, function)
    if schema is None:
        if len(names) != 1:
            raise SettingsError(
                f"the query reads {', '.join(names) or 'no table'}; give schema={{name: schema}} "
                "for each of its tables."
            )
        return None
    given = schema if isinstance(schema, Mapping) else {names[0]: schema} if names else {}
    found = {str(name): _schema(item, str(name)) for name, item in given.items()}
    missing = [name for name in names if name.lower() not in {known.lower() for known in found}]
    if missing:
        raise SettingsError(f"`schema` has no entry for the table {missing[0]!r} of the query.")
    return found


def _schema(item: Any, name: str) -> pa.Schema:
    if isinstance(item, pa.Schema):
        return plain_schema(item)
    frame = as_arrow(item, f"schema of {name}")
    for field in [] if frame.num_rows else frame.schema:
        if pa.types.is_null(field.type):
            raise SettingsError(
                f"`schema` of {name!r} says nothing about the column {field.name!r}: an empty "
                "frame has no type for it. Give a frame with a row, or an Arrow schema."
            )
    return frame.schema
