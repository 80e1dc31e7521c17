"""Bad input gets one clear error, and leaves a monitor and its file as they were."""

from __future__ import annotations

import datetime as dt
import threading

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import rainpp
from rainpp.errors import (
    ArtifactError,
    DataError,
    ModelError,
    QueryError,
    RainError,
    SettingsError,
    ShapeError,
    UnsupportedQueryError,
)
from rainpp.monitoring import state as room
from rainpp.monitoring.intake import Intake
from rainpp.monitoring.kept import Kept
from rainpp.monitoring.monitor import Monitor
from rainpp.stream import journal
from rainpp.stream.store import Store
from rainpp.windows import Everything, Last, Session, Sliding, Tumbling
from tests import oracles
from tests.monitoring.world import START, arrow, make_rows, trained, watch

PREDICTED = "predict(a, b, c, d)"
BY_REGION = (
    f"SELECT region, count(*) AS n, sum(amount) AS s FROM people WHERE {PREDICTED} < 3 "
    "GROUP BY region"
)
SIMPLE = f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} IN (0, 1) GROUP BY region"
ACCURACY = f"SELECT avg(CASE WHEN {PREDICTED} = label THEN 1 ELSE 0 END) AS share FROM people"
NAN = float("nan")


def rows(count=8, seed=0, first=0):
    found = make_rows(count, seed, seconds=20)
    return arrow(found.assign(id=found["id"] + first, amount=found["amount"].fillna(1.0)))


def changed(**columns):
    """Three rows with other columns."""
    found = rows(3, 1, 100)
    for name, values in columns.items():
        kept = isinstance(values, pa.Array)
        found = found.set_column(
            found.column_names.index(name), name, values if kept else pa.array(values)
        )
    return found


def state(monitor):
    """What a refused batch must not change."""
    offsets = monitor.offsets
    kept = monitor._kept
    if kept is None:
        return offsets, monitor._store.about(), len(monitor.late())
    return (
        offsets,
        str(monitor.watermark),
        monitor.read().to_csv(),
        monitor.accuracy().to_csv(),
        monitor.late().to_csv(),
        [change.body() for change in monitor.changes()],
        sorted(map(str, kept.emission.body())),
        {name: watch.body() for name, watch in monitor._watches.items()},
        (len(kept.intake._directories[0]), kept.intake.next_row),
        monitor.sql('SELECT * FROM rows_0 ORDER BY "__row"').to_csv(),
    )


def send(monitor, what, *, doing="predictions", source="s", upto=None):
    with monitor.batch(source, upto) as b:
        what(b) if callable(what) else getattr(b, doing)(what)
    return b.taken


def refused(kind, match, what, *, doing="predictions", first=True, sql=BY_REGION, **options):
    """Send what must be refused to a monitor, which goes on."""
    with watch(sql, label="label", **options) as monitor:
        if first:
            send(monitor, rows())
        before = state(monitor)
        with pytest.raises(kind, match=match):
            send(monitor, what, doing=doing)
        assert state(monitor) == before
        assert send(monitor, rows(4, 2, 50)).rows == 4


