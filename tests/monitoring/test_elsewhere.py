"""Rows that are counted elsewhere, in any parts, add what they would have added here."""

from __future__ import annotations

import numpy as np
import pytest

import rainpp
from rainpp.errors import (
    ArtifactError,
    DataError,
    QueryError,
    SettingsError,
    UnsupportedQueryError,
)
from rainpp.inference import RegisteredModel
from rainpp.monitoring.counted import Counted, Limits
from rainpp.monitoring.elsewhere import Counter
from rainpp.windows import Everything, Last, Session, Sliding, Tumbling
from tests.monitoring.test_additions import PREDICTED, QUERIES
from tests.monitoring.world import arrow, make_rows, trained, watch

SQL = (
    f"SELECT region, avg(amount) AS mean, count(*) AS n FROM people WHERE {PREDICTED} IN (1, 2) "
    "GROUP BY region"
)
SCHEMA = arrow(make_rows(1)).schema


def open_monitor(sql=SQL, **options) -> rainpp.Monitor:
    return watch(sql, **{"id": None, "keep": "nothing", "window": Tumbling("30s"), **options})


def counter_of(monitor, seed=0) -> Counter:
    known = trained(seed)
    request = monitor.counting_request(SCHEMA)
    model = RegisteredModel(request.spec.function, request.classes, known.model, known.index)
    return Counter.of(request, model)


def send_counted(monitor, counter, rows, upto, parts=3, stream="one"):
    """What Spark does, without Spark."""
    limits = monitor.counting_limits("spark", stream, upto)
    if limits is None:
        return None
    found = []
    for part in range(parts):
        inside = arrow(rows.iloc[part::parts])
        # An Arrow batch after the other, as a partition comes.
        pieces = [inside.slice(0, 4), inside.slice(4)]
        counted = counter.together([counter.count(piece, limits) for piece in pieces])
        found.append(Counted.unpacked(counted.packed()))
    return monitor.take_counted(
        found[::-1],
        source="spark",
        stream=stream,
        upto=upto,
        fingerprint=counter._kept.fingerprint,
    )


def cells_of(monitor):
    """{(window, group): {column: cell}} of everything that is kept."""
    return {
        (number, row.key): row.cells
        for number in monitor._kept.numbers()
        for row in monitor._kept.rows(number, None)
    }


def check_same(ours, theirs):
    assert set(ours) == set(theirs) != set()
    for place, cells in theirs.items():
        for name, cell in cells.items():
            found = ours[place][name]
            np.testing.assert_array_equal(found.plain, cell.plain)
            for part in ("relaxed", "spread", "gradient"):
                exact = getattr(cell, part)
                scale = max(1.0, float(np.abs(exact).max()))
                np.testing.assert_allclose(
                    getattr(found, part), exact, rtol=1e-9, atol=1e-9 * scale
                )


@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("sums", Sliding("60s", "20s")),
        ("average over predictions", Everything()),
        ("by class", Tumbling("30s")),
        ("expression", Tumbling("30s")),
    ],
)
def test_parts_add_up_to_what_the_whole_adds(name, window):
    rows = make_rows(120, seed=2)
    with (
        open_monitor(QUERIES[name], window=window) as here,
        open_monitor(QUERIES[name], window=window) as elsewhere,
    ):
        counter = counter_of(elsewhere)
        for number in range(3):
            inside = rows.iloc[40 * number : 40 * number + 40]
            with here.batch(source="spark", upto=number) as batch:
                batch.predictions(arrow(inside))
            taken = send_counted(elsewhere, counter, inside, number, parts=1 + number)
            assert (taken.rows, taken.late) == (batch.taken.rows, batch.taken.late)
        check_same(cells_of(elsewhere), cells_of(here))
        assert elsewhere.watermark == here.watermark
        assert [d.body().keys() for d in elsewhere.changes()] == [
            d.body().keys() for d in here.changes()
        ]


def test_rows_out_of_time_are_set_aside_for_the_same_reasons():
    rows = make_rows(60, seed=5, seconds=600)
    rows.loc[3, "t"] = rows["t"].max() + (rows["t"].max() - rows["t"].min()) * 10_000_000
    options = {"lateness": "10s", "retention": "60s"}
    with open_monitor(**options) as here, open_monitor(**options) as elsewhere:
        counter = counter_of(elsewhere)
        for number in range(3):
            inside = rows.iloc[20 * number : 20 * number + 20]
            with here.batch(source="spark", upto=number) as batch:
                batch.predictions(arrow(inside))
            send_counted(elsewhere, counter, inside, number)
        columns = ["reason", "body"]
        ours, theirs = (
            sorted(map(tuple, monitor.late()[columns].to_numpy())) for monitor in (elsewhere, here)
        )
        assert ours == theirs
        assert {reason for reason, _ in ours} == {"older than retention", "ahead of the clock"}
        check_same(cells_of(elsewhere), cells_of(here))


def test_a_batch_counts_once_and_only_in_its_turn(tmp_path):
    rows = make_rows(40, seed=1)
    options = {"store": tmp_path / "state.duckdb"}
    with open_monitor(**options) as monitor:
        counter = counter_of(monitor)
        assert send_counted(monitor, counter, rows, 0).rows == 40
        assert send_counted(monitor, counter, rows, 0) is None
        before = cells_of(monitor)
        with pytest.raises(ArtifactError, match=r"batch 2 .* further than the state"):
            monitor.counting_limits("spark", "one", 2)
    with open_monitor(**options) as again:
        assert send_counted(again, counter, rows, 0) is None
        with pytest.raises(ArtifactError, match="from another stream"):
            again.counting_limits("spark", "two", 1)
        assert again.counting_limits("other", "two", 0) is not None
        check_same(cells_of(again), before)
        # Of two that begin at once one is refused, even where it asked before the other came.
        limits = again.counting_limits("two", "a", 0)
        part = counter.count(arrow(rows), limits)
        send = {"source": "two", "upto": 0, "fingerprint": counter._kept.fingerprint}
        assert again.take_counted([part], stream="b", **send).rows == 40
        with pytest.raises(ArtifactError, match="from another stream"):
            again.take_counted([part], stream="a", **send)
    with (
        open_monitor() as fresh,
        pytest.raises(ArtifactError, match=r"batch 7 .* holds none"),
    ):
        fresh.counting_limits("spark", "one", 7)


