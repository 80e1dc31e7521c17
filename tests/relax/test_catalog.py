"""What names mean: views spelled out, schemas, what hides what; DuckDB is the judge."""

from __future__ import annotations

import duckdb
import pytest
from sqlglot import exp

from rainpp.errors import QueryError, UnsupportedQueryError
from rainpp.relax.catalog import find_table, find_view


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t AS SELECT range AS a, 'x' || range AS b FROM range(4)")
        con.execute("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT range + 10 AS a FROM range(3)")
        con.execute("CREATE TABLE s.u AS SELECT range AS a FROM range(5)")
        yield con


def named(name):
    return exp.to_table(name, dialect="duckdb")


VIEWS = {
    "plain": "CREATE VIEW plain AS SELECT a, b AS \"B x\" FROM t WHERE a > 1",
    "renamed": 'CREATE VIEW renamed(x, "y z") AS SELECT a, b FROM t',
    "starred": "CREATE VIEW starred(x, y) AS SELECT * FROM t",
    "united": "CREATE VIEW united AS SELECT a FROM t UNION ALL SELECT 7",
    "cte": "CREATE VIEW cte AS WITH t AS (SELECT 3 AS z) SELECT * FROM t",
    "operators": "CREATE VIEW operators AS SELECT a // 2 AS d, a ** 2 AS p, a::TEXT AS c FROM t",
    '"as"': 'CREATE VIEW "as" AS SELECT a AS "as" FROM t AS "AS" WHERE a <> 1',
    '"Wéird"': 'CREATE VIEW "Wéird" AS SELECT count(*) AS "sélect" FROM t',
    "s.inner_names": "CREATE VIEW s.inner_names AS SELECT a FROM t WHERE a > 10",
    "s.joined": "CREATE VIEW s.joined AS SELECT x.a FROM t AS x JOIN main.t AS y ON x.a > y.a",
    "s.hidden": "CREATE VIEW s.hidden AS WITH t AS (SELECT 1 AS a) SELECT a FROM t, u WHERE a < 9",
    "brief": "CREATE TEMP VIEW brief AS SELECT a + 1 AS a FROM t",
}  # fmt: skip


@pytest.mark.parametrize(("name", "sql"), VIEWS.items())
def test_the_select_of_a_view_gives_its_rows_and_columns(con, name, sql):
    if "hidden" in name:
        sql = sql.replace("SELECT a FROM t, u WHERE a < 9", "SELECT t.a FROM t, u WHERE u.a < 9")
    con.execute(sql)
    body = find_view(con, named(name))
    assert body is not None
    found, wanted = (con.sql(f"FROM {source}") for source in (f"({body})", name))
    assert found.columns == wanted.columns
    assert sorted(map(repr, found.fetchall())) == sorted(map(repr, wanted.fetchall()))


@pytest.mark.parametrize("name", ["t", "nothing", "s.t", "memory.s.t", "s"])
def test_what_is_no_view_has_no_select(con, name):
    assert find_view(con, named(name)) is None


def test_a_view_of_all_of_one_table_is_that_table(con):
    con.execute("CREATE VIEW same AS FROM t; CREATE VIEW twice AS SELECT * FROM same")
    con.execute("CREATE VIEW s.same AS FROM t")
    for name, shown in (("same", "t"), ("twice", "t"), ("s.same", "s.t")):
        assert find_view(con, named(name)) is None
        entry = find_table(con, named(name), name)
        assert entry.shown == shown
        wanted = con.execute(f"SELECT a FROM {name} ORDER BY a").fetchall()
        assert con.execute(f"SELECT a FROM {entry.qualified} ORDER BY a").fetchall() == wanted


def test_a_view_that_cannot_be_read_back_is_refused_by_name(con):
    con.execute("CREATE VIEW lam AS SELECT list_transform([a], lambda x: x + 1) AS l FROM t")
    with pytest.raises(UnsupportedQueryError, match="`lam`: the definition of this view"):
        find_view(con, named("lam"))


def test_a_temporary_table_hides_a_view_and_a_temporary_view_a_table(con):
    con.execute(
        "CREATE VIEW v AS SELECT a FROM t WHERE a > 2; CREATE TEMP TABLE v AS SELECT 5 AS q"
    )
    assert find_view(con, named("v")) is None
    assert find_table(con, named("v"), "v").columns == ("q",)
    con.execute(
        "CREATE TABLE w AS SELECT 5 AS q; CREATE TEMP VIEW w AS SELECT a FROM t WHERE a > 2"
    )
    assert find_view(con, named("w")) is not None
    with pytest.raises(UnsupportedQueryError, match="a view has no row ids"):
        find_table(con, named("w"), "w")


@pytest.mark.parametrize("name", ["ghost", "s.ghost", "ghost.t", "ten.csv.x"])
def test_what_does_not_exist_is_refused_with_what_does(con, name):
    with pytest.raises(QueryError, match=r"there is no table .* the tables and views are: .*t"):
        find_table(con, named(name), name)