BIG = pa.array([2**63 + 1, 5, 6], pa.uint64())
BAD_ROWS = {
    "id of fractions": ("was int64 and is double", {"id": [1.5, 2.0, 3.0]}),
    "id NULL": ("NULL in 1 rows", {"id": [100, None, 102]}),
    "id bytes": ("is binary", {"id": [b"x", b"y", b"z"]}),
    "id text": ("is string", {"id": ["x", "y", "z"]}),
    "id beyond 64 bits": ("not in range", {"id": BIG}),
    "id true": ("bool says something else", {"id": [True, False, True]}),
    "time NULL": ("needs a time", {"t": pa.array([None, START, START], pa.timestamp("us"))}),
    "time text": ("is string", {"t": ["2026-01-01", "x", "y"]}),
    "time numbers": ("int64 says something else", {"t": [1, 2, 3]}),
    "time beyond 9999": (
        "years 1 to 9999",
        {"t": pa.array([2**63 - 1, 0, 0], pa.timestamp("us"))},
    ),
    "feature NaN": ("NaN or infinity", {"a": [NAN, 1.0, 2.0]}),
    "feature infinite": ("NaN or infinity", {"a": [float("inf"), 1.0, 2.0]}),
    "feature NULL": ("must have a value", {"a": [None, 1.0, 2.0]}),
    "feature text": ("is string", {"a": ["x", "y", "z"]}),
    "feature true": ("bool says something else", {"a": [True, False, True]}),
    "feature lists": ("is list", {"a": [[1.0], [2.0], [3.0]]}),
    "amount NaN": ("a sum cannot hold nan", {"amount": [NAN, 1.0, 2.0]}),
    "amount infinite": ("a sum cannot hold", {"amount": [float("inf"), 1.0, 2.0]}),
    "amount huge": ("a sum cannot hold", {"amount": [1e308, 1.0, 2.0]}),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_used(name):
    match, columns = BAD_ROWS[name]
    refused(DataError, match, changed(**columns), keep="gradients")


@pytest.mark.parametrize("name", ["id NULL", "time NULL", "feature NaN", "amount huge"])
def test_a_refused_first_batch_leaves_no_schema(name, tmp_path):
    match, columns = BAD_ROWS[name]
    options = {"first": False, "schema": None, "store": tmp_path / "m.duckdb"}
    refused(DataError, match, changed(**columns), **options)


def test_a_first_batch_of_other_types_is_not_what_later_ones_must_be():
    refused(DataError, "ids are integers", changed(id=[1.5, 2.0, 3.0]), first=False, schema=None)
    missing = rows(3).drop_columns("a")
    refused(QueryError, "no column `a`", missing, first=False, schema=None)


@pytest.mark.parametrize(
    ("match", "table"),
    [
        ("no column `region`", rows(3, 1, 100).drop_columns("region")),
        ("no column `id`", rows(3, 1, 100).drop_columns("id")),
        (
            "twice the column `a`; nothing|twice the column `a`",
            pa.table(
                [*rows(3, 1, 100).columns, rows(3).column("a")],
                names=[*rows(3).column_names, "a"],
            ),
        ),
        ("is a NoneType", None),
        ("is a list", [1]),
        ("cannot be read as a table", {"id": [1, 2], "t": [1]}),
        ("cannot be read as a table", {"id": 5}),
    ],
)
def test_tables_that_cannot_be_read(match, table):
    refused(DataError, match, table)


@pytest.mark.parametrize(
    ("match", "ids"),
    [
        ("give a list", "abc"),
        ("give a list", 5),
        ("give a list", None),
        ("is a DataFrame", pd.DataFrame({"id": [1]})),
        ("is a dict", {"id": [1]}),
        ("is double", [1.5]),
        ("is bool", [True]),
        ("NULL in 1", [1, None]),
        ("cannot be read", [2**63]),
        ("is list", [[1]]),
    ],
)
def test_ids_that_cannot_be_taken_back(match, ids):
    refused(DataError, match, ids, doing="retract")


def test_ids_are_taken_back_from_any_kind_of_list():
    with watch(SIMPLE) as monitor:
        send(monitor, rows(20))
        ids = [
            pd.Series([0, 999], index=[5, 6]),
            {1},
            range(2, 3),
            np.array([3.0]),
            pd.array([4], "Int64"),
            pa.chunked_array([[5]]),
        ]
        taken = [send(monitor, part, doing="retract") for part in ids]
        assert [part.late for part in taken] == [1, 0, 0, 0, 0, 0]
        assert monitor.sql("SELECT count(*) AS n FROM rows_0")["n"][0] == 14


@pytest.mark.parametrize(
    ("match", "labels"),
    [
        ("is string", ["x"]),
        ("is double", [1.5]),
        ("is bool", [True]),
        ("is double", [NAN]),
        ("is list", [[1]]),
    ],
)
def test_labels_that_cannot_be_read(match, labels):
    refused(DataError, match, {"id": [1], "label": labels}, doing="feedback")


def test_labels_before_any_rows():
    labels = {"id": [1], "label": [1]}
    refused(DataError, "no rows yet", labels, doing="feedback", first=False, schema=None)
    with watch(SIMPLE, label="label") as monitor:
        assert send(monitor, labels, doing="feedback").late == 1


@pytest.mark.parametrize("sql", [SIMPLE, ACCURACY])
def test_null_takes_a_label_back(sql):
    with watch(sql, label="label") as monitor:
        send(monitor, rows(20))
        before = monitor.accuracy()["labelled"][0]
        unknown = make_rows(20, 0, seconds=20).query("label.isna()")["id"].tolist()[:1]
        send(monitor, {"id": unknown, "label": [7]}, doing="feedback")
        assert monitor.accuracy()["labelled"][0] == before + 1
        send(monitor, {"id": unknown, "label": [None]}, doing="feedback")
        assert monitor.accuracy()["labelled"][0] == before


def test_labels_corrections_and_the_same_id_again_in_one_batch(tmp_path):
    def steps(b):
        b.feedback({"id": [1, 1, 2], "label": [0, 2, 1]})
        b.feedback({"id": [3], "label": [1]})
        b.retract([3])
        b.predictions(rows(8).slice(3, 1))
        b.feedback({"id": [3, 77], "label": [0, 1]})
        b.retract([77])

    options = {"label": "label", "keep": "gradients", "store": tmp_path / "m.duckdb"}
    with watch(ACCURACY, **options) as monitor:
        send(monitor, rows())
        taken = send(monitor, steps)
        assert (taken.rows, taken.late) == (1, 2)
        whole = (monitor.read().to_csv(), monitor.accuracy().to_csv())
    with watch(ACCURACY, **options) as monitor:
        assert (monitor.read().to_csv(), monitor.accuracy().to_csv()) == whole


def test_a_label_of_a_row_that_went_is_not_given_to_the_next_row(tmp_path):
    options = {"label": "label", "keep": "gradients", "store": tmp_path / "m.duckdb"}
    unlabelled = rows().set_column(4, "label", pa.nulls(8, pa.int64()))
    for step in range(3):
        monitor = watch(ACCURACY, **options)
        if step == 0:
            send(monitor, unlabelled)
            send(monitor, {"id": [7], "label": [1]}, doing="feedback")
            send(monitor, [7], doing="retract")
        elif step == 1:
            send(monitor, unlabelled.slice(0, 1).set_column(0, "id", pa.array([50])))
        assert monitor.accuracy()["labelled"].sum() == 0
        monitor._store.close()  # without a summary


KEYS = {
    "date": "DATE '2020-01-01' + i::INT",
    "instant with a zone": "TIMESTAMPTZ '2020-01-01 00:00:00+00' + INTERVAL (i) DAY",
    "nanoseconds": "'2020-01-01 00:00:00.000000001'::TIMESTAMP_NS",
    "decimal": "(i + 0.5)::DECIMAL(18, 3)",
    "blob": r"'\xAA\x00'::BLOB",
    "list": "[i, NULL]",
    "struct": "{'a': i, 'b': [1, NULL]}",
    "map": "MAP {'k': i}",
    "interval": "INTERVAL (i) MONTH",
    "uuid": "('00000000-0000-0000-0000-00000000000' || i)::UUID",
    "enum": "'x'::ENUM('x', 'y')",
    "NULL": "NULL",
    "NaN and -0.0": "CASE i % 3 WHEN 0 THEN 'nan'::DOUBLE WHEN 1 THEN -0.0 ELSE 0.0 END",
    "text": "CASE i % 2 WHEN 0 THEN 'a' || chr(0) ELSE repeat('😀', 100000) END",
}


@pytest.mark.parametrize("name", KEYS)
def test_groups_of_any_type_are_found_again(name, tmp_path):
    people = rows(6)  # noqa: F841 - DuckDB finds it by its name
    con = duckdb.connect()
    con.execute("SET TimeZone = 'Asia/Tokyo'")
    sql = f"SELECT *, {KEYS[name]} AS g FROM (SELECT *, id AS i FROM people)"
    table = con.sql(sql).to_arrow_table()
    query = f"SELECT g, count(*) AS n FROM people WHERE {PREDICTED} < 3 GROUP BY g"
    options = {"schema": table.schema, "store": tmp_path / "m.duckdb", "keep": "gradients"}
    with watch(query, **options) as monitor:
        send(monitor, table.slice(0, 3))
        before = monitor.read()
    with watch(query, **options) as monitor:
        pd.testing.assert_frame_equal(monitor.read(), before)
        assert send(monitor, table).repeated == 3
        groups = con.sql(
            "SELECT count(*) FROM (SELECT g FROM table GROUP BY g)".replace(
                "FROM table", f"FROM ({sql})"
            )
        ).fetchall()[0][0]
        assert len(monitor.read()) == groups
        send(monitor, table.column("id"), doing="retract")
        assert monitor.read().empty


def test_groups_beyond_the_calendar_are_refused():
    query = (
        f"SELECT t + INTERVAL (amount) YEAR AS g, count(*) AS n FROM people WHERE {PREDICTED} < 3 "
        "GROUP BY g"
    )
    refused(DataError, "years 1 to 9999", changed(amount=[90_000.0, 1.0, 1.0]), sql=query)


def test_text_that_looks_like_the_name_of_a_table_stays_text():
    sql = f"SELECT count(*) AS n FROM people WHERE {PREDICTED} < 3 AND region <> '{{batch}}'"
    with watch(sql) as monitor:
        send(monitor, rows())
        assert monitor.read()["n"][0] == 8


def test_encoded_columns_are_read_as_what_they_hold():
    table = rows()
    table = table.set_column(2, "region", table.column("region").dictionary_encode())
    table = table.set_column(0, "id", table.column("id").cast(pa.string()).cast(pa.string_view()))
    with watch(SIMPLE, schema=None) as monitor:
        assert send(monitor, table).rows == 8
        assert send(monitor, table).repeated == 8


def test_other_columns_wider_types_and_empty_batches_are_fine():
    with watch(SIMPLE) as monitor:
        assert send(monitor, rows().append_column("new", pa.array(range(8)))).rows == 8
        single = changed(a=pa.array([1, 2, 3], pa.float32()), b=[1, 2, 3])
        assert send(monitor, single).rows == 3
        assert send(monitor, rows(3).slice(0, 0)).rows == 0
        assert send(monitor, lambda _: None).rows == 0


OPTIONS = [
    (SettingsError, "`name` is 'a b'", {"name": "a b"}),
    (SettingsError, "`name` is 'system'", {"name": "system"}),
    (SettingsError, "`lateness` is '-1s'", {"lateness": "-1s"}),
    (SettingsError, "`lateness` is 5", {"lateness": 5}),
    (SettingsError, "`ahead` is None", {"ahead": None}),
    (SettingsError, "`idle` is '0s'; it must be positive", {"idle": "0s"}),
    (SettingsError, "at most", {"retention": "999999999999999w"}),
    (SettingsError, "shorter than the window", {"window": Tumbling("2h"), "retention": "1h"}),
    (SettingsError, "`window` is '10m'", {"window": "10m"}),
    (SettingsError, "`store` is None", {"store": None}),
    (SettingsError, "`store` is ''", {"store": ""}),
    (SettingsError, "`label` is 5", {"label": 5}),
    (SettingsError, "`time` is ''", {"time": ""}),
    (SettingsError, "spell it so", {"label": "A"}),
    (SettingsError, "a column of its own", {"id": "t"}),
    (DataError, "event times are timestamps", {"time": "region"}),
    (DataError, "ids are integers or text", {"id": "amount"}),
    (SettingsError, "`function` is None", {"function": None}),
    (SettingsError, "`keep` is 5", {"keep": 5}),
    (SettingsError, "`buckets` is a str", {"buckets": "x", "label": "label"}),
    (ArtifactError, "`index` is None", {"index": None}),
    (ModelError, "`model` is a NoneType", {"model": None}),
    (ModelError, "`encode` is 5", {"encode": 5}),
    (SettingsError, "columns a, A", {"schema": pa.schema([("a", "int8"), ("A", "int8")])}),
    (SettingsError, "no entry for", {"schema": {}}),
    (DataError, "is a str", {"schema": "x"}),
]


@pytest.mark.parametrize(("kind", "match", "options"), OPTIONS)
def test_options_that_are_wrong(kind, match, options):
    settings = {"time": "t", "id": "id", "schema": rows(1).schema, "name": "people"}
    settings |= {"model": trained().model, "index": trained().index, **options}
    with pytest.raises(kind, match=match):
        rainpp.monitor(settings.pop("name"), SIMPLE, **settings)


COUNT = "SELECT count(*) AS n FROM people WHERE "
STATEMENTS = [
    (QueryError, "is empty", ""),
    (QueryError, "must be a string", None),
    (QueryError, "no text in UTF-8", "SELECT \ud800"),
    (UnsupportedQueryError, "not a SELECT", "DELETE FROM people"),
    (UnsupportedQueryError, "2 statements", f"{SIMPLE}; {SIMPLE}"),
    (QueryError, "does not call `predict`", "SELECT count(*) AS n FROM people"),
    (UnsupportedQueryError, "while the rows stay", f"{COUNT} {PREDICTED} = 1 AND t > now()"),
    (UnsupportedQueryError, "while the rows stay", f"{COUNT} {PREDICTED} = 1 AND t > today()"),
    (UnsupportedQueryError, "run to run", f"{COUNT} {PREDICTED} = 1 AND random() < 0.5"),
    (QueryError, "no column `zz`", f"{COUNT} predict(zz) = 1"),
    (QueryError, "is not a class", f"{COUNT} {PREDICTED} = 7"),
    (QueryError, "calls a column `n`", f"SELECT count(*) AS n, {COUNT[7:]} {PREDICTED} = 1"),
    (QueryError, "calls a column `rows`", SIMPLE.replace("AS n", "AS rows")),
    (QueryError, "calls a column `n_low`", SIMPLE.replace("region,", "region AS n_low,")),
]


@pytest.mark.parametrize(("kind", "match", "sql"), STATEMENTS, ids=ascii)
def test_queries_that_are_refused(kind, match, sql):
    with pytest.raises(kind, match=match):
        watch(sql)


def test_a_model_that_cannot_read_its_arguments():
    with watch(f"{COUNT} predict(a, b) = 1") as monitor:
        with pytest.raises(ModelError, match="cannot read these rows"):
            send(monitor, rows())
        assert monitor.read()["rows"].sum() == 0


def test_a_table_that_the_query_names_itself_is_no_table_of_the_stream():
    sql = f"WITH p AS (SELECT * FROM people) SELECT count(*) AS n FROM p WHERE {PREDICTED} = 1"
    with watch(sql) as monitor:
        assert send(monitor, rows()).rows == 8


NAMES = ("a b", "a.b", 'a"b', "select", "number", "new", "{batch}")
ROLES = ("id", "label", "region", "a")
# Every name in two roles, every role with half of the names.
NAMED = [
    pytest.param(role, column, marks=pytest.mark.slow if (name + place) % 2 else ())
    for name, column in enumerate(NAMES)
    for place, role in enumerate(ROLES)
]


@pytest.mark.parametrize(("role", "column"), NAMED)
def test_columns_of_any_name(role, column, tmp_path):
    def named(table):
        return table.rename_columns([column if n == role else n for n in table.column_names])

    quoted = '"' + column.replace('"', '""') + '"'
    sql = SIMPLE.replace("region", quoted) if role == "region" else SIMPLE
    sql = sql.replace("(a,", f"({quoted},") if role == "a" else sql
    roles = {name: column if name == role else name for name in ("id", "label")}
    options = {**roles, "schema": named(rows(1)).schema, "store": tmp_path / "m.duckdb"}
    for step in range(2):
        with watch(sql, keep="gradients", **options) as monitor:
            assert send(monitor, named(rows())).rows == (0 if step else 8)
            send(monitor, {roles["id"]: [1], roles["label"]: [step]}, doing="feedback")


@pytest.mark.parametrize("column", ["__row", "__p", "__place", "__prediction_0_of_0"])
def test_columns_that_monitors_keep_for_themselves(column):
    schema = rows(1).rename_columns([column if n == "region" else n for n in rows(1).column_names])
    with pytest.raises(SettingsError, match="keep for themselves"):
        watch(SIMPLE.replace("region", column), schema=schema)


@pytest.mark.parametrize("table", ["a b", 'a"b', "select", "rows_0"])
def test_tables_of_any_name(table):
    quoted = '"' + table.replace('"', '""') + '"'
    with watch(SIMPLE.replace("people", quoted)) as monitor:
        assert send(monitor, rows()).rows == 8


@pytest.mark.parametrize("name", ["select", "PEOPLE", "état"])
def test_names_that_need_quotes(name, tmp_path):
    for _ in range(2):
        monitor = rainpp.monitor(
            name,
            SIMPLE,
            model=trained().model,
            index=trained().index,
            schema=rows(1).schema,
            id="id",
            store=tmp_path / f"{name}.duckdb",
        )
        with monitor:
            send(monitor, rows())
            assert monitor.read()["rows"].sum() == 8


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Tumbling, ("0s",)),
        (Tumbling, (5,)),
        (Sliding, ("10s", "3s")),
        (Sliding, ("1d", "1us")),
        (Session, ("0s",)),
        (Last, (0,)),
        (Last, (1.5,)),
        (Last, (True,)),
        (Last, (np.int64(5),)),
    ],
)
def test_windows_that_cannot_be(kind, options):
    with pytest.raises(SettingsError):
        kind(*options)


