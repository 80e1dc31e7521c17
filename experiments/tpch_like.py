"""Tables shaped like TPC-H's, made by DuckDB from hashes, and queries over them with a prediction.

Each query is written once: `{p:l}` is a call of the model for a row of `l`, or the column that
holds its answers when DuckDB runs the query alone.
"""

from __future__ import annotations

import re

import duckdb
import numpy as np

from rainpp.types import FloatArray

CLASSES = ("A", "N", "R")
ROWS = {"lineitem": 6_000_000, "orders": 1_500_000, "customer": 150_000}


def _pick(seed: int, values: str, count: int) -> str:
    return f"([{values}])[1 + (hash(range, {seed}) % {count})::INTEGER]"


_SEGMENTS = "'AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY'"
_STATES = "'F', 'O'"
_MODES = "'AIR', 'FOB', 'MAIL', 'RAIL', 'REG AIR', 'SHIP', 'TRUCK'"
_PRIORITIES = "'1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW'"
_COLUMNS = {
    "lineitem": (
        "hash(range, 1) % {orders} AS l_orderkey, hash(range, 2) % 20000 AS l_partkey, "
        "(1 + hash(range, 3) % 50)::DECIMAL(15, 2) AS l_quantity, "
        "(90000 + hash(range, 4) % 10000000)::DECIMAL(15, 2) / 100 AS l_extendedprice, "
        "(hash(range, 5) % 11)::DOUBLE / 100 AS l_discount, "
        "(hash(range, 6) % 9)::DOUBLE / 100 AS l_tax, "
        "DATE '1992-01-02' + (hash(range, 7) % 2526)::INTEGER AS l_shipdate, "
        "DATE '1992-01-31' + (hash(range, 8) % 2466)::INTEGER AS l_commitdate, "
        "DATE '1992-01-03' + (hash(range, 9) % 2554)::INTEGER AS l_receiptdate, "
        f"{_pick(10, _MODES, 7)} AS l_shipmode, {_pick(11, _STATES, 2)} AS l_linestatus"
    ),
    "orders": (
        "range AS o_orderkey, hash(range, 20) % {customer} AS o_custkey, "
        "DATE '1992-01-01' + (hash(range, 21) % 2406)::INTEGER AS o_orderdate, "
        "(hash(range, 22) % 50000000)::DOUBLE / 100 AS o_totalprice, "
        f"{_pick(23, _PRIORITIES, 5)} AS o_orderpriority"
    ),
    "customer": (
        "range AS c_custkey, hash(range, 30) % 25 AS c_nationkey, "
        f"{_pick(31, _SEGMENTS, 5)} AS c_mktsegment, "
        "(hash(range, 32) % 1100000)::DOUBLE / 100 - 1000 AS c_acctbal"
    ),
}

