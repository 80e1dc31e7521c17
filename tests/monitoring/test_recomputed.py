"""Queries that additions cannot keep: asked again for the rows of a window, and saying so."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.windows import Last, Tumbling
from tests.monitoring.world import arrow, asked, make_rows, watch

PREDICTED = "predict(a, b, c, d)"
QUERIES = {
    "distinct": (
        f"SELECT region, count(DISTINCT {PREDICTED}) AS kinds FROM people GROUP BY region",
        "DISTINCT",
    ),
    "maximum": (
        f"SELECT region, max(amount) AS most FROM people WHERE {PREDICTED} <> 0 GROUP BY region",
        "no relaxation yet",
    ),
    "having": (
        f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} = 1 GROUP BY region "
        "HAVING count(*) > 1",
        "HAVING",
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_windows_are_asked_again(name):
    sql, reason = QUERIES[name]
    rows = make_rows(30, 5)
    with watch(sql, window=Tumbling("60s")) as monitor:
        assert reason in monitor.plan()
        assert "recomputed" in monitor.plan()
        for part in np.array_split(np.arange(30), 3):
            with monitor.batch() as b:
                b.predictions(arrow(rows.iloc[part]))
        with monitor.batch() as b:
            b.retract([2, 5])
        frame = monitor.read()
        left = rows.drop([2, 5])
        for start in frame["window_start"].unique():
            seconds = (left["t"] - start).dt.total_seconds()
            inside = left[(seconds >= 0) & (seconds < 60)]
            result = asked(inside, sql)
            values = result.answer.columns[0]
            ours = frame[(frame["window_start"] == start) & (frame["rows"] > 0)]
            wanted = dict(zip(result.df()["region"], result.df()[values], strict=True))
            relaxed = dict(zip(result.df()["region"], result.relaxed()[values], strict=True))
            assert dict(zip(ours["region"], ours[values], strict=True)) == pytest.approx(
                wanted, nan_ok=True
            )
            for line in ours.itertuples():
                assert getattr(line, f"{values}_relaxed") == pytest.approx(
                    relaxed[line.region], nan_ok=True
                )


def test_the_last_rows_are_asked_again():
    sql, _ = QUERIES["distinct"]
    rows = make_rows(30, 6).sort_values("t", kind="stable")
    with watch(sql, window=Last(12)) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        frame = monitor.read()
    wanted = asked(rows.tail(12), sql).df()
    assert dict(zip(frame["region"], frame["kinds"], strict=True)) == dict(
        zip(wanted["region"], wanted["kinds"], strict=True)
    )


def test_a_row_that_leaves_the_answer_is_retracted():
    sql, _ = QUERIES["having"]
    rows = make_rows(30, 5)
    with watch(sql) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        before = {delta.group["region"] for delta in b.taken.deltas}
        with monitor.batch() as b:
            b.retract(rows["id"].tolist())
        gone = {delta.group["region"] for delta in b.taken.deltas if delta.status == "retracted"}
    assert gone == before
    assert before


def test_an_alarm_of_a_recomputed_query_has_its_gradient():
    sql = f"SELECT max(amount) AS most FROM people WHERE {PREDICTED} = 1"
    rows = make_rows(30, 5)
    with watch(sql) as monitor:
        monitor.alert("large", "most > 10")
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        (alarm,) = b.taken.alarms
        ranking = monitor.context(alarm).explain()
    complaint = asked(rows, sql).complain(column="most", row=0, should="at_most", target=10)
    np.testing.assert_allclose(alarm.vector, complaint.vector(), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(ranking.scores, complaint.rank().scores, rtol=1e-5, atol=1e-12)
