"""The online stage as a user meets it: connect, register a model, ask in SQL, complain, rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from rainpp.bound_complaint import BoundComplaint, KeptCell
from rainpp.combination import rank_together, refine_together
from rainpp.connection import check_open, exclusive, open_file
from rainpp.errors import (
    ArtifactError,
    ComplaintError,
    DataError,
    ModelError,
    QueryError,
    SettingsError,
)
from rainpp.index.artifact import Index
from rainpp.inference import (
    Encode,
    InferenceTable,
    RegisteredModel,
    check_classes,
    check_probabilities,
    column_contents,
    predict_table,
    read_classes,
    read_rowids,
    resolve_columns,
    resolve_table,
    table_content,
)
from rainpp.materialized import projections, with_projections
from rainpp.model import Model
from rainpp.point_query import complain_about_point, point_sql, read_point, read_wanted
from rainpp.ranking import Ranking
from rainpp.registration import check_kinds, class_values, with_training
from rainpp.relax.ask import MAX_ERROR, Slot, prepare
from rainpp.relax.catalog import TableEntry
from rainpp.relax.dialect import can_be_called
from rainpp.relax.frames import register_table
from rainpp.result import Result
from rainpp.setting import Setting
from rainpp.types import ClassValue, PredictionTable, Progress, PyTree, silent

_MEMORY = ":memory:"


def connect(
    database: str | Path | duckdb.DuckDBPyConnection = _MEMORY, *, read_only: bool = True
) -> Database:
    """Open a DuckDB file for querying, or use a connection that is already open.

    Parameters
    ----------
    database : path of an existing DuckDB file, ":memory:", or an open connection, which stays
        the caller's to close. rainpp runs queries on it: fetch a pending result of your own first.
    read_only : open a file without the right to change it. A file this process already has open
        for writing is shared as it is.

    Raises
    ------
    DataError : there is no such file, it is not a DuckDB database, another process writes to it,
        or the connection is closed.
    SettingsError : `read_only` is not a truth value.
    """
    if not isinstance(read_only, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingsError(f"`read_only` is {read_only!r}; it must be True or False.")
    if isinstance(database, duckdb.DuckDBPyConnection):
        check_open(database)
        return Database(database, owned=False)
    if not isinstance(database, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            f"`database` is {database!r}; give the path of a DuckDB file, {_MEMORY!r}, or an open "
            "connection."
        )
    if str(database) == _MEMORY:
        return Database(duckdb.connect(_MEMORY), owned=True)
    return Database(open_file(Path(database), read_only=read_only), owned=True)


class Database:
    """A DuckDB database in which models can be called from SQL and answers complained about.

    Threads may share it; their calls on one connection wait for each other.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, owned: bool) -> None:
        self.connection = connection
        self._owned = owned
        self._models: dict[str, RegisteredModel] = {}
        self._tables: dict[tuple[str, str], list[InferenceTable]] = {}

    def register_model(
        self,
        name: str,
        model: Model,
        index: Index | None = None,
        *,
        encode: Encode | None = None,
        classes: Sequence[ClassValue] | None = None,
        data: tuple[PyTree, Any] | None = None,
    ) -> None:
        """Let SQL call a model by `name`; it is run by JAX once per row, never by DuckDB.

        ``name_proba(x)[class]`` is then the probability of a class: between the brackets stands the
        class itself as SQL sees it, `name_proba(x)['cat']` or, with classes 0 .. R-1, ``[0]`` for
        the first. A regression ("squared_error", one output) has no classes: ``name(x)`` is its
        value. Both are numbers, not predictions: SUM and AVG of them are exact; a comparison with a
        constant is approximate, and `Result.method` says how.

        Parameters
        ----------
        index : its index; without one queries and gradients work, rankings do not.
        encode : (one NumPy array per SQL argument) -> model inputs, row by row. By default an
            array column is passed as it is, and scalar columns side by side.
        classes : the SQL value of each output column; with an index, 0 .. R-1 by default. None for
            a regression.
        data : (inputs, labels) of the training set, when the index was loaded from disk and
            `refine` or `verify` is wanted.

        Raises
        ------
        ArtifactError : not an index, or one built for other weights or other data.
        ModelError : no model, a regression of several numbers, or a name SQL cannot call a function
            by.
        ShapeError, DataError : `classes` or `data` do not fit the model.
        """
        self._check_name(name)
        check_kinds(model, index, encode)
        if index is not None:
            index.check_model(model)
            index = index if data is None else with_training(index, model, data)
        elif data is not None:
            raise ModelError("`data` is given without `index`; run rainpp.precompute first.")
        values = class_values(name, model, index, classes)
        self._models[name.lower()] = RegisteredModel(name, values, model, index, encode)
        self._forget(name)

    def register_predictions(
        self,
        name: str,
        *,
        table: str,
        probabilities: Any,
        classes: Sequence[ClassValue] | None = None,
    ) -> None:
        """Let SQL call a model of which only the probabilities for one table are known.

        Queries, complaints and gradients work; ranking needs `register_model`.

        Parameters
        ----------
        probabilities : (V, R), row order = the table's rowid order, rows summing to 1.

        Raises
        ------
        ShapeError, DataError : they do not fit the table, or are not probabilities.
        """
        self._check_name(name)
        with exclusive(self.connection):
            entry = resolve_table(self.connection, table)
            rowids = read_rowids(self.connection, entry)
            values = check_probabilities(probabilities, num_rows=rowids.size, table=entry.shown)
            known = check_classes(read_classes(classes), values.shape[1])
            self._check_same_classes(name, known)
            predictions = PredictionTable(name, entry.shown, None, rowids, values, known)
            content = table_content(self.connection, entry, None)
            columns = column_contents(self.connection, entry, entry.columns)
        before = self._models.get(name.lower())
        if before is not None and before.model is not None:
            self._forget(name)
        self._models[name.lower()] = RegisteredModel(name, known)
        self._tables[_key(name, entry)] = [InferenceTable(predictions, content, columns=columns)]

    def register_table(self, name: str, source: Any) -> None:
        """Let SQL read a frame or files as the table `name`, until the connection closes.

        Their rows are numbered from zero in the order of the frame or the files: the row order of
        gradients and of `register_predictions`.

        Parameters
        ----------
        source : a pandas DataFrame or Arrow table, taken as it is now; or the path of a Parquet,
            CSV or JSON file, or a pattern like "part-*.parquet", read whenever it is asked.

        Raises
        ------
        QueryError : the database has a table or view of that name.
        DataError : `source` cannot be read as a table.
        """
        with exclusive(self.connection):
            register_table(self.connection, name, source)

    def materialize(
        self, name: str, *, table: str, args: Sequence[str], progress: Progress = silent
    ) -> None:
        """Predict a table now and keep the projections, so that complaints need no model.

        They are stored in the index (on disk if it has a path); materialising an unchanged table
        again only opens them.

        Raises
        ------
        QueryError : no such model, table or column.
        DataError : NULL in an argument, or an empty table.
        ModelError : the name has no index, or `encode` or the model fail on these rows.
        ArtifactError : the index cannot be written, or its directory holds another one by now.
        """
        with exclusive(self.connection):
            self._materialize(name, table, args, progress)

    def _materialize(self, name: str, table: str, args: Sequence[str], progress: Progress) -> None:
        registered = self._find(name)
        if registered.model is None or registered.index is None:
            raise ModelError(
                f"`{name}` has no index to store projections in; give one to register_model."
            )
        entry = resolve_table(self.connection, table)
        arguments = resolve_columns(entry, args)
        found = predict_table(self.connection, registered, entry=entry, arguments=arguments)
        if found.inputs is None:
            raise DataError(f"`{table}` has no rows to materialise.")
        index = with_projections(registered.model, registered.index, found, progress)
        if index is not registered.index:
            self._models[name.lower()] = replace(registered, index=index)
        self._tables[_key(name, entry)] = [replace(found, projections=projections(index, found))]

    def sql(self, query: str, *, mode: str = "exact", max_relax_error: float = MAX_ERROR) -> Result:
        """Run a query over predictions; docs/sql.md says what is understood and what it means.

        Parameters
        ----------
        query : one SELECT, or SELECTs under UNION, INTERSECT or EXCEPT, that calls registered
            models.
        mode : "exact" (expectation under independent predictions) or "rain" (product rules, to
            compare with Rain and Rain++).
        max_relax_error : a query too entangled to be relaxed exactly is sampled; it is refused when
            the 95 % interval of a value is wider than this share of max(1, |value|) to either side.

        Raises
        ------
        QueryError : it does not parse, or names what is not there.
        UnsupportedQueryError : no relaxation is known, or sampling is too coarse; the message
            quotes the fragment.
        DataError : NULL in an argument of a model, in any row of its table: there is no prediction
            for such a row. Probabilities given to `register_predictions` ask for no arguments.
        """
        if not isinstance(query, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise QueryError(f"`query` is {query!r}; it must be a string with one SELECT.")
        if mode not in ("exact", "rain"):
            raise QueryError(f"`mode` is {mode!r}; it must be 'exact' or 'rain'.")
        with exclusive(self.connection):
            return self._ask(query, mode, _limit(max_relax_error))

    def _ask(self, query: str, mode: str, max_error: float) -> Result:
        functions = {item.name: item.classes for item in self._models.values()}
        plan = prepare(query, self.connection, functions)
        tables = {slot: self._inference_table(slot, plan.entry(slot)) for slot in plan.slots}
        models = {item.name: item for item in self._models.values()}
        setting = Setting(self.connection, plan, mode, tables, models, max_error)
        return Result(setting, setting.evaluate())

    def rank(
        self,
        complaints: Sequence[BoundComplaint],
        weights: Sequence[float] | None = None,
        *,
        keep: Sequence[KeptCell] = (),
    ) -> Ranking:
        """One ranking for several complaints about one model.

        `ranking.cosines` says how far they pull together; a pair below -0.2 gives a warning.

        Parameters
        ----------
        weights : of each complaint's improvement, >= 0. By default all weigh the same: each is
            scaled by the mean norm of the projected gradients over its own, and divided by their
            number.
        keep : cells that are right, from `result.keep(...)`. The ranking is for the part of the
            complaints that moves none of them to first order; `ranking.survives` is its share.

        Raises
        ------
        ComplaintError : none, something else, complaints about different models, or nothing is left
            of them once the kept cells are held.
        ShapeError : not one finite weight per complaint.
        """
        return rank_together(complaints, weights, keep=keep)

    def refine(self, rankings: Sequence[Ranking], steps: int = 4) -> list[Ranking]:
        """Refine several rankings at once: they share every pass over the training rows.

        See `Ranking.refine`; all must be over one index. Returns the rankings, changed in place.

        Raises
        ------
        ComplaintError : none, something else, or rankings over different models or indexes.
        RainError : the model or the training rows are not at hand.
        """
        return refine_together(rankings, steps)

    def complain_prediction(
        self,
        name: str,
        *,
        table: str,
        rowid: int,
        label: ClassValue,
        should: str = "be",
        args: Sequence[str] | None = None,
    ) -> BoundComplaint:
        """Say what one row should, or should not, be predicted as.

        Effects are in units of the probability of `label`.

        Parameters
        ----------
        rowid : DuckDB's row id in the table.
        should : "be" or "not_be".
        args : the columns the model reads. By default those the table was materialised with, or all
            of its columns.

        Raises
        ------
        ComplaintError : no such row or class, or the prediction is as asked.
        QueryError : no such model, table or column.
        """
        registered, wanted = self._find(name), read_wanted(should)
        if registered.is_regression:
            raise ComplaintError(
                f"`{name}` is a regression and predicts no classes; complain about a query with "
                f"AVG({registered.name}(...)) over the row."
            )
        point = read_point(registered, rowid, label)
        with exclusive(self.connection):
            entry = resolve_table(self.connection, table)
            columns = None if args is None else resolve_columns(entry, args)
            query = point_sql(registered, entry, point, columns)
            result = self._ask(query, "exact", MAX_ERROR)
        return complain_about_point(result, point, wanted=wanted)

    def close(self) -> None:
        """Close the connection if this object opened it."""
        if self._owned:
            self.connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(item.name for item in self._models.values()) or "no models"
        return f"Database({names})"

    def _check_name(self, name: str) -> None:
        if not (isinstance(name, str) and name.isidentifier()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ModelError(f"`name` is {name!r}; it must be a plain SQL identifier.")
        query = "SELECT count(*) FROM duckdb_functions() WHERE lower(function_name) = lower($1)"
        with exclusive(self.connection):
            taken = self.connection.execute(query, [name]).fetchall()[0][0]
        if taken or not can_be_called(name):
            raise ModelError(f"`name` is {name!r}, which SQL already uses; choose another.")

    def _find(self, name: str) -> RegisteredModel:
        if str(name).lower() not in self._models:
            raise QueryError(f"no model `{name}` is registered; registered: {self!r}.")
        return self._models[name.lower()]

    def _forget(self, name: str) -> None:
        self._tables = {key: kept for key, kept in self._tables.items() if key[0] != name.lower()}

    def _check_same_classes(self, name: str, classes: tuple[ClassValue, ...]) -> None:
        known = self._models.get(name.lower())
        if known is not None and known.model is None and known.classes != classes:
            raise DataError(
                f"`{name}` is registered with the classes {list(known.classes)}; "
                f"got {list(classes)}. Use one name per set of classes."
            )

    def _inference_table(self, slot: Slot, entry: TableEntry) -> InferenceTable:
        known = self._tables.setdefault(_key(slot.model, entry), [])
        for item in known:
            arguments = item.predictions.arguments
            if None in (arguments, slot.arguments) or arguments == slot.arguments:
                if self._is_current(item, slot, entry):
                    return item
                if item.projections is not None or arguments is None:
                    raise ArtifactError(_stale(slot, item))
                known.remove(item)
                break
        return self._predict(slot, entry)

    def _is_current(self, item: InferenceTable, slot: Slot, entry: TableEntry) -> bool:
        """Whether the rows, and the columns the model reads of them, are as they were."""
        if item.content != table_content(self.connection, entry, item.predictions.arguments):
            return False
        if item.columns is None:
            return True
        names = slot.arguments or entry.columns
        now = column_contents(self.connection, entry, names)
        return all(item.columns.get(name) == now[name] for name in names)

    def _predict(self, slot: Slot, entry: TableEntry) -> InferenceTable:
        registered = self._find(slot.model)
        if registered.model is None:
            raise QueryError(
                f"`{slot.model}` has probabilities for another table only, not for `{slot.table}`. "
                "Call register_predictions for it, or register_model."
            )
        arguments = slot.arguments or entry.columns
        found = predict_table(self.connection, registered, entry=entry, arguments=arguments)
        self._tables[_key(slot.model, entry)].append(found)
        return found


def _limit(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise QueryError(f"`max_relax_error` is {value!r}; it must be a number from 0.")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _key(name: str, entry: TableEntry) -> tuple[str, str]:
    return name.lower(), entry.shown


def _stale(slot: Slot, item: InferenceTable) -> str:
    call = "materialize" if item.projections is not None else "register_predictions"
    return (
        f"table `{slot.table}` has changed since {call}('{slot.model}', ...): rows were added, "
        f"removed or edited. Call {call} again."
    )
