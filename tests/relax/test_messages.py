"""Messages and plans use the names the user wrote."""

import re

import duckdb
import pandas as pd
import pytest

import rainpp
from rainpp.errors import QueryError, UnsupportedQueryError

CHANCES = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6]]


@pytest.fixture(scope="module")
def db():
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE b AS SELECT i AS id, i // 3 AS cage, 1.5 * i AS kg FROM range(5) r(i)"
    )
    con.execute("CREATE VIEW heavy AS SELECT * FROM b WHERE kg > 3")
    db = rainpp.connect(con)
    db.register_predictions("kind", table="b", probabilities=CHANCES, classes=["cat", "dog"])
    db.register_table("album", pd.DataFrame({"id": [8, 9]}))
    return db


@pytest.mark.parametrize("source", ["nix", "(SELECT * FROM nix)"])
def test_a_missing_table_lists_views_and_frames_too(db, source):
    with pytest.raises(QueryError, match="the tables and views are: album, b, heavy"):
        db.sql(f"SELECT count(*) FROM {source} WHERE kind(id) = 'dog'")


def test_an_aggregate_that_rain_cannot_do_is_named_as_written(db):
    with pytest.raises(UnsupportedQueryError, match=r"`MEDIAN\(b\.kg\)` is not a plain count"):
        db.sql("SELECT median(kg) FROM b WHERE kind(id) = 'dog'", mode="rain")


@pytest.mark.parametrize("item", ["SUM(b.kg / 0)", "AVG(b.kg / 0)"])
def test_an_infinite_cell_behind_having_is_quoted(db, item):
    having = "FROM b WHERE kind(id) = 'dog' GROUP BY cage HAVING count(*) > 0"
    with pytest.raises(UnsupportedQueryError, match="infinite") as got:
        db.sql(f"SELECT cage, {item} AS s {having}")
    assert got.value.fragment == item


def test_plans_call_tables_as_the_query_does(db):
    same = "SELECT b.cage, count(*) AS n FROM b JOIN b c ON kind(b.id) = kind(c.id) GROUP BY b.cage"
    assert "rows b, b AS c where kind(b.id) = kind(c.id): 50 rows" in db.sql(same).explain()
    inner = "SELECT count(*) AS n FROM b WHERE kg > (SELECT avg(kg) FROM b WHERE kind(id) = 'dog')"
    text = db.sql(inner).explain()
    assert "filter b.kg > (SELECT AVG(b.kg) FROM b WHERE kind(id) = 'dog')" in text
    assert not re.search("__|b_2", text)
    derived = (
        "SELECT max(n) FROM (SELECT cage, count(*) AS n FROM b WHERE kind(id) = 'dog' GROUP BY 1)"
    )
    assert "rows a subquery: 5 rows" in db.sql(derived).explain()


def test_numbers_are_explained_as_written(db):
    shown = db.sql(
        "SELECT avg(kind_proba(id)['dog']) FILTER (WHERE kind_proba(id)['dog'] > 0.5) FROM b"
    )
    text = shown.explain()
    assert text.count("  slot kind_proba on b(id)") == 1
    assert "mask kind_proba(id)['dog'] > 0.5 IS TRUE" in text
    assert not re.search("__|amount|number_|CAST", text)


def test_row_ids_that_name_rows_are_readable(db):
    shown = db.sql("SELECT cage, kind_proba(id)['dog'] AS p FROM b h WHERE kg > 3")
    assert shown.answer.key(0) == {"rowid of h": 3, "cage": 1}
    assert "rowid of h=3" in str(shown.complain("p", row=0, should="decrease"))