@pytest.mark.parametrize(
    "when",
    [
        "n >",
        "",
        "n > 5 OR n < 3",
        "n = 5",
        "n > n",
        "zz > 5",
        "n > 'x'",
        "n > 1e400",
        "abs(n) > 5",
        "n > 5; SELECT 1",
        "rows > 5",
        "accuracy < 1 AND n > 1",
        "\x00",
        5,
        None,
        "n > " + "(" * 5000,
    ],
)
def test_conditions_that_are_nonsense(when):
    with watch(SIMPLE, label="label") as monitor:
        with pytest.raises(SettingsError, match="when"):
            monitor.alert("alarm", when)
        monitor.alert("alarm", " AND ".join(["n > 1"] * 3000))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("clear", ["zz > 1", 5]),
        ("where", [5, "region", {"zz": 1}, {"region": ["EU", "US"]}, {"region": {"a": 1}}]),
        ("hold", [0, 1.0, True, "2", None, NAN, np.int64(2)]),
        ("min_rows", [-1, "x", None, True, NAN, float("inf")]),
        ("target", ["x", NAN, True, [1], float("inf")]),
        ("whole_windows", ["yes", NAN, 2]),
        ("name", ["", None, 5, "*", "change", "\ud800", "a\0"]),
    ],
)
def test_options_of_alarms_that_are_wrong(name, values):
    with watch(SIMPLE) as monitor:
        for value in values:
            options = {"name": "alarm", "when": "n > 1", name: value}
            with pytest.raises(SettingsError, match=f"`{name}`"):
                monitor.alert(**options)
        monitor.alert("alarm", "n > 0", min_rows=np.int64(2), target=np.float32(2.5))
        send(monitor, rows())
        assert all(change.body() for change in monitor.changes())


