"""What `explain` predicts: pinned, the same in every run, growing with the rows, and consistent."""

import itertools
import re
from pathlib import Path

import duckdb
import pytest

import rainpp
from rainpp.relax import ask, blockcost, cost
from rainpp.relax.blockcost import block_cost, joined_cost
from rainpp.relax.nested import cost as nested_cost
from rainpp.relax.nested.cost import statement_cost
from rainpp.relax.plan import MAX_PAIRS, Plan

CHANCES = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6]]
MANY = 40


@pytest.fixture
def db():
    con = duckdb.connect()
    con.execute(
        "CREATE TABLE shots AS SELECT i AS id, i // 3 AS cage, 1.5 * i AS kg FROM range(5) r(i)"
    )
    con.execute(f"CREATE TABLE many AS SELECT i AS id, i * i % 89 AS kg FROM range({MANY}) r(i)")
    db = rainpp.connect(con)
    for table, chances in (("shots", CHANCES), ("many", [[0.5, 0.5]] * MANY)):
        db.register_predictions("kind", table=table, probabilities=chances, classes=["cat", "dog"])
    return db


def told(result):
    """`explain` without its milliseconds, which change whenever prices are measured again."""
    return re.sub(r"about [\d,.]+ ms", "T", result.explain())


@pytest.fixture
def estimated(monkeypatch):
    """Estimates that are the same in every version of DuckDB; its own differ between 2.0.x."""
    guess = cost.Estimate(rows=7, passed=11, pairs=13)
    for module in (blockcost, nested_cost):
        monkeypatch.setattr(module, "estimate", lambda *_: guess)


# A query in the first line of a block, below it what is explained.
BLOCKS = (Path(__file__).parent / "explained.txt").read_text().strip().split("\n\n")
EXPLAINED = {query: lines for query, *lines in map(str.splitlines, BLOCKS)}


@pytest.mark.parametrize("sql", EXPLAINED)
@pytest.mark.usefixtures("estimated")
def test_what_is_explained(db, sql):
    assert told(db.sql(sql)).splitlines() == EXPLAINED[sql]


@pytest.mark.parametrize("sql", EXPLAINED)
def test_every_run_explains_alike(db, sql):
    results = [db.sql(sql) for _ in range(3)]
    assert len({result.explain() for result in [*results, *results]}) == 1


def test_a_prediction_is_made_of_counts_alone():
    few = cost.Cost(operators=2, events=1000, in_worlds=10)
    spent = sum(cost.NANOSECONDS[n] * getattr(few, n) for n in ("operators", "events", "in_worlds"))
    assert few.milliseconds == pytest.approx((cost.ANSWER + spent) / 1e6)
    assert all(price > 0.0 for price in cost.NANOSECONDS.values())
    assert str(cost.Cost(operators=1)).endswith(": 1 operator")


QUERIES = [
    "SELECT g, count(*) AS n, avg(a) AS s FROM l WHERE kind(l) = 'dog' AND a > 3 GROUP BY g",
    "SELECT count(*) AS n FROM l, r WHERE kind(l) = kind(r)",
    "SELECT count(*) AS n FROM l, r WHERE kind(l) = kind(r) AND l.k = r.k",
    "SELECT count(*) AS n FROM l, r WHERE kind(l) = kind(r) AND l.a < r.a",
    "SELECT count(*) AS n FROM l, r WHERE kind(l) = kind(r) AND abs(l.a - r.a) < 1",
    "SELECT g, count(*) AS n FROM l WHERE kind(l) = 'dog' GROUP BY g HAVING count(*) > 1",
    "SELECT count(*) AS n FROM l "
    "WHERE EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND kind(r) = 'dog')",
    "SELECT median(a) AS n FROM l WHERE kind(l) = 'dog'",
]


def planned(rows, sql):
    """A plan over two tables of `rows` rows; no prediction is made for any of them."""
    con = duckdb.connect()
    for seed, name in enumerate("lr"):
        con.execute(
            f"CREATE TABLE {name} AS SELECT range AS id, hash(range, {seed}) % 50 AS g, "
            f"hash(range, {seed} + 10) % {rows // 10} AS k, "
            f"(hash(range, {seed} + 20) % 10000) / 100 AS a FROM range({rows})"
        )
    return con, ask.prepare(sql, con, {"kind": ("cat", "dog")})


def costs(rows, sql):
    """Predictions for every strategy a query allows, before anything ran."""
    con, plan = planned(rows, sql)
    if isinstance(plan, Plan):
        return [block_cost(plan, con, exact=True), joined_cost(plan, con, exact=True)]
    return [statement_cost(plan, con), statement_cost(plan, con, worlds=2000)]


@pytest.mark.parametrize("sql", QUERIES)
def test_more_rows_cost_more(sql):
    """Below 20 million joined rows: beyond, the plain answer groups before it joins."""
    for few, more in itertools.pairwise([costs(rows, sql) for rows in (100, 1000, 4000)]):
        for small, large in zip(few, more, strict=True):
            assert large.milliseconds > small.milliseconds
            for name in ("read", "kept", "events", "pairs", "multiply_adds", "in_worlds", "held"):
                assert getattr(large, name) >= getattr(small, name), name


@pytest.mark.parametrize("sql", QUERIES[1:4])
def test_sides_are_kept_apart_where_that_is_predicted_to_be_cheaper(sql):
    apart, joined = costs(10_000, sql)
    assert apart.kept <= 20_000
    assert joined.pairs >= apart.pairs
    assert joined.milliseconds > apart.milliseconds or joined.kept < apart.kept


@pytest.mark.parametrize("rows", [1000, 1900, 2100, 4000])
def test_pairs_are_streamed_once_their_printed_number_is_too_large(rows):
    con, plan = planned(rows, QUERIES[4])
    streamed = any(edge.streamed for edge in plan.relaxed(con, exact=True)[1].edges)
    assert streamed == (rows * rows > MAX_PAIRS)
    assert block_cost(plan, con, exact=True).pairs >= rows * rows


def test_worlds_cost_more_than_formulas():
    formulas, worlds = costs(1000, QUERIES[5])
    assert worlds.milliseconds > formulas.milliseconds
    assert worlds.in_worlds > formulas.in_worlds == 0


def test_estimates_are_duckdbs():
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT i AS a FROM range(1000) r(i)")
    assert cost.estimate(con, "FROM t") == cost.Estimate(1000, 1000, 0)
    both = cost.estimate(con, "SELECT x.a FROM t x, t y")
    assert (both.rows, both.pairs) == (1_000_000, 1_000_000)


def test_a_table_that_is_gone_has_no_prediction(db):
    result = db.sql("SELECT count(*) AS n FROM shots WHERE kind(id) = 'dog'")
    result.setting.connection.execute("DROP TABLE shots")
    assert result.explain().endswith("predicted cost: unknown, a table of the query is gone")
