"""Two growing tables that meet on predictions: sums of each side, multiplied."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pytest

import rainpp
from rainpp.errors import SettingsError, UnsupportedQueryError
from rainpp.windows import Everything, Session, Tumbling
from tests.monitoring.world import arrow, make_rows, trained

LEFT, RIGHT = "predict(l.a, l.b, l.c, l.d)", "predict(r.a, r.b, r.c, r.d)"
QUERIES = {
    "same class": f"SELECT count(*) AS n FROM ours l, theirs r WHERE {LEFT} = {RIGHT}",
    "same class and region": (
        f"SELECT l.region AS region, count(*) AS n, sum(r.amount) AS s FROM ours l JOIN theirs r "
        f"ON l.region = r.region AND {LEFT} = {RIGHT} WHERE l.amount > 30 GROUP BY l.region"
    ),
    "one side predicted": (
        f"SELECT count(*) AS n FROM ours l, theirs r WHERE {LEFT} = r.label AND r.amount > 10"
    ),
    "grouped by class": (
        f"SELECT {LEFT} AS kind, sum(l.amount) AS s, count(*) AS n FROM ours l, theirs r "
        f"WHERE {LEFT} = {RIGHT} GROUP BY {LEFT}"
    ),
}


def watch(sql, **options):
    schema = arrow(make_rows(1)).schema
    return rainpp.monitor(
        "pairs",
        sql,
        model=trained().model,
        index=trained().index,
        time="t",
        id="id",
        label="label",
        schema={"ours": schema, "theirs": schema},
        **options,
    )


def expected(ours, theirs, sql):
    con = duckdb.connect()
    first, second = arrow(ours), arrow(theirs)  # noqa: F841 - DuckDB finds them by name
    con.execute(
        "CREATE TABLE ours AS SELECT * FROM first; CREATE TABLE theirs AS SELECT * FROM second"
    )
    db = rainpp.connect(con)
    db.register_model("predict", trained().model, trained().index)
    return db.sql(sql)


@pytest.mark.parametrize("keep", ["gradients", "inputs"])
@pytest.mark.parametrize("name", QUERIES)
def test_sums_of_both_sides(name, keep):
    sql, rng = QUERIES[name], np.random.default_rng(3)
    ours, theirs = make_rows(20, 1), make_rows(25, 2)
    with watch(sql, window=Everything(), keep=keep) as monitor:
        for part in np.array_split(rng.permutation(20), 3):
            with monitor.batch() as b:
                b.predictions(arrow(ours.iloc[part]), table="ours")
                b.predictions(arrow(theirs.iloc[part]), table="theirs")
        with monitor.batch() as b:
            b.predictions(arrow(theirs.iloc[20:]), table="theirs")
            b.retract([3, 4], table="ours")
            b.retract([22], table="theirs")
        rows = monitor._kept.rows(0, None)
    result = expected(ours.drop([3, 4]), theirs.drop([22]), sql)
    frame, relaxed = result.df(), result.relaxed()
    keys = [column for column in frame.columns if column not in result.answer.columns]
    found = {row.key: row for row in rows if row.present}
    assert len(found) == len(frame)
    for at in range(len(frame)):
        key = tuple(_python(frame[column].iloc[at]) for column in keys)
        for column, cell in found[key].cells.items():
            np.testing.assert_allclose(cell.plain, frame[column].iloc[at], rtol=1e-12)
            np.testing.assert_allclose(cell.relaxed, relaxed[column].iloc[at], rtol=1e-9)
            wanted = result.complain(column=column, row=at, should="increase").query_projection()
            np.testing.assert_allclose(cell.gradient, wanted, rtol=1e-8, atol=1e-9)


def _python(value):
    return value.item() if isinstance(value, np.generic) else value


def test_an_average_is_the_expected_sum_over_the_expected_count():
    part = f"FROM ours l, theirs r WHERE {LEFT} = {RIGHT}"
    sql = f"SELECT avg(l.amount) AS m, sum(l.amount) AS s, count(l.amount) AS n {part}"
    with watch(sql) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(make_rows(20, 1)), table="ours")
            b.predictions(arrow(make_rows(25, 2)), table="theirs")
        cells = monitor._kept.rows(0, None)[0].cells
    assert cells["m"].relaxed == pytest.approx(cells["s"].relaxed / cells["n"].relaxed)
    assert cells["m"].plain == pytest.approx(cells["s"].plain / cells["n"].plain)
    slope = (cells["s"].gradient - cells["m"].relaxed * cells["n"].gradient) / cells["n"].relaxed
    np.testing.assert_allclose(cells["m"].gradient, slope, rtol=1e-12)


def test_windows_cut_both_tables():
    sql = QUERIES["same class"]
    ours, theirs = make_rows(20, 1), make_rows(25, 2)
    with watch(sql, window=Tumbling("40s")) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(ours), table="ours")
            b.predictions(arrow(theirs), table="theirs")
        frame = monitor.read()
    assert len(frame) == 3
    for line in frame.itertuples():
        inside = [
            part[(part["t"] >= line.window_start) & (part["t"] < line.window_end)]
            for part in (ours, theirs)
        ]
        assert line.n == expected(*inside, sql).df()["n"][0]


def test_a_group_that_no_longer_meets_is_retracted():
    sql = QUERIES["same class and region"]
    ours = make_rows(20, 1)
    with watch(sql, keep="gradients") as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(ours), table="ours")
            b.predictions(arrow(ours), table="theirs")
        regions = {delta.group["region"] for delta in b.taken.deltas}
        with monitor.batch() as b:
            b.retract(ours["id"].tolist(), table="theirs")
    assert {delta.group["region"] for delta in b.taken.deltas} == regions
    assert {delta.status for delta in b.taken.deltas} == {"retracted"}


def test_what_cannot_be_joined_by_additions_says_so():
    with pytest.raises(SettingsError, match="give schema="):
        rainpp.monitor("pairs", QUERIES["same class"], model=trained().model, index=trained().index)
    with pytest.raises(UnsupportedQueryError, match="not defined for two tables"):
        watch(QUERIES["same class"], window=Session("1m"))
    with pytest.raises(SettingsError, match="keep"):
        watch(
            f"SELECT count(*) AS n FROM ours l, theirs r WHERE {LEFT} < {RIGHT}", keep="gradients"
        )


def test_an_inequality_is_recomputed():
    sql = f"SELECT count(*) AS n FROM ours l, theirs r WHERE {LEFT} < {RIGHT}"
    ours, theirs = make_rows(20, 1), make_rows(25, 2)
    with watch(sql) as monitor:
        assert "something else than an equality" in monitor.plan()
        with monitor.batch() as b:
            b.predictions(arrow(ours), table="ours")
            b.predictions(arrow(theirs), table="theirs")
            b.retract([1], table="ours")
        result = expected(ours.drop([1]), theirs, sql)
        (row,) = monitor._kept.rows(0, None)
    assert row.cells["n"].plain == result.df()["n"][0]
    np.testing.assert_allclose(row.cells["n"].relaxed, result.relaxed()["n"][0])
    complaint = result.complain(column="n", row=0, should="increase")
    np.testing.assert_allclose(row.cells["n"].gradient, complaint.query_projection(), rtol=1e-7)
    assert isinstance(monitor.spec.retention, int)
    assert pd.notna(row.cells["n"].plain)