def test_all_handlers_are_called_and_the_batch_stays():
    with watch(SIMPLE) as monitor:
        monitor.alert("alarm", "n > 0", where={"region": "EU"})
        heard = []

        def fails(*_):
            raise LookupError("a handler failed")

        monitor.on("*", fails)
        monitor.on("alarm", lambda about, _: heard.append(about.status))
        with pytest.raises(LookupError), monitor.batch("s", 1) as b:
            b.predictions(rows(30))
        assert heard == ["firing"]
        assert b.taken is not None
        assert b.taken.rows == 30
        monitor.on("change", fails)
        with pytest.raises(ExceptionGroup, match="several handlers"):
            send(monitor, rows(30, 3, 50))
        assert send(monitor, rows(30), upto=1).replayed


def test_a_handler_may_read_and_send():
    with watch(SIMPLE) as monitor:
        heard = []

        def hears(about, _):
            heard.append(about.seq)
            assert not monitor.read().empty
            if about.seq == 0:
                send(monitor, rows(8, 3, 50), source="handler")

        monitor.on("change", hears)
        send(monitor, rows())
        assert heard == list(range(len(heard)))
        assert monitor.read()["rows"].sum() > 8


PLACES = [
    (Store, "write"),
    (Intake, "_register"),
    (Intake, "accept"),
    (Intake, "feedback"),
    (Intake, "_leave"),
    (Kept, "speak"),
    (Monitor, "_summarise_in_time"),
]
# The first batch of all is interrupted at one of them.
INTERRUPTS = [
    pytest.param(
        *place,
        after,
        first,
        marks=pytest.mark.slow if first and place is not PLACES[0] else (),
    )
    for place in PLACES
    for after in (True, False)
    for first in (True, False)
]


