"""Every kind of base table keeps the same contract: value, gradient, materialising, staleness.

The same 30 rows are a table of the database, a view, files and frames; what a plain table answers
is what all of them must answer, with gradients in the order the rows were written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import rainpp
from rainpp.errors import ArtifactError, DataError, QueryError, UnsupportedQueryError
from tests.online import make_scene

ARGS = ["a", "b", "c", "d"]
COUNT = "SELECT count(*) AS n FROM {} WHERE predict(a, b, c, d) = 1"
SUM = (
    "SELECT region, sum(a * predict(a, b, c, d)) AS s, count(*) AS n FROM {} "
    "WHERE predict(a, b, c, d) = 1 OR b > 0 GROUP BY region ORDER BY region"
)


@pytest.fixture(scope="module")
def scene():
    return make_scene(k=4)


@pytest.fixture
def frame(scene):
    return scene.database.connection.sql("FROM people ORDER BY rowid").df()


@dataclass
class Place:
    """Where the rows lie: what stands after FROM, the table's name, and how to change a row."""

    database: rainpp.Database
    source: str
    name: str
    change: Callable[[pd.DataFrame], object]


def _table(database, frame, _, *, kind="TABLE"):
    def write(rows):
        con = database.connection
        con.register("given", rows)
        con.execute("CREATE OR REPLACE TABLE stored AS FROM given")
        con.unregister("given")
        if kind == "VIEW":
            con.execute("CREATE OR REPLACE VIEW people AS FROM stored")
        else:
            con.execute(f"CREATE OR REPLACE {kind} people AS FROM stored")

    write(frame)
    return Place(database, "people", "stored" if kind == "VIEW" else "people", write)


def _files(database, frame, folder, *, suffix, source="{}", name="{}", parts=1):
    path = f"{folder}/people{'-*' if parts > 1 else ''}{suffix}"

    def write(rows):
        con = duckdb.connect()
        for part, piece in enumerate(np.array_split(np.arange(len(rows)), parts)):
            con.register("given", rows.iloc[piece])
            where = path.replace("*", str(part))
            con.execute(f"COPY (FROM given) TO '{where}'")

    write(frame)
    return Place(database, source.format(path), name.format(path), write)


def _view(database, frame, folder, *, suffix):
    place = _files(database, frame, folder, suffix=suffix)
    database.connection.execute(f"CREATE VIEW people AS SELECT * FROM '{place.name}'")
    return Place(database, "people", "people", place.change)


def _frame(database, frame, _, *, make=lambda rows: rows, ours=True):
    register = database.register_table if ours else database.connection.register
    register("people", make(frame))
    return Place(database, "people", "people", lambda rows: register("people", make(rows)))


def _named_files(database, frame, folder):
    place = _files(database, frame, folder, suffix=".csv")
    database.register_table("people", place.name)
    return Place(database, "people", "people", place.change)