QUERIES = {
    "pricing summary (Q1)": (
        "SELECT {p:l} AS flag, l_linestatus, sum(l_quantity) AS quantity, "
        "sum(l_extendedprice * (1 - l_discount)) AS price, count(*) AS n FROM lineitem l "
        "WHERE l_shipdate <= DATE '1998-09-02' GROUP BY ALL ORDER BY ALL"
    ),
    "shipping priority (Q3)": (
        "SELECT o_orderdate, sum(l_extendedprice * (1 - l_discount)) AS revenue "
        "FROM customer c, orders o, lineitem l WHERE {p:c} = 'N' AND c_custkey = o_custkey "
        "AND l_orderkey = o_orderkey AND o_orderdate < DATE '1995-03-15' "
        "AND l_shipdate > DATE '1995-03-15' GROUP BY o_orderdate ORDER BY o_orderdate"
    ),
    "order priority (Q4)": (
        "SELECT o_orderpriority, count(*) AS n FROM orders o JOIN lineitem l "
        "ON l_orderkey = o_orderkey WHERE o_orderdate >= DATE '1993-07-01' "
        "AND o_orderdate < DATE '1993-10-01' AND l_commitdate < l_receiptdate AND {p:o} <> 'R' "
        "GROUP BY o_orderpriority ORDER BY o_orderpriority"
    ),
    "nation volume (Q5)": (
        "SELECT c_nationkey, sum(l_extendedprice * (1 - l_discount)) AS revenue "
        "FROM customer c JOIN orders o ON c_custkey = o_custkey JOIN lineitem l "
        "ON l_orderkey = o_orderkey WHERE o_orderdate >= DATE '1994-01-01' "
        "AND o_orderdate < DATE '1995-01-01' AND {p:l} = 'A' GROUP BY c_nationkey ORDER BY 1"
    ),
    "forecast (Q6)": (
        "SELECT sum(l_extendedprice * l_discount) AS revenue FROM lineitem l "
        "WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01' "
        "AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24 AND {p:l} IN ('A', 'R')"
    ),
    "returned items (Q10)": (
        "SELECT c_mktsegment, sum(l_extendedprice * (1 - l_discount)) AS revenue, count(*) AS n "
        "FROM customer c JOIN orders o ON c_custkey = o_custkey JOIN lineitem l "
        "ON l_orderkey = o_orderkey WHERE o_orderdate >= DATE '1993-10-01' "
        "AND o_orderdate < DATE '1994-01-01' AND {p:l} = 'R' GROUP BY c_mktsegment ORDER BY 1"
    ),
    "shipping modes (Q12)": (
        "SELECT l_shipmode, count(*) FILTER (WHERE {p:o} = 'A') AS high, count(*) AS n "
        "FROM orders o JOIN lineitem l ON o_orderkey = l_orderkey "
        "WHERE l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate "
        "AND l_shipdate < l_commitdate AND l_receiptdate >= DATE '1994-01-01' "
        "AND l_receiptdate < DATE '1995-01-01' GROUP BY l_shipmode ORDER BY l_shipmode"
    ),
    "promotion share (Q14)": (
        "SELECT sum(CASE WHEN {p:l} = 'N' THEN l_extendedprice * (1 - l_discount) ELSE 0 END) "
        "AS promoted, sum(l_extendedprice * (1 - l_discount)) AS total FROM lineitem l "
        "WHERE l_shipdate >= DATE '1995-09-01' AND l_shipdate < DATE '1995-10-01'"
    ),
    "discounted revenue (Q19)": (
        "SELECT sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem l "
        "WHERE ({p:l} = 'A' AND l_quantity BETWEEN 1 AND 11 AND l_shipmode = 'AIR') "
        "OR ({p:l} = 'N' AND l_quantity BETWEEN 10 AND 20 AND l_shipmode = 'REG AIR')"
    ),
    "balances by segment (Q22)": (
        "SELECT c_mktsegment, count(*) AS n, sum(c_acctbal) AS balance FROM customer c "
        "WHERE c_acctbal > 0 AND {p:c} <> 'A' GROUP BY c_mktsegment ORDER BY c_mktsegment"
    ),
    "orders whose class is the customer's": (
        "SELECT c_mktsegment, count(*) AS n FROM customer c JOIN orders o "
        "ON c_custkey = o_custkey WHERE {p:c} = {p:o} GROUP BY c_mktsegment ORDER BY c_mktsegment"
    ),
}


def connect(scale: float) -> tuple[duckdb.DuckDBPyConnection, dict[str, FloatArray]]:
    """The tables at a scale factor, each with a column `pred`, and the probabilities behind it."""
    con = duckdb.connect()
    con.execute("SET threads = 2")
    sizes = {name: round(rows * scale) for name, rows in ROWS.items()}
    probabilities: dict[str, FloatArray] = {}
    for seed, (name, rows) in enumerate(sizes.items()):
        draws = np.random.default_rng(seed).gamma(1.0, size=(rows, len(CLASSES)))
        found = draws / draws.sum(axis=1, keepdims=True)
        probabilities[name] = found
        winners = np.asarray(CLASSES)[found.argmax(axis=1)]
        con.register("winners", {"pred": winners, "place": np.arange(rows)})
        con.execute(
            f"CREATE TABLE {name} AS SELECT made.*, pred FROM (SELECT range AS place, "
            f"{_COLUMNS[name].format(**sizes)} FROM range({rows})) AS made "
            "JOIN winners USING (place) ORDER BY place"
        )
        con.unregister("winners")
        con.execute(f"ALTER TABLE {name} DROP COLUMN place")
    return con, probabilities


def relaxed_sql(query: str) -> str:
    """The query with calls of the model."""
    return re.sub(r"\{p:(\w)\}", r"predict(\1)", query)


def plain_sql(query: str) -> str:
    """The query DuckDB runs alone."""
    return re.sub(r"\{p:(\w)\}", r"\1.pred", query)