@pytest.mark.parametrize(("kind", "method", "after", "first"), INTERRUPTS)
def test_an_interrupt_at_any_place(kind, method, after, first, tmp_path, monkeypatch):
    def step(at):
        def steps(b):
            b.predictions(rows(8, at, 8 * at))
            b.retract([8 * at])
            b.feedback({"id": [8 * at + 1], "label": [1]})

        return steps

    def interrupted(*arguments):
        if after:
            whole(*arguments)
        raise KeyboardInterrupt

    whole, options = getattr(kind, method), {"label": "label", "window": Sliding("60s", "20s")}
    with watch(SIMPLE, store=tmp_path / "m.duckdb", keep="gradients", **options) as monitor:
        monitor.alert("alarm", "n > 0")
        if not first:
            send(monitor, step(0), upto=0)
        before = state(monitor)
        with monkeypatch.context() as patched:
            patched.setattr(kind, method, interrupted)
            with pytest.raises(KeyboardInterrupt):
                send(monitor, step(1), upto=1)
        committed = state(monitor) != before
        assert send(monitor, step(1), upto=1).replayed == committed
        found = state(monitor)
    with watch(SIMPLE, keep="gradients", **options) as monitor:
        monitor.alert("alarm", "n > 0")
        for at in [1] if first else [0, 1]:
            send(monitor, step(at), upto=at)
        assert state(monitor) == found