KINDS = {
    "table": _table,
    "temporary table": partial(_table, kind="TEMP TABLE"),
    "view of a table": partial(_table, kind="VIEW"),
    "Parquet": partial(_files, suffix=".parquet", source="'{}'"),
    "three Parquet files": partial(_files, suffix=".parquet", source="'{}'", parts=3),
    "read_parquet": partial(_files, suffix=".parquet", source="read_parquet('{}')"),
    "read_parquet with options": partial(
        _files,
        suffix=".parquet",
        source="read_parquet(['{0}'], union_by_name=true)",
        name="READ_PARQUET(['{0}'], union_by_name = TRUE)",
    ),
    "view of Parquet": partial(_view, suffix=".parquet"),
    "CSV": partial(_files, suffix=".csv", source="'{}'"),
    "compressed CSV": partial(_files, suffix=".csv.gz", source="'{}'"),
    "two CSV files": partial(_files, suffix=".csv", source="'{}'", parts=2),
    "read_csv": partial(_files, suffix=".csv", source="read_csv('{}')"),
    "view of CSV": partial(_view, suffix=".csv"),
    "JSON": partial(_files, suffix=".json", source="'{}'"),
    "registered pandas": partial(_frame, ours=False),
    "registered Arrow": partial(_frame, ours=False, make=pa.Table.from_pandas),
    "our pandas": _frame,
    "our Arrow": partial(_frame, make=pa.Table.from_pandas),
    "our record batch": partial(_frame, make=pa.RecordBatch.from_pandas),
    "our path": _named_files,
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def place(request, scene, frame, tmp_path):
    with rainpp.connect(":memory:") as database:
        database.register_model("predict", scene.problem.model, scene.index)
        yield request.param(database, frame, tmp_path)


def by_table(place):
    """Whether materialize can name the place: a call with options has no name of its own."""
    return "(" not in place.name


def test_the_answer_is_that_of_a_plain_table(place, scene):
    found = place.database.sql(SUM.format(place.source))
    wanted = scene.database.sql(SUM.format("people"))
    assert list(found.df()["region"]) == list(wanted.df()["region"])
    np.testing.assert_allclose(found.df()["s"], wanted.df()["s"], rtol=1e-12)
    np.testing.assert_allclose(found.relaxed()["s"], wanted.relaxed()["s"], rtol=1e-12)
    for row in range(3):
        gradients = found.gradient("s", row=row)
        assert list(gradients) == [("predict", place.name)]
        (gradient,) = wanted.gradient("s", row=row).values()
        np.testing.assert_allclose(gradients["predict", place.name], gradient, atol=1e-12)


NESTED = (
    "WITH c AS (SELECT region, max(a) AS top, count(*) AS k FROM {} WHERE predict(a, b, c, d) = 1 "
    "GROUP BY region HAVING count(*) > 1) SELECT sum(top * k) AS s, count(*) AS n FROM c"
)


def test_a_nested_query_gives_what_it_gives_over_a_plain_table(place, scene):
    found = place.database.sql(NESTED.format(place.source))
    wanted = scene.database.sql(NESTED.format("people"))
    np.testing.assert_allclose(found.df()["s"], wanted.df()["s"], rtol=1e-9)
    np.testing.assert_allclose(found.relaxed()["s"], wanted.relaxed()["s"], rtol=1e-9)
    (gradient,) = wanted.gradient("s").values()
    np.testing.assert_allclose(found.gradient("s")["predict", place.name], gradient, atol=1e-9)


def test_the_gradient_is_a_finite_difference(place, scene):
    if not by_table(place):
        pytest.skip("register_predictions needs a name")
    inputs = scene.features
    probabilities = np.asarray(scene.problem.model.probabilities(inputs), np.float64)

    def ask(values):
        place.database.register_predictions("known", table=place.name, probabilities=values)
        sql = SUM.format(place.source).replace("predict(a, b, c, d)", "known(*)")
        return place.database.sql(sql)

    (gradient,) = ask(probabilities).gradient("s", row=1).values()
    rng = np.random.default_rng(3)
    direction = rng.normal(size=probabilities.shape)
    direction -= direction.mean(axis=1, keepdims=True)  # rows keep summing to 1
    step = 1e-6
    ends = [ask(probabilities + sign * step * direction).relaxed()["s"][1] for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-6)


def test_materialised_rows_rank_as_those_of_a_plain_table(place, scene):
    if by_table(place):
        place.database.materialize("predict", table=place.name, args=ARGS)
    found = place.database.sql(COUNT.format(place.source)).complain("n", should="increase").rank()
    wanted = scene.database.sql(COUNT.format("people")).complain("n", should="increase").rank()
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-6)


def changed(frame):
    rows = frame.copy()
    rows.loc[7, "a"] += 1.0
    return rows


def test_a_change_is_noticed(place, frame):
    if not by_table(place):
        pytest.skip("materialize needs a name")
    sql = COUNT.format(place.source)
    place.database.materialize("predict", table=place.name, args=ARGS)
    place.database.sql(sql)
    place.change(changed(frame))
    with pytest.raises(ArtifactError, match="has changed since materialize"):
        place.database.sql(sql)
    place.database.materialize("predict", table=place.name, args=ARGS)
    place.database.sql(sql)


def test_a_change_is_predicted_anew(place, frame, scene):
    sql = COUNT.format(place.source)
    before = place.database.sql(sql).relaxed()["n"][0]
    rows = changed(frame)
    place.change(rows)
    after = place.database.sql(sql).relaxed()["n"][0]
    probabilities = scene.problem.model.probabilities(rows[ARGS].to_numpy())
    np.testing.assert_allclose(after, probabilities[:, 1].sum(), rtol=1e-6)
    assert abs(after - before) > 1e-3


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A database with predictions over ten rows in a file, and that file's folder as our own."""
    monkeypatch.chdir(tmp_path)
    database = rainpp.connect(":memory:")
    database.connection.execute("COPY (SELECT range AS i FROM range(10)) TO 'ten.parquet'")
    database.connection.execute("COPY (SELECT range AS i FROM range(10)) TO 'ten.csv'")
    with database:
        yield database


