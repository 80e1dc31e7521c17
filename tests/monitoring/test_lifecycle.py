"""Restarts, replays, late rows, other models: what is promised about state."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

import rainpp
from rainpp.errors import ArtifactError, DataError, QueryError, SettingsError
from rainpp.monitoring import state as room
from rainpp.stream import journal
from rainpp.windows import Everything, Last, Session, Sliding, Tumbling
from tests.monitoring.world import START, arrow, make_rows, trained, watch

PREDICTED = "predict(a, b, c, d)"
BY_REGION = f"SELECT region, count(*) AS n FROM people WHERE {PREDICTED} = 1 GROUP BY region"
ACCURACY = (
    f"SELECT avg(CASE WHEN {PREDICTED} = label THEN 1 ELSE 0 END) AS accuracy FROM people "
    "WHERE label IS NOT NULL"
)
WINDOWS = [Everything(), Tumbling("30s"), Sliding("60s", "20s"), Session("5s"), Last(20)]


def steps(monitor, rows, start=0, stop=None):
    """Batches with rows, deletions and labels, told apart by their offset."""
    for at, part in list(enumerate(np.array_split(np.arange(len(rows)), 8)))[start:stop]:
        with monitor.batch("source", upto=at) as b:
            b.predictions(arrow(rows.iloc[part]))
            b.retract([int(part[1])])
            b.feedback({"id": [int(part[2])], "label": [at % 3]})


def state(monitor):
    return [
        (number, row.key, row.present, row.rows, name, cell.plain, cell.relaxed, *cell.gradient)
        for number in monitor._kept.numbers()
        for row in monitor._kept.rows(number, None)
        for name, cell in row.cells.items()
    ]


# Every window with groups, and an average over all rows in one of them.
RESTARTS = [pytest.param(BY_REGION, window, id=f"groups, {window}") for window in WINDOWS] + [
    pytest.param(
        ACCURACY,
        window,
        id=f"an average, {window}",
        marks=() if isinstance(window, Sliding) else pytest.mark.slow,
    )
    for window in WINDOWS
]


@pytest.mark.parametrize(("sql", "window"), RESTARTS)
def test_a_restart_goes_on_where_it_was(tmp_path, window, sql, monkeypatch):
    monkeypatch.setattr(room, "_SUMMARY_EVERY", 3)
    rows = make_rows(64, 2, seconds=90).sort_values("t")
    options = {"window": window, "label": "label", "keep": "gradients"}
    with watch(sql, store=tmp_path / "whole.duckdb", **options) as monitor:
        steps(monitor, rows)
        whole, said = state(monitor), [delta.body() for delta in monitor.changes()]
    path = tmp_path / "cut.duckdb"
    for stop in range(1, 9):
        monitor = watch(sql, store=path, **options)
        steps(monitor, rows, 0, stop)  # what was taken before is sent again
        monitor._store.close()  # without a summary
    with watch(sql, store=path, **options) as monitor:
        assert state(monitor) == whole
        assert [delta.body() for delta in monitor.changes()] == said
        assert monitor.offsets == {"source": 7}


@pytest.mark.parametrize(
    ("lines", "keep"),
    [
        (1, "inputs"),
        (3, "gradients"),
        (64, "inputs"),
        (64, "gradients"),
        pytest.param(1, "gradients", marks=pytest.mark.slow),
        pytest.param(3, "inputs", marks=pytest.mark.slow),
    ],
)
def test_rows_that_wait_in_the_journal_are_rows_like_others(tmp_path, monkeypatch, lines, keep):
    monkeypatch.setattr(journal, "_MOST_LINES", lines)
    rows = make_rows(60, 2, seconds=90).sort_values("t")
    options = {"window": Tumbling("30s"), "label": "label", "keep": keep}
    path, later = tmp_path / "m.duckdb", rows["id"].tolist()
    for at, sql in ((0, BY_REGION), (1, ACCURACY)):
        found = []
        for name in (path.with_name(f"{at}.duckdb"), ":memory:"):
            monitor = watch(sql, store=name, **options)
            for number in range(6):
                with monitor.batch("source", upto=number) as b:
                    b.predictions(arrow(rows.iloc[10 * number : 10 * number + 10]))
                    b.retract(later[7 * number : 7 * number + 1])
                    b.feedback({"id": later[7 * number + 2 : 7 * number + 4], "label": [at, 2]})
            waiting = len(monitor._store._journal.batches)
            assert waiting == {1: 0, 3: 0, 64: 6}[lines]
            if name != ":memory:":
                monitor._store.close()  # as a crash does
                monitor = watch(sql, store=name, **options)
            found.append((state(monitor), [change.body() for change in monitor.changes()]))
            assert monitor.sql("SELECT count(*) AS n FROM rows_0")["n"][0] == 54
            monitor.close()
        assert found[0] == found[1]
    with duckdb.connect(path.with_name("0.duckdb"), read_only=True) as con:  # closed: all is there
        assert con.execute("SELECT count(*) FROM people.journal").fetchall() == [(0,)]
        assert con.execute("SELECT count(*) FROM people.rows_0").fetchall() == [(54,)]


def test_a_query_of_the_state_reads_no_other_file(tmp_path):
    (tmp_path / "secret.csv").write_text("word\nhidden\n")
    with watch(BY_REGION) as monitor:
        for sql in (
            f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')",
            f"SELECT * FROM '{tmp_path / 'secret.csv'}'",
            f"SELECT * FROM glob('{tmp_path}/*')",
            f"SELECT * FROM read_text('{tmp_path / 'secret.csv'}')",
        ):
            with pytest.raises(QueryError, match="DuckDB refuses"):
                monitor.sql(sql)


@pytest.mark.parametrize(
    "part",
    [
        "FROM people WHERE predict(a, b, c, d) = 1 AND region IN (FROM read_csv({}))",
        "FROM people WHERE predict(a, b, c, d) = 1 AND region IN (SELECT file FROM glob({}))",
        "FROM people, read_blob({}) WHERE predict(a, b, c, d) = 1",
        "FROM read_csv({}) AS people WHERE predict(a, b, c, d) = 1",
    ],
)
def test_a_standing_query_reads_no_file(tmp_path, part):
    (tmp_path / "secret.csv").write_text("word\nhidden\n")
    sql = f"SELECT count(*) AS n {part.format(repr(str(tmp_path / 'secret.csv')))}"
    with pytest.raises(QueryError, match="disabled"):
        watch(sql)


def test_a_replay_does_nothing(tmp_path):
    rows = make_rows(20)
    with watch(BY_REGION, store=tmp_path / "m.duckdb") as monitor:
        for _ in range(2):
            with monitor.batch("a", upto=5) as b:
                b.predictions(arrow(rows))
        assert b.taken.replayed
        assert monitor.read()["rows"].sum() == 20


def test_the_same_rows_again_are_counted_once_and_others_set_aside():
    rows = make_rows(20)
    with watch(BY_REGION) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(rows))
        other = rows.iloc[:3].assign(a=5.0)
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[:10]))
            b.predictions(arrow(other))
        assert (b.taken.rows, b.taken.repeated, b.taken.late) == (0, 10, 3)
        assert set(monitor.late()["reason"]) == {"another row has this id"}
        assert monitor.read()["rows"].sum() == 20


def test_twice_in_one_batch_is_once():
    rows = make_rows(10)
    with watch(BY_REGION) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(pd.concat([rows, rows.iloc[:4]])))
        assert (b.taken.rows, b.taken.repeated) == (10, 4)


def test_late_rows_correct_and_too_late_ones_are_noted():
    rows = make_rows(40, seconds=20)
    with watch(BY_REGION, window=Tumbling("30s"), lateness="10s", retention="60s") as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[:20]))
        assert {delta.status for delta in b.taken.deltas} == {"provisional"}
        later = rows.iloc[20:21].assign(t=START + timedelta(seconds=45))
        with monitor.batch() as b:
            b.predictions(arrow(later))
        assert {d.status for d in b.taken.deltas if d.window[0] == START} == {"final"}
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[21:30]))
        assert {delta.status for delta in b.taken.deltas} == {"corrected"}
        assert all(delta.revision == 2 for delta in b.taken.deltas)
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[30:31].assign(t=START + timedelta(seconds=500))))
        told = []
        monitor.on("late", lambda rows, _: told.append(rows))
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[31:35]))
        assert (b.taken.rows, b.taken.late) == (0, 4)
        assert [row["id"] for row in told[0]] == rows["id"].iloc[31:35].tolist()
        late = monitor.late()
    assert late["reason"].tolist() == ["older than retention"] * 4
    assert '"region"' in late["body"][0]


def test_a_row_from_the_future_closes_no_window():
    rows = make_rows(10)
    soon = datetime.now() + timedelta(days=40)
    with watch(BY_REGION, window=Tumbling("30s")) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[:9]))
            b.predictions(arrow(rows.iloc[9:].assign(t=soon)))
        assert (b.taken.rows, b.taken.late) == (9, 1)
        assert monitor.watermark < datetime(2026, 1, 2)


def test_a_slow_source_holds_the_watermark_until_it_is_idle():
    rows = make_rows(30, seconds=20)
    with watch(BY_REGION, window=Tumbling("30s"), idle="1m") as monitor:
        now = [0.0 + datetime(2026, 6, 1).timestamp()]
        monitor._timeline.clock = lambda: now[0]
        with monitor.batch("slow") as b:
            b.predictions(arrow(rows.iloc[:5].assign(t=START)))
        with monitor.batch("fast") as b:
            b.predictions(arrow(rows.iloc[5:10].assign(t=START + timedelta(minutes=5))))
        assert monitor.watermark == START
        now[0] += 61
        with monitor.batch("fast") as b:
            b.predictions(arrow(rows.iloc[10:11].assign(t=START + timedelta(minutes=6))))
        assert monitor.watermark == START + timedelta(minutes=6)


def test_rows_expire_in_memory_and_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_SUMMARY_EVERY", 4)
    options = {"window": Tumbling("30s"), "retention": "60s", "store": tmp_path / "m.duckdb"}
    rows = make_rows(20, seconds=10)
    sizes = []
    with watch(BY_REGION, **options) as monitor:
        for at in range(40):
            shifted = rows.assign(id=rows["id"] + 20 * at, t=rows["t"] + timedelta(seconds=10 * at))
            with monitor.batch() as b:
                b.predictions(arrow(shifted))
            kept = monitor._kept
            sizes.append((len(kept.windows.cells[0]), len(kept.intake._directories[0])))
        stored = monitor.sql("SELECT count(*) AS n FROM rows_0")["n"][0]
        assert monitor.sql("SELECT count(*) AS n FROM batches")["n"][0] < 4
    assert max(size[0] for size in sizes) < 20
    assert max(size[1] for size in sizes) < 400
    assert stored < 400


def test_another_model_begins_anew(tmp_path):
    rows = make_rows(30)
    path = tmp_path / "m.duckdb"
    with watch(BY_REGION, store=path) as monitor:
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[:20]))
        before = b.taken.deltas[0]
        other = trained(seed=1)
        monitor.swap(other.model, other.index)
        assert monitor.read().empty
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[20:]))
            b.retract([3])
        assert monitor.read()["rows"].sum() == 10
        assert b.taken.late == 1
        assert b.taken.deltas[0].model != before.model
        with pytest.raises(ArtifactError, match="exchanged"):
            monitor.context(before).explain("lower")
    with watch(BY_REGION, store=path) as monitor:  # the first model again: a third epoch
        assert monitor.read().empty
        assert len(monitor.sql("SELECT * FROM epochs")) == 3


def test_a_failed_batch_leaves_nothing_behind(tmp_path, monkeypatch):
    rows = make_rows(40)
    with watch(BY_REGION, store=tmp_path / "m.duckdb", keep="gradients") as monitor:
        monitor.alert("many", "n > 1")
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[:20]))
        before, body = state(monitor), monitor._kept.emission.body()

        def send(*more):
            with monitor.batch() as b:
                b.predictions(arrow(rows.iloc[20:30]))
                b.retract([1, 2])
                for part in more:
                    b.predictions(part)

        with pytest.raises(DataError):
            send(arrow(rows.iloc[30:]).drop_columns("region"))
        assert (state(monitor), monitor._kept.emission.body()) == (before, body)

        def full(*_):
            raise ArtifactError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(monitor._store, "write", full)
            with pytest.raises(ArtifactError):
                send()
        assert (state(monitor), monitor._kept.emission.body()) == (before, body)
        with monitor.batch() as b:
            b.predictions(arrow(rows.iloc[20:30]))
            b.retract([1, 2])
        assert (b.taken.rows, b.taken.late) == (10, 0)


def test_two_processes_do_not_share_a_file(tmp_path):
    path = tmp_path / "m.duckdb"
    with watch(BY_REGION, store=path):
        pass
    code = (
        "import duckdb, sys, time; con = duckdb.connect(sys.argv[1]); print('open', flush=True); "
        "time.sleep(30)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ArtifactError, match="one process writes"):
            watch(BY_REGION, store=path)
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_a_file_of_another_query_is_refused(tmp_path):
    path = tmp_path / "m.duckdb"
    with watch(BY_REGION, store=path):
        pass
    with pytest.raises(SettingsError, match="another name"):
        watch(ACCURACY, store=path, label="label")
    with pytest.raises(SettingsError, match="window"):
        watch(BY_REGION, store=path, window=Tumbling("1m"))


def test_the_state_can_be_read_with_sql(tmp_path):
    rows = make_rows(20)
    with watch(BY_REGION, store=tmp_path / "m.duckdb") as monitor, monitor.batch("s", 4) as b:
        b.predictions(arrow(rows))
    con = duckdb.connect(str(tmp_path / "m.duckdb"), read_only=True)
    assert con.execute("SELECT count(*) FROM people.rows_0").fetchall() == [(20,)]
    assert con.execute("SELECT source, upto FROM people.sources").fetchall() == [("s", 4)]
    assert isinstance(monitor, rainpp.Monitor)


def test_a_session_that_joins_another_is_said_to_be_no_more(tmp_path):
    rows = make_rows(60, 4, seconds=60)
    apart = [rows.iloc[at : at + 1] for at in range(60)]
    with watch(BY_REGION, window=Session("4s"), lateness="10m", store=tmp_path / "m.duckdb") as m:
        for at, part in enumerate(apart):
            with m.batch("s", upto=at) as b:
                b.predictions(arrow(part))
        alive = {}
        for delta in m.changes():
            place = (delta.group["region"], delta.window[0])
            alive[place] = delta
            if delta.status == "retracted":
                assert np.isnan(delta.value)
                assert delta.window[1] is None
        joined = [delta for delta in alive.values() if delta.status == "retracted"]
        said = {place for place, delta in alive.items() if delta.status != "retracted"}
        shown = m.read()
        assert said == set(zip(shown["region"], shown["window_start"], strict=True))
        assert len(joined) > 3
        assert len({delta.key for delta in m.changes()}) == len(m.changes())