def test_a_full_disk_is_an_error_and_a_summary_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SUMMARY_EVERY", 2)
    with watch(SIMPLE, label="label", store=tmp_path / "m.duckdb") as monitor:
        send(monitor, rows())
        before = state(monitor)

        def full(*_, **__):
            raise duckdb.IOException("No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(monitor._store._journal, "add", full)
            with pytest.raises(ArtifactError, match="No space left"):
                send(monitor, rows(4, 1, 50))
        assert state(monitor) == before
        with monkeypatch.context() as patched:
            patched.setattr(
                Store,
                "summarise",
                lambda *_, **__: (_ for _ in ()).throw(ArtifactError("the disk is full")),
            )
            assert send(monitor, rows(4, 1, 50)).rows == 4
        assert monitor._at.unsummarised == 2
        send(monitor, rows(4, 2, 60))
        assert monitor._at.unsummarised == 0


@pytest.mark.parametrize("place", ["file", "memory"])
def test_a_full_disk_while_the_journal_is_moved_loses_nothing(tmp_path, monkeypatch, place):
    monkeypatch.setattr(journal, "_MOST_LINES", 2)
    store = tmp_path / "m.duckdb" if place == "file" else ":memory:"
    with watch(SIMPLE, label="label", keep="inputs", store=store) as monitor:
        send(monitor, rows())

        def full(*_, **__):
            raise duckdb.IOException("No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(monitor._store, "_insert_many", full)
            for at in range(3):  # two of them would have moved it
                assert send(monitor, rows(4, 1, 50 + 10 * at)).rows == 4
            with pytest.raises(ArtifactError, match="No space left"):
                monitor.sql("SELECT count(*) AS n FROM rows_0")
        assert len(monitor._store._journal.batches) == 4
        assert monitor.sql("SELECT count(*) AS n FROM rows_0")["n"][0] == 20
        assert not monitor._store._journal.batches
        assert monitor.read()["rows"].sum() == 20


def test_summaries_come_although_no_process_lives_long(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SUMMARY_EVERY", 3)
    for at in range(7):
        monitor = watch(SIMPLE, store=tmp_path / "m.duckdb")
        send(monitor, rows(8, at, 8 * at))
        assert monitor.sql("SELECT count(*) AS n FROM batches")["n"][0] < 3
        monitor._store.close()  # as a crash does


def test_a_batch_is_used_once_and_inside_its_block():
    with watch(SIMPLE) as monitor:
        b = monitor.batch()
        with pytest.raises(DataError, match="not open"):
            b.predictions(rows())
        with b:
            b.predictions(rows())
        with pytest.raises(DataError, match="has been used"), b:
            pass
        with monitor.batch() as outer:
            outer.predictions(rows())
            assert send(monitor, rows(4, 1, 50)).rows == 4
        assert outer.taken.repeated == 8


def test_threads_share_a_monitor(tmp_path):
    with watch(SIMPLE, store=tmp_path / "m.duckdb") as monitor:
        problems = []

        def work(number):
            try:
                for at in range(5):
                    first = 1000 * (number + 1) + 10 * at
                    send(monitor, rows(4, at, first), source=f"s{number}", upto=at)
                    monitor.read()
            except BaseException as problem:  # noqa: BLE001 - looked at below
                problems.append(problem)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems
        assert monitor.sql("SELECT count(*) AS n FROM rows_0")["n"][0] == 40
        assert monitor.offsets == {"s0": 4, "s1": 4}


@pytest.mark.parametrize("upto", [1.0, True, 2**63, "5", NAN, np.uint64(2**63)])
def test_offsets_that_are_none(upto):
    with watch(SIMPLE) as monitor, pytest.raises(SettingsError, match="whole numbers"):
        monitor.batch("s", upto)


@pytest.mark.parametrize("source", ["", None, 5, "a\0b", "\ud800", b"s"], ids=ascii)
def test_sources_without_a_name(source):
    with watch(SIMPLE) as monitor, pytest.raises(SettingsError, match="source"):
        monitor.batch(source)


def test_offsets_are_known_before_the_first_rows(tmp_path):
    for at in range(2):
        with watch(SIMPLE, schema=None, store=tmp_path / "m.duckdb") as monitor:
            assert monitor.offsets == ({"s": 0} if at else {})
            taken = send(monitor, lambda _: None, upto=at)
            assert (taken.batch, taken.replayed) == (at, False)


def test_the_watermark_never_goes_back(tmp_path):
    late = changed(t=pa.array([START - dt.timedelta(hours=1)] * 3, pa.timestamp("us")))
    options = {"window": Tumbling("30s"), "store": tmp_path / "m.duckdb"}
    with watch(SIMPLE, **options) as monitor:
        send(monitor, rows(), source="fast")
        mark = monitor.watermark
        send(monitor, late, source="slow")
        assert monitor.watermark == mark
    with watch(SIMPLE, **options) as monitor:
        assert monitor.watermark == mark


@pytest.mark.parametrize("keep", ["auto", "gradients", "inputs"])
def test_an_index_with_another_k_begins_anew(keep, tmp_path):
    problem = trained().problem
    other = rainpp.precompute(problem.model, problem.inputs, problem.labels, k=2)
    with watch(SIMPLE, keep=keep, store=tmp_path / "m.duckdb") as monitor:
        send(monitor, rows())
        monitor.swap(problem.model, other)
        assert send(monitor, rows(4, 1, 50)).rows == 4
        assert send(monitor, [1], doing="retract").late == 1
        assert monitor.context(monitor.changes()[-1]) is not None
    with watch(SIMPLE, keep=keep, store=tmp_path / "m.duckdb") as monitor:
        assert monitor.read().empty


def test_models_that_do_not_fit_are_refused():
    two = oracles.solved_regression(rows=40, classes=2)
    index = rainpp.precompute(two.model, two.inputs, two.labels, k=2)
    with watch(SIMPLE, label="label") as monitor:
        send(monitor, rows())
        before = state(monitor)
        for kind, model, given in [
            (ShapeError, two.model, index),
            (ArtifactError, trained().model, trained(1).index),
            (ArtifactError, trained().model, None),
            (ModelError, None, None),
        ]:
            with pytest.raises(kind):
                monitor.swap(model, given)
            assert state(monitor) == before
        assert send(monitor, rows(4, 1, 50)).rows == 4


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM rows_0",
        "DROP TABLE about",
        "SELECT 1; DELETE FROM rows_0",
        "",
        None,
        "x",
        "BEGIN",
        "USE main",
        "SET threads = 2",
        "CHECKPOINT",
        "SELECT * FROM nope",
        "SELECT '\x00'",
    ],
)
def test_the_state_is_read_only(query):
    with watch(SIMPLE, label="label") as monitor:
        send(monitor, rows())
        before = state(monitor)
        with pytest.raises(QueryError):
            monitor.sql(query)
        assert state(monitor) == before
        assert send(monitor, rows(4, 1, 50)).rows == 4


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.read("x"),
        lambda m: m.confusion("x"),
        lambda m: m.confusion(START),
        lambda m: m.changes("x"),
        lambda m: m.changes(most=-1),
        lambda m: m.changes(most="x"),
        lambda m: m.context(5),
        lambda m: m.on("nope", print),
        lambda m: m.on("*", 5),
        lambda m: m.sql("SELECT DATE '200000-01-01'"),
    ],
)
def test_questions_that_are_nonsense(ask):
    with watch(SIMPLE, label="label") as monitor:
        send(monitor, rows())
        with pytest.raises(RainError):
            ask(monitor)


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.read(),
        lambda m: m.batch(),
        lambda m: m.__enter__(),
        lambda m: m.sql("SELECT 1"),
        lambda m: m.late(),
        lambda m: m.changes(),
        lambda m: m.offsets,
        lambda m: m.watermark,
        lambda m: m.plan(),
        lambda m: m.accuracy(),
        lambda m: m.alert("alarm", "n > 1"),
        lambda m: m.on("*", print),
        lambda m: m.swap(trained().model, trained().index),
    ],
)
def test_a_closed_monitor_says_so(ask):
    monitor = watch(SIMPLE, label="label")
    monitor.close()
    monitor.close()
    assert "people" in repr(monitor)
    with pytest.raises(DataError, match="is closed"):
        ask(monitor)