def known(database, table, rows=10, name="predict"):
    shares = np.linspace(0.1, 0.9, rows)
    database.register_predictions(
        name, table=table, probabilities=np.stack([1 - shares, shares], 1)
    )
    return shares


def test_one_file_under_two_spellings_is_one_prediction(numbers):
    shares = known(numbers, "./ten.parquet")
    sql = (
        "SELECT count(*) AS n FROM 'ten.parquet' JOIN read_parquet('ten.parquet') AS r USING (i) "
        "WHERE predict(ten.i) = 1 AND predict(r.i) = 1"
    )
    result = numbers.sql(sql)
    np.testing.assert_allclose(result.relaxed()["n"][0], shares.sum())
    assert list(result.gradient("n")) == [("predict", "ten.parquet")]


@pytest.mark.parametrize(
    "other", ["'ten.csv' AS o", "plain AS o", "frame AS o", "read_csv('ten.csv') o"]
)
def test_files_join_with_everything(numbers, other):
    numbers.connection.execute("CREATE TABLE plain AS SELECT range * 2 AS i FROM range(10)")
    numbers.register_table("frame", pd.DataFrame({"i": np.arange(0, 20, 2)}))
    numbers.connection.execute("COPY (SELECT range * 2 AS i FROM range(10)) TO 'ten.csv'")
    shares = known(numbers, "ten.parquet")
    sql = f"SELECT sum(o.i) AS s FROM 'ten.parquet' t, {other} WHERE o.i = t.i AND predict(t.i) = 1"
    result = numbers.sql(sql)
    np.testing.assert_allclose(result.relaxed()["s"][0], (shares * np.arange(10))[::2].sum())
    assert result.df()["s"][0] == sum(i for i in (0, 2, 4, 6, 8) if shares[i] > 0.5)


def test_a_column_named_rowid_hides_the_row_ids_of_a_file_too(numbers):
    numbers.connection.execute("COPY (SELECT range AS rowid FROM range(3)) TO 'odd.parquet'")
    for ask in (
        lambda: known(numbers, "odd.parquet", rows=3),
        lambda: numbers.register_table("odd", "odd.parquet") or known(numbers, "odd", rows=3),
    ):
        with pytest.raises(UnsupportedQueryError, match="column `rowid` hides"):
            ask()


def test_a_file_that_has_a_column_for_its_row_number(numbers):
    numbers.connection.execute(
        "COPY (SELECT range AS file_row_number FROM range(10)) TO 'f.parquet'"
    )
    shares = known(numbers, "f.parquet")
    result = numbers.sql("SELECT sum(file_row_number) AS s FROM 'f.parquet' WHERE predict(*) = 1")
    np.testing.assert_allclose(result.relaxed()["s"][0], (shares * np.arange(10)).sum())


def test_row_numbers_are_in_order_with_many_threads(numbers):
    con, rows = numbers.connection, 1_000_000
    con.execute("SET threads = 4")
    con.execute(f"COPY (SELECT range AS i FROM range({rows})) TO 'many.parquet'")
    con.execute(f"COPY (SELECT range + {rows} AS i FROM range({rows})) TO 'many-2.parquet'")
    numbers.register_table("frame", pd.DataFrame({"i": np.arange(rows)}))
    for table, shift in (("frame", 0), ("many*.parquet", rows)):
        entry = rainpp.inference.resolve_table(con, table)
        wrong = f"rowid <> (i + {shift}) % {rows + shift}"
        found = con.execute(f"SELECT count(*), count_if({wrong}) FROM {entry.qualified}").fetchall()
        assert found == [(rows + shift, 0)]


def test_rows_without_an_order_are_refused(numbers):
    numbers.connection.execute("SET preserve_insertion_order = false")
    known(numbers, "ten.parquet")
    with pytest.raises(UnsupportedQueryError, match="preserve_insertion_order"):
        known(numbers, "ten.csv")


def test_an_answer_outlives_the_file_it_was_read_from(numbers):
    shares = known(numbers, "ten.csv")
    result = numbers.sql("SELECT sum(i) AS s FROM 'ten.csv' WHERE predict(i) = 1")
    numbers.connection.execute("COPY (SELECT 5 AS i) TO 'ten.csv'")
    (gradient,) = result.gradient("s").values()
    np.testing.assert_allclose(gradient[:, 1], np.arange(10))
    np.testing.assert_allclose(result.relaxed()["s"][0], (shares * np.arange(10)).sum())
    with pytest.raises(ArtifactError, match=r"`ten\.csv` has changed since register_predictions"):
        numbers.sql("SELECT sum(i) AS s FROM 'ten.csv' WHERE predict(i) = 1")