def test_rows_that_became_too_old_meanwhile_are_counted_again():
    rows = make_rows(40, seed=1, seconds=30)
    later = rows.assign(t=rows["t"] + np.timedelta64(1, "h"))
    with open_monitor(retention="60s", idle="1us") as monitor:
        counter = counter_of(monitor)
        limits = monitor.counting_limits("spark", "one", 0)
        part = counter.count(arrow(rows), limits)
        with monitor.batch(source="other") as batch:
            batch.predictions(arrow(later))
        send = {
            "source": "spark",
            "stream": "one",
            "upto": 0,
            "fingerprint": counter._kept.fingerprint,
        }
        assert monitor.take_counted([part], **send) is None
        assert monitor.offsets == {}
        part = counter.count(arrow(rows), monitor.counting_limits("spark", "one", 0))
        taken = monitor.take_counted([part], **send)
        assert (taken.rows, taken.late) == (0, 40)


def test_another_model_is_refused_by_who_counts_and_by_who_adds():
    rows = make_rows(20)
    with open_monitor() as monitor:
        with pytest.raises(ArtifactError, match="same weights"):
            counter_of(monitor, seed=1)
        counter = counter_of(monitor)
        limits = monitor.counting_limits("spark", "one", 0)
        part = counter.count(arrow(rows), limits)
        monitor.swap(trained(1).model, trained(1).index)
        with pytest.raises(ArtifactError, match="follow the stream anew"):
            monitor.take_counted(
                [part], source="spark", stream="one", upto=0, fingerprint=counter._kept.fingerprint
            )
        assert monitor.read().empty


def test_alarms_and_handlers_hear_of_it():
    rows = make_rows(80, seed=3)
    with open_monitor(QUERIES["count of a class"], window=Everything()) as monitor:
        monitor.alert("many", "n > 5")
        heard = []
        monitor.on("many", lambda alarm, ctx: heard.append((alarm.seq, ctx.explain())))
        send_counted(monitor, counter_of(monitor), rows, 0)
        assert len(heard) == 1
        with open_monitor(QUERIES["count of a class"], window=Everything()) as here:
            here.alert("many", "n > 5")
            here.on("many", lambda alarm, ctx: heard.append((alarm.seq, ctx.explain())))
            with here.batch() as batch:
                batch.predictions(arrow(rows))
        (seq, ours), (other, theirs) = heard
        assert seq == other
        assert ours.top(10)["train_id"].tolist() == theirs.top(10)["train_id"].tolist()


@pytest.mark.parametrize(
    ("sql", "options", "error", "said"),
    [
        (SQL, {"id": "id"}, SettingsError, "`id` is 'id'"),
        (SQL, {"label": "label"}, SettingsError, "`label` is 'label'"),
        (SQL, {"keep": "gradients"}, SettingsError, "keep='nothing'"),
        (SQL, {"keep": "auto"}, SettingsError, "keep='nothing'"),
        (SQL, {"window": Session("3s")}, SettingsError, "sessions"),
        (SQL, {"window": Last(10)}, SettingsError, "the last 10 rows"),
        (SQL, {"reference": {"a": np.zeros(9)}}, SettingsError, "`reference`"),
        (
            f"SELECT max(amount) AS m FROM people WHERE {PREDICTED} = 1",
            {"keep": "inputs"},
            UnsupportedQueryError,
            "recomputed from the rows",
        ),
        (
            "SELECT count(*) AS n FROM people AS x, others AS y WHERE predict(x.a, x.b, x.c, x.d) "
            "= predict(y.a, y.b, y.c, y.d)",
            {"schema": {"people": SCHEMA, "others": SCHEMA}},
            SettingsError,
            "people, others",
        ),
    ],
)
def test_monitors_that_need_the_rows_are_refused(sql, options, error, said):
    with open_monitor(sql, **options) as monitor, pytest.raises(error, match=said):
        monitor.counting_request(SCHEMA)


def test_the_schema_of_the_stream_is_learned_and_written_down(tmp_path):
    store = tmp_path / "state.duckdb"
    with open_monitor(schema=None, store=store) as monitor:
        request = monitor.counting_request(SCHEMA)
        assert set(request.columns) == {"t", "region", "amount", "a", "b", "c", "d"}
    with open_monitor(schema=None, store=store) as again:
        assert again.counting_request(SCHEMA.empty_table().select(["t"]).schema) == request
    with open_monitor(schema=None) as monitor:
        with pytest.raises(QueryError, match="amount"):
            monitor.counting_request(SCHEMA.remove(SCHEMA.get_field_index("amount")))
        assert monitor.counting_request(SCHEMA).columns == request.columns


def test_rows_that_the_model_refuses_add_nothing():
    rows = make_rows(9)
    rows.loc[4, "a"] = np.nan
    with open_monitor() as monitor:
        counter = counter_of(monitor)
        limits = Limits(None, monitor._timeline.clock())
        with pytest.raises(DataError, match="NULL"):
            counter.count(arrow(rows), limits)
        assert counter.count(arrow(rows.drop(index=4)), limits).rows == 8