def test_one_monitor_of_a_name_writes_a_file(tmp_path):
    path, options = tmp_path / "m.duckdb", {"model": trained().model, "index": trained().index}
    options |= {"schema": rows(1).schema, "id": "id", "store": path}
    with rainpp.monitor("one", SIMPLE, **options) as one:
        with pytest.raises(ArtifactError, match="open in this process"):
            rainpp.monitor("ONE", SIMPLE, **options)
        with rainpp.monitor("two", SIMPLE, **options) as two:
            send(one, rows())
            send(two, rows(4))
            assert [m.read()["rows"].sum() for m in (one, two)] == [8, 4]
    with pytest.raises(SettingsError, match="name = 'one'"):
        rainpp.monitor("ONE", SIMPLE, **options)


def test_files_that_are_no_state(tmp_path):
    (tmp_path / "text.duckdb").write_text("hello" * 1000)
    for place in (tmp_path / "text.duckdb", tmp_path / "no" / "m.duckdb", tmp_path):
        with pytest.raises(ArtifactError, match="cannot open"):
            watch(SIMPLE, store=place)


def test_what_a_file_keeps_of_a_row_does_not_change(tmp_path):
    with watch(SIMPLE, store=tmp_path / "m.duckdb", keep="gradients") as monitor:
        send(monitor, rows())
    with pytest.raises(SettingsError, match="keep='gradients'"):
        watch(SIMPLE, store=tmp_path / "m.duckdb", keep="inputs")
    with watch(SIMPLE, store=tmp_path / "m.duckdb") as monitor:
        assert send(monitor, [1], doing="retract").late == 0