def test_a_temporary_view_hides_a_table_as_in_duckdb(numbers):
    numbers.connection.execute("CREATE TABLE t AS SELECT range AS i FROM range(3)")
    numbers.connection.register("t", pd.DataFrame({"i": range(10)}))
    shares = known(numbers, "t")
    result = numbers.sql("SELECT sum(i) AS s FROM t WHERE predict(i) = 1")
    np.testing.assert_allclose(result.relaxed()["s"][0], (shares * np.arange(10)).sum())


def test_a_view_looks_up_names_in_its_own_schema(numbers):
    con = numbers.connection
    con.execute("CREATE TABLE t AS SELECT range AS i FROM range(3); CREATE SCHEMA s")
    con.execute("CREATE TABLE s.t AS SELECT range AS i FROM range(10); CREATE VIEW s.v AS FROM t")
    known(numbers, "s.t")
    result = numbers.sql("SELECT sum(i) AS s FROM s.v WHERE predict(i) = 1")
    assert list(result.gradient("s")) == [("predict", "s.t")]


@pytest.mark.parametrize(
    ("name", "source", "error", "words"),
    [
        ("t", pd.DataFrame({"i": [1]}), QueryError, "`t` is already a table"),
        ("V", pd.DataFrame({"i": [1]}), QueryError, "`V` is already a table"),
        ("", pd.DataFrame({"i": [1]}), QueryError, "`name` is ''"),
        (3, pd.DataFrame({"i": [1]}), QueryError, "`name` is 3"),
        ("x", [1, 2], DataError, "`source` is a list; give a pandas DataFrame"),
        ("x", None, DataError, "`source` is a NoneType"),
        ("x", "none.parquet", DataError, "cannot read `none.parquet` as a table: .*No files found"),
        ("x", "ten", DataError, "cannot read `ten` as a table"),
        ("x", pd.DataFrame([[1, 2]], columns=["a", "A"]), DataError, "two columns named `a`"),
        ("x", pd.DataFrame([[1, 2]], columns=["a", "a"]), DataError, "[Dd]uplicate"),
        ("x", pd.DataFrame({"a": [1, "b"]}), DataError, "cannot be read as a table"),
        ("x", pd.DataFrame(), DataError, "no columns"),
    ],
)
def test_what_cannot_be_registered_is_named(numbers, name, source, error, words):
    numbers.connection.execute("CREATE TABLE t AS SELECT 1 AS i; CREATE VIEW v AS SELECT 1 AS i")
    before = numbers.connection.execute("SELECT count(*) FROM duckdb_views()").fetchall()
    with pytest.raises(error, match=words):
        numbers.register_table(name, source)
    assert numbers.connection.execute("SELECT count(*) FROM duckdb_views()").fetchall() == before


def test_a_frame_is_taken_as_it_is_now(numbers):
    frame = pd.DataFrame({"i": np.arange(10)})
    numbers.register_table("x", frame)
    shares = known(numbers, "x")
    frame.loc[:, "i"] = 0
    result = numbers.sql("SELECT sum(i) AS s FROM x WHERE predict(i) = 1")
    np.testing.assert_allclose(result.relaxed()["s"][0], (shares * np.arange(10)).sum())


def test_numbering_leaves_nothing_in_the_lists_a_user_reads(numbers):
    known(numbers, "ten.csv")
    known(numbers, "ten.parquet")
    with pytest.raises(QueryError) as error:
        numbers.sql("SELECT count(*) FROM ghost WHERE predict(i) = 1")
    assert "__rainpp" not in str(error.value)


def test_a_read_only_database_reads_files_and_frames(tmp_path):
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as con:
        con.execute("CREATE TABLE t AS SELECT range AS i FROM range(10)")
        con.execute(f"COPY t TO '{tmp_path}/ten.csv'; COPY t TO '{tmp_path}/ten.parquet'")
    with rainpp.connect(tmp_path / "shop.duckdb") as database:
        database.register_table("frame", pd.DataFrame({"i": range(10)}))
        for table in ("t", "frame", f"{tmp_path}/ten.csv", f"{tmp_path}/ten.parquet"):
            known(database, table)
            sql = f'SELECT sum(i) AS s FROM "{table}" WHERE predict(i) = 1'
            assert database.sql(sql).df()["s"][0] == 5 + 6 + 7 + 8 + 9
