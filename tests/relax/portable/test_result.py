"""The door: `result.portable_sql` and what it needs, on a database that knows no model."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import rainpp
from rainpp.errors import UnsupportedQueryError
from tests.relax.portable.engines import engine, same

COUNT = "SELECT g, COUNT(*) AS n FROM people WHERE predict(*) = 'it''s' GROUP BY g"
CLASSES = ["hi", "it's", "no"]


@pytest.fixture
def database():
    con = duckdb.connect()
    con.execute("CREATE TABLE people AS SELECT i % 2 AS g, i AS a FROM range(6) r(i)")
    database = rainpp.connect(con)
    p = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    database.register_predictions("predict", table="people", probabilities=p, classes=CLASSES)
    return database, p, con


@pytest.mark.parametrize("name", ["sqlite", "datafusion"])
def test_another_database_gives_the_relaxed_answer_and_its_gradient(database, name):
    database, p, con = database
    result = database.sql(COUNT)
    with engine(name) as made:
        rows = con.sql("SELECT rowid AS rid, * FROM people").to_arrow_table()
        made.load("people", rows)
        for table, frame in result.portable_tables().items():
            made.load(table, pa.Table.from_pandas(frame, preserve_index=False))
        found = {row[0]: row for row in made.run(result.portable_sql(name))}
        slopes = made.run(result.portable().gradient_sql(name, cell="n", key=(1,)))
    for g, n, exists in result.relaxed().itertuples(index=False):
        assert same(found[g][1], n)
        assert same(found[g][2], exists)
    assert sorted(slopes) == [(rid, 1, 1.0) for rid in (1, 3, 5)]
    assert same(found[1][1], p[1::2, 1].sum())


def test_the_row_id_column_can_be_named(database):
    sql = database[0].sql(COUNT).portable_sql("sqlite", rid="rowid")
    assert '"people"."rowid"' in sql


def test_names_of_schemas_and_tables_are_kept(database):
    database, p, con = database
    con.execute('CREATE SCHEMA "odd s"')
    con.execute('CREATE TABLE "odd s"."t ""x" AS FROM people')
    con.execute("CREATE TABLE main.plain AS FROM people")
    for table, written in (('"odd s"."t ""x"', '"odd s"."t ""x"'), ("plain", '"plain"')):
        database.register_predictions("predict", table=table, probabilities=p, classes=CLASSES)
        result = database.sql(f"SELECT COUNT(*) AS n FROM {table} q WHERE predict(*) = 'hi'")
        assert f'FROM {written} AS "q"' in result.portable_sql("postgres")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (f"{COUNT} HAVING COUNT(*) > 1", "HAVING"),
        ("SELECT MAX(a) AS n FROM people WHERE predict(*) = 'hi'", "max"),
        ("SELECT AVG(a) AS n FROM people WHERE predict(*) = 'hi'", "rows are averaged"),
    ],
)
def test_what_has_no_sum_of_products_is_refused_by_name(database, sql, words):
    result = database[0].sql(sql)
    with pytest.raises(UnsupportedQueryError, match=f"(?i){words}"):
        result.portable_sql()


def test_the_product_rules_are_refused(database):
    with pytest.raises(UnsupportedQueryError, match='mode="rain"'):
        database[0].sql(COUNT, mode="rain").portable_sql()


def test_the_example_of_the_page_prints_what_it_shows():
    page = Path(__file__).parents[3] / "docs" / "portable.md"
    text = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert len(example.examples) > 12
    said: list[str] = []
    failed = doctest.DocTestRunner().run(example, out=said.append)
    assert failed.failed == 0, "".join(said)
