"""Whatever way a stream is cut into batches, the answer is that of the rows that are there."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from rainpp.windows import Everything, Last, Session, Sliding, Tumbling
from tests.monitoring.world import START, answer, arrow, make_rows, watch

PREDICTED = "predict(a, b, c, d)"
QUERIES = {
    "count of a class": f"SELECT count(*) AS n FROM people WHERE {PREDICTED} = 1",
    "by region": (
        f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} IN (1, 2) GROUP BY region"
    ),
    "by class": f"SELECT {PREDICTED} AS kind, count(*) AS n FROM people GROUP BY {PREDICTED}",
    "sums": (
        f"SELECT region, sum(amount) AS total, count(amount) AS n FROM people "
        f"WHERE {PREDICTED} <> 0 AND amount > 20 GROUP BY region"
    ),
    "accuracy": (
        f"SELECT region, avg(CASE WHEN {PREDICTED} = label THEN 1 ELSE 0 END) AS accuracy "
        "FROM people WHERE label IS NOT NULL GROUP BY region"
    ),
    "average over predictions": (f"SELECT avg(amount) AS mean FROM people WHERE {PREDICTED} = 2"),
    "shares": (
        f"SELECT 100 * avg(CASE WHEN {PREDICTED} = 1 THEN 1 ELSE 0 END) AS share FROM people"
    ),
    "filtered": (
        f"SELECT region, count(*) FILTER (WHERE {PREDICTED} = 1) AS ones, count(*) AS n "
        "FROM people GROUP BY region"
    ),
    "expression": (
        f"SELECT upper(region) AS r, "
        f"sum(CASE {PREDICTED} WHEN 1 THEN amount WHEN 2 THEN 2 END) AS s "
        "FROM people GROUP BY upper(region)"
    ),
}


def check(monitor, rows: pd.DataFrame, sql: str, windows) -> None:
    """Compare all windows of a monitor with the query asked of their rows."""
    expected = {}
    # An uncertain count is divided by: the expected sum over the expected count.
    mode = "rain" if sql == QUERIES["average over predictions"] else "exact"
    for start, inside in windows(rows).items():
        for key, cells in answer(inside, sql, mode).items():
            expected[start, key] = cells
    groups, values = monitor._names
    found = {}
    for number in monitor._kept.numbers():
        for row in monitor._kept.rows(number, None):
            bounds = monitor._kept.bounds(number, row.key)
            fixed = isinstance(monitor.spec.window, Everything | Last)
            start = None if fixed else pd.Timestamp(bounds[0], unit="us")
            if row.present and row.rows:
                found[start, row.key] = row.cells
    assert set(found) == set(expected)
    for place, cells in expected.items():
        for name, (plain, relaxed, gradient) in cells.items():
            cell = found[place][name]
            np.testing.assert_allclose(cell.plain, plain, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(cell.relaxed, relaxed, rtol=1e-9, atol=1e-9)
            if gradient is None:
                continue
            scale = max(1.0, float(np.abs(gradient).max()))
            np.testing.assert_allclose(cell.gradient, gradient, rtol=1e-9, atol=1e-9 * scale)
    assert groups is not None
    assert values


def everything(rows):
    return {None: rows}


def last(count):
    def windows(rows):
        ordered = rows.assign(place=np.arange(len(rows)))
        return {None: ordered.sort_values(["t", "order"]).tail(count)}

    return windows


def sliding(size, every):
    def windows(rows):
        found = {}
        if not len(rows):
            return found
        seconds = (rows["t"] - START).dt.total_seconds()
        low, high = int(seconds.min()) - size, int(seconds.max())
        for begin in range(low - low % every, high + every, every):
            inside = rows[(seconds >= begin) & (seconds < begin + size)]
            if len(inside):
                found[pd.Timestamp(START + timedelta(seconds=begin))] = inside
        return found

    return windows


CUT = {
    "everything": (Everything(), everything),
    "tumbling": (Tumbling("30s"), sliding(30, 30)),
    "sliding": (Sliding("60s", "20s"), sliding(60, 20)),
    "last": (Last(17), last(17)),
}


# Each query in two windows: one of a monitor that keeps gradients, one of one that keeps inputs.
CASES = [
    pytest.param(name, cut, marks=() if (place - query) % len(CUT) < 2 else pytest.mark.slow)
    for query, name in enumerate(QUERIES)
    for place, cut in enumerate(CUT)
]


@pytest.mark.parametrize(("name", "cut"), CASES)
def test_batches_and_deletions_add_up(name, cut):
    window, windows = CUT[cut]
    at = list(QUERIES).index(name) + list(CUT).index(cut)
    keep, rng = ("gradients", "inputs")[at % 2], np.random.default_rng(at)
    rows = make_rows(60, seed=3)
    with watch(QUERIES[name], window=window, keep=keep, label="label") as monitor:
        present = play(monitor, rows, rng)
        check(monitor, present, QUERIES[name], windows)


def play(monitor, rows, rng) -> pd.DataFrame:
    """Send rows in batches in any order, take some back and label others; those that are left."""
    order = rng.permutation(len(rows))
    cuts = np.sort(rng.choice(len(rows), 6, replace=False))
    present = rows.iloc[:0]
    sent = 0
    for part in np.split(order, cuts):
        batch = rows.iloc[part]
        with monitor.batch() as b:
            b.predictions(arrow(batch))
            batch = batch.assign(order=np.arange(sent, sent + len(batch)))
            sent += len(batch)
            present = pd.concat([present, batch])
            if len(present) > 8:
                gone = rng.choice(present["id"].to_numpy(), 4, replace=False)
                b.retract(gone.tolist())
                present = present[~present["id"].isin(gone)]
                chosen = rng.choice(present["id"].to_numpy(), 3, replace=False)
                labels = rng.integers(0, 3, 3)
                b.feedback({"id": chosen, "label": labels})
                new = dict(zip(chosen.tolist(), labels.tolist(), strict=True))
                values = [
                    new.get(i, old) for i, old in zip(present["id"], present["label"], strict=True)
                ]
                present = present.assign(label=pd.array(values, "Int64"))
    return present


@pytest.mark.parametrize("name", ["by region", pytest.param("accuracy", marks=pytest.mark.slow)])
def test_sessions_join_and_part(name):
    gap = 3

    def windows(rows):
        found = {}
        for region, group in rows.groupby("region"):
            ordered = group.sort_values("t")
            breaks = ordered["t"].diff().dt.total_seconds().fillna(0) > gap
            for _, session in ordered.groupby(breaks.cumsum()):
                found[pd.Timestamp(session["t"].iloc[0]), region] = session
        return found

    sql = QUERIES[name]
    rng = np.random.default_rng(5)
    rows = make_rows(60, seed=4)
    rows = rows[rows["label"].notna()].reset_index(drop=True)
    with watch(sql, window=Session("3s"), label="label") as monitor:
        present = play(monitor, rows, rng)
        expected = {}
        for (start, region), inside in windows(present).items():
            for key, cells in answer(inside, sql).items():
                assert key == (region,)
                expected[start, key] = cells["n" if name == "by region" else "accuracy"]
        found = {}
        for number in monitor._kept.numbers():
            for row in monitor._kept.rows(number, None):
                if row.present:
                    found[pd.Timestamp(number, unit="us"), row.key] = next(iter(row.cells.values()))
    assert set(found) == set(expected)
    for place, (plain, relaxed, gradient) in expected.items():
        assert found[place].plain == plain
        np.testing.assert_allclose(found[place].relaxed, relaxed, rtol=1e-9)
        np.testing.assert_allclose(found[place].gradient, gradient, rtol=1e-7, atol=1e-9)


@settings(max_examples=8)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_split_gives_the_same_bits(cuts, random):
    """Values of a stream do not depend on batches, order, or on rows that came and went."""
    rows = make_rows(40, seed=9)
    rows["amount"] = np.where(rows["id"] % 7 == 0, 1e12, 1e-3 * rows["id"])
    sql = f"SELECT sum(CASE {PREDICTED} WHEN 1 THEN amount END) AS s FROM people"
    order = list(range(30))
    random.shuffle(order)
    with watch(sql, keep="gradients") as once, watch(sql, keep="gradients") as split:
        with once.batch() as b:
            b.predictions(arrow(rows.iloc[:30]))
        with split.batch() as b:
            b.predictions(arrow(rows.iloc[30:]))
        for part in np.split(np.asarray(order), sorted({cut % 30 for cut in cuts})):
            with split.batch() as b:
                b.predictions(arrow(rows.iloc[part]))
        with split.batch() as b:
            b.retract(list(range(30, 40)))
        ours, theirs = (item._kept.rows(0, None)[0].cells["s"] for item in (once, split))
    assert ours.plain == theirs.plain
    assert ours.relaxed == theirs.relaxed
    assert ours.spread == theirs.spread
    assert np.array_equal(ours.gradient, theirs.gradient)