@pytest.mark.parametrize("window", [Everything(), Tumbling("30s"), Session("5s"), Last(5)], ids=str)
def test_times_at_the_ends_of_the_calendar(window):
    early = pa.array([dt.datetime(1, 1, 1)] * 3, pa.timestamp("us"))
    late = pa.array([dt.datetime(9999, 12, 31)] * 3, pa.timestamp("us"))
    with watch(SIMPLE, window=window) as monitor:
        assert send(monitor, changed(t=early)).rows == 3
        assert send(monitor, changed(t=late).set_column(0, "id", pa.array([1, 2, 3]))).late == 3
        assert not monitor.read().empty
        assert monitor.changes()


def test_a_query_that_asks_no_model_is_refused_at_once():
    with pytest.raises(QueryError, match="does not call `predict`"):
        watch("SELECT count(*) AS n FROM people")


def test_a_batch_says_what_became_of_labels_and_retractions():
    with watch(ACCURACY, label="label") as monitor:
        send(monitor, rows())
        taken = send(monitor, {"id": [0, 1, 99], "label": [1, 2, 0]}, doing="feedback")
        assert (taken.labels, taken.retracted, taken.late) == (2, 0, 1)
        taken = send(monitor, [1, 2, 99], doing="retract")
        assert (taken.labels, taken.retracted, taken.late) == (0, 2, 1)


def test_a_query_nested_too_deeply_is_said_to_be():
    deep = f"{'(' * 3000}id{')' * 3000}"
    with pytest.raises(QueryError, match="nested too deeply"):
        watch(f"SELECT count(*) AS n FROM people WHERE {PREDICTED} = 1 AND {deep} > 0")
