"""Alarms: when they go off, when they are over, and what stands behind them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

import rainpp
from rainpp.errors import ComplaintError, RainError, SettingsError
from rainpp.windows import Sliding, Tumbling
from tests.monitoring.world import START, arrow, asked, make_rows, trained, watch

PREDICTED = "predict(a, b, c, d)"
COUNT = f"SELECT count(*) AS n FROM people WHERE {PREDICTED} = 1"
BY_REGION = f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} = 1 GROUP BY region"
OF_EACH = f"SELECT {PREDICTED} AS kind, count(*) AS n FROM people GROUP BY {PREDICTED}"
ONES = make_rows(400, 8)
ONES["kind"] = np.asarray(
    trained().model.probabilities(ONES[list("abcd")].to_numpy(float)).argmax(1)
)


class Feed:
    """Minutes with a given number of rows predicted as class 1."""

    def __init__(self, monitor):
        self.monitor, self.next, self.minute = monitor, 0, 0
        self.ones = ONES[ONES["kind"] == 1]

    def send(self, count, *, seconds=30, minute=None):
        at = self.minute if minute is None else minute
        rows = self.ones.iloc[np.arange(self.next, self.next + count) % len(self.ones)]
        rows = rows.assign(
            id=np.arange(self.next, self.next + count),
            t=START + timedelta(minutes=at, seconds=seconds),
        )
        self.next += count
        if minute is None:
            self.minute += 1
        with self.monitor.batch() as b:
            b.predictions(arrow(rows))
        return [(alarm.status, alarm.value) for alarm in b.taken.alarms]


def test_too_many_is_said_at_once_and_over_when_a_whole_window_is_fine():
    with watch(COUNT, window=Tumbling("1m")) as monitor:
        monitor.alert("many", "n > 5")
        feed = Feed(monitor)
        assert feed.send(4) == []
        assert feed.send(6) == [("firing", 6)]
        assert feed.send(2) == []  # the window is not over: more may come
        assert feed.send(1) == [("resolved", 2)]


@pytest.mark.parametrize("lateness", ["0s", "5s"])
@pytest.mark.parametrize("clear", [None, "n > 20"])
def test_an_alarm_over_sliding_windows_ends_and_goes_off_again(lateness, clear):
    window = Sliding("5m", "1m")
    with watch(COUNT, window=window, lateness=lateness) as monitor:
        monitor.alert("many", "n > 25", clear=clear)
        feed = Feed(monitor)
        counts = [2] * 4 + [12] * 4 + [2] * 10 + [12] * 4 + [2] * 10
        said = [status for count in counts for status, _ in feed.send(count)]
        assert said == ["firing", "resolved", "firing", "resolved"]


def test_too_few_of_open_windows_ends_when_whole_ones_are_fine():
    with watch(COUNT, window=Sliding("3m", "1m")) as monitor:
        monitor.alert("few", "n < 5", whole_windows=False)
        feed = Feed(monitor)
        said = [status for count in [4] * 8 for status, _ in feed.send(count)]
        assert said[:2] == ["firing", "resolved"]


def test_too_few_is_known_once_the_window_is_over():
    with watch(COUNT, window=Tumbling("1m")) as monitor:
        monitor.alert("few", "n < 3")
        feed = Feed(monitor)
        assert feed.send(1) == []
        assert feed.send(5) == [("firing", 1)]
        assert feed.send(4) == [("resolved", 5)]


def test_hold_counts_windows_and_hysteresis_keeps_it_on():
    with watch(COUNT, window=Tumbling("1m")) as monitor:
        monitor.alert("many", "n > 5", hold=2, clear="n > 3", whole_windows=True)
        feed = Feed(monitor)
        said = [feed.send(count) for count in (6, 2, 6, 7, 4, 4, 3, 1)]
    assert said == [[], [], [], [], [("firing", 7)], [], [], [("resolved", 3)]]


def test_a_corrected_older_window_does_not_end_it():
    with watch(COUNT, window=Tumbling("1m")) as monitor:
        monitor.alert("many", "n > 5")
        feed = Feed(monitor)
        feed.send(2)
        assert feed.send(6) == [("firing", 6)]
        assert feed.send(1, minute=0, seconds=5) == []


def test_a_group_has_an_alarm_of_its_own():
    rows = make_rows(60, 3, seconds=50)
    with watch(BY_REGION, window=Tumbling("1m")) as monitor:
        monitor.alert("any", "n >= 1")
        monitor.alert("here", "n >= 1", where={"region": "EU"})
        monitor.alert("large", "n >= 1", min_rows=1000)
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        found = {(alarm.name, alarm.group["region"]) for alarm in b.taken.alarms}
    regions = set(asked(rows, BY_REGION).df()["region"])
    assert found == {("any", region) for region in regions} | {("here", "EU")}


def test_the_state_of_an_alarm_outlives_the_process(tmp_path):
    options = {"window": Tumbling("1m"), "store": tmp_path / "m.duckdb"}
    monitor = watch(COUNT, **options)
    monitor.alert("many", "n > 5", hold=2, whole_windows=True)
    feed = Feed(monitor)
    feed.send(6)
    feed.send(6)
    monitor._store.close()  # without a summary
    with watch(COUNT, **options) as monitor:
        monitor.alert("many", "n > 5", hold=2, whole_windows=True)
        again = Feed(monitor)
        again.next, again.minute = feed.next, feed.minute
        assert again.send(6) == [("firing", 6)]
        said = [item for item in monitor.changes() if isinstance(item, rainpp.Alarm)]
        ranking = monitor.context(said[0]).explain()
        assert ranking.top(3)["score"].iloc[0] > 0


def test_the_ranking_is_that_of_the_complaint_about_the_rows():
    rows = make_rows(80, 5)
    with watch(BY_REGION, keep="inputs") as monitor:
        monitor.alert("many", "n > 1", target=1)
        told = []
        monitor.on("many", lambda alarm, ctx: told.append((alarm, ctx.explain(), ctx)))
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        assert told
        for alarm, ranking, ctx in told:
            complaint = asked(rows, BY_REGION).complain(
                column="n", where=dict(alarm.group), should="at_most", target=1
            )
            np.testing.assert_allclose(alarm.vector, complaint.vector(), rtol=1e-8)
            np.testing.assert_allclose(ranking.scores, complaint.rank().scores, rtol=1e-5)
            assert ctx.complain().want == complaint.complaint.want
            bound = ctx.bound()
            np.testing.assert_allclose(bound.vector(), complaint.vector(), rtol=1e-8)
            assert ctx.sql("SELECT count(*) AS n FROM rows_0")["n"][0] == 80
    assert b.taken.deltas


def test_suggestions_add_up_to_what_is_needed():
    rows = make_rows(80, 5)
    with watch(COUNT) as monitor:
        monitor.alert("many", "n > 3", target=15)
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        (alarm,) = b.taken.alarms
        ctx = monitor.context(alarm)
        ranking, reactions = ctx.explain(), ctx.suggest()
    assert {reaction.kind for reaction in reactions} <= {"delete", "relabel"}
    for reaction in reactions:
        ids = ranking.interventions.ids.tolist()
        assert set(reaction.train_ids) <= set(ids)
        assert len(set(reaction.train_ids)) == reaction.rows
        assert reaction.after == pytest.approx(alarm.value + reaction.effect)
        assert reaction.resolves == (reaction.after <= 15)
    resolved = [reaction.resolves for reaction in reactions]
    assert resolved == sorted(resolved, reverse=True)


def test_a_change_is_complained_about_by_hand():
    rows = make_rows(40, 5)
    with watch(COUNT) as monitor:
        told = []
        monitor.on("change", lambda delta, ctx: told.append((delta, ctx)))
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        delta, ctx = told[0]
        lower = asked(rows, COUNT).complain(column="n", row=0, should="decrease").rank()
        np.testing.assert_allclose(ctx.explain("lower").scores, lower.scores, rtol=1e-5)
        with pytest.raises(ComplaintError, match="say what is wrong"):
            ctx.explain()
        with pytest.raises(ComplaintError, match="'lower' or 'higher'"):
            ctx.explain("less")
        later = monitor.context(b.taken.deltas[0])
        np.testing.assert_allclose(later.explain("lower").scores, lower.scores, rtol=1e-5)
    assert delta.value == asked(rows, COUNT).df()["n"][0]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("n", "columns compared with numbers"),
        ("n > m", "columns compared with numbers"),
        ("n > 3 OR n < 1", "columns compared with numbers"),
        ("m > 3", "The columns are n, rows"),
        ("rows > 3", "first comparison"),
        (3, "write a comparison"),
        ("accuracy < 0.9", "The columns are n, rows"),
    ],
)
def test_conditions_that_mean_nothing(when, message):
    with watch(COUNT) as monitor, pytest.raises(SettingsError, match=message):
        monitor.alert("x", when)


def test_a_number_on_the_left_is_turned_round():
    with watch(COUNT) as monitor:
        monitor.alert("many", "5 < n AND rows >= 2")
        rule = monitor._watches["many"].rule
    assert str(rule.when) == "n > 5 AND rows >= 2"
    assert rule.when.direction == "decrease"
    assert isinstance(rule.when.first.number, float)
    assert rule.hold == 1
    assert OF_EACH


def test_an_index_from_disk_is_proven_with_the_training_rows(tmp_path):
    problem = trained().problem
    rainpp.precompute(problem.model, problem.inputs, problem.labels, k=6, path=tmp_path / "i.rain")
    index = rainpp.load(tmp_path / "i.rain")
    settings = {"time": "t", "id": "id", "keep": "inputs"}
    rows = arrow(make_rows(40, 5))

    def group_effect(**more):
        with rainpp.monitor(
            "people", COUNT, model=problem.model, index=index, **settings, **more
        ) as monitor:
            monitor.alert("many", "n > 1")
            with monitor.batch() as b:
                b.predictions(rows)
            return monitor.context(b.taken.alarms[0]).bound().rank().group_effect(3).effect

    with pytest.raises(RainError, match="not at hand"):
        group_effect()
    assert group_effect(data=(problem.inputs, problem.labels)) > 0


def test_an_empty_frame_of_arrays_is_no_schema():
    frame = pd.DataFrame({"id": [1], "image": [[1.0, 2.0]]})[:0]
    with pytest.raises(SettingsError, match="frame has no type"):
        rainpp.monitor(
            "people",
            "SELECT count(*) AS n FROM people WHERE predict(image) = 1",
            model=trained().model,
            index=trained().index,
            schema=frame,
        )


@pytest.mark.parametrize("keys", ["region", "region, predict(a, b, c, d)"])
def test_a_group_that_is_not_in_the_answer_can_be_complained_about(keys):
    """SQL leaves out a group of which no row counts: the worst of "too few"."""
    sql = (
        f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} = 1 GROUP BY region"
        if keys == "region"
        else f"SELECT region, {PREDICTED} AS kind, count(*) AS n FROM people GROUP BY {keys}"
    )
    with watch(sql, window=Tumbling("1m"), keep="inputs") as monitor:
        rows = ONES[ONES["kind"] != 1].iloc[:30].assign(region="EU", t=START)
        with monitor.batch() as b:
            b.predictions(arrow(rows.assign(id=np.arange(30)).drop(columns="kind")))
        zero = [d for d in monitor.changes() if d.value == 0 and d.group.get("kind", 1) == 1]
        context = monitor.context(zero[0])
        bound = context.bound("higher")
        assert bound.complaint.hard == 0
        assert bound.complaint.relaxed == pytest.approx(zero[0].relaxed)
        kept = context.explain("higher")
        np.testing.assert_allclose(bound.rank().effects, kept.effects, rtol=1e-6, atol=1e-9)
        assert 0 < bound.rank().coverage <= 1
