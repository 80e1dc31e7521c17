"""Accuracy of windows: from labels as they come, from a reference, or from both."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from rainpp.buckets import Buckets
from rainpp.errors import RainError, SettingsError
from rainpp.monitoring.quality import Ledger
from rainpp.windows import Last, Sliding, Tumbling
from tests.monitoring.world import START, arrow, asked, make_rows, trained, watch

PREDICTED = "predict(a, b, c, d)"
COUNT = f"SELECT count(*) AS n FROM people WHERE {PREDICTED} = 1"


def predictions(rows):
    return trained().model.probabilities(rows[list("abcd")].to_numpy(float)).argmax(axis=1)


def unlabelled(rows):
    return arrow(rows).drop_columns("label")


def send(monitor, rows, labels=None):
    with monitor.batch() as b:
        b.predictions(unlabelled(rows))
        if labels is not None:
            b.feedback(labels)
    return b.taken


@pytest.mark.parametrize("window", [Tumbling("30s"), Sliding("60s", "20s")], ids=str)
def test_labels_make_the_accuracy_of_every_window(window):
    rng = np.random.default_rng(0)
    rows = make_rows(80, 3)
    truth = rng.integers(0, 3, 80)
    with watch(COUNT, window=window, label="label") as monitor:
        send(monitor, rows)
        for part in np.array_split(rng.permutation(80), 5):
            with monitor.batch() as b:
                b.feedback({"id": part, "label": (truth[part] + 1) % 3})  # wrong at first
                b.feedback({"id": part, "label": truth[part]})
        with monitor.batch() as b:
            b.retract([4, 5])
        frame = monitor.accuracy()
        whole = monitor.confusion(frame["window_start"].iloc[1])
    right = pd.Series(predictions(rows) == truth, index=rows["id"]).drop([4, 5])
    times = rows.set_index("id")["t"]
    for line in frame.itertuples():
        inside = (times >= line.window_start) & (times < line.window_end)
        expected = right[inside.drop([4, 5])]
        assert line.accuracy == pytest.approx(expected.mean())
        assert (line.rows, line.labelled) == (len(expected), len(expected))
        assert (line.basis, line.coverage) == ("labels", 1.0)
    line = frame.iloc[1]
    assert whole.to_numpy().sum() == line["rows"]
    assert np.trace(whole.to_numpy()[:, :3]) == round(line["accuracy"] * line["rows"])


def test_without_labels_the_reference_answers():
    held_out, rows = make_rows(900, 20), make_rows(120, 21)
    truth = np.where(held_out["region"] == "EU", predictions(held_out), 9)
    right = truth == predictions(held_out)
    buckets = Buckets.by({"region": held_out["region"]}, "region", right)
    with watch(COUNT, label="label", buckets=buckets) as monitor:
        send(monitor, rows)
        (before,) = monitor.accuracy().itertuples()
        share = (rows["region"] == "EU").mean()
        assert (before.basis, before.coverage) == ("iw", 0)
        assert before.accuracy == pytest.approx(share, abs=0.05)
        assert before.low <= share <= before.high
        chosen = rows[rows["region"] != "EU"].iloc[:20]
        with monitor.batch() as b:
            b.feedback({"id": chosen["id"].to_numpy(), "label": predictions(chosen)})
        (after,) = monitor.accuracy().itertuples()
    assert after.basis == "blend"
    assert after.labelled == 20
    assert after.accuracy > before.accuracy


def test_an_alarm_about_accuracy_waits_until_it_is_sure():
    rows = make_rows(400, 5, seconds=50)
    kinds = predictions(rows)
    with watch(COUNT, window=Tumbling("1m"), label="label", keep="inputs") as monitor:
        monitor.alert("worse", "accuracy < 0.8")
        assert send(monitor, rows).alarms == []
        fired = None
        for at in range(0, 400, 20):
            wrong = (kinds[at : at + 20] + (np.arange(20) % 2)) % 3  # half of them are wrong
            with monitor.batch() as b:
                b.feedback({"id": np.arange(at, at + 20), "label": wrong})
            if b.taken.alarms:
                fired = at, b.taken.alarms[0]
                break
        assert fired is not None
        at, alarm = fired
        assert at >= 20
        assert alarm.value == pytest.approx(0.5)
        assert "labelled" in alarm.because
        labelled = rows.iloc[: at + 20]
        truth = (kinds[: at + 20] + (np.arange(at + 20) % 2)) % 3
        ranking = monitor.context(alarm).explain()
        bound = monitor.context(alarm).bound()
    # The gradient is that of the average probability of the labels, row by row.
    sql = f"SELECT avg(CASE WHEN {PREDICTED} = label THEN 1 ELSE 0 END) AS accuracy FROM people"
    complaint = asked(labelled.assign(label=truth), sql).complain(
        column="accuracy", row=0, should="increase"
    )
    np.testing.assert_allclose(alarm.vector, complaint.vector(), rtol=1e-8)
    np.testing.assert_allclose(bound.vector(), complaint.vector(), rtol=1e-8)
    np.testing.assert_allclose(ranking.scores, complaint.rank().scores, rtol=1e-5)


def test_without_inputs_the_alarm_has_no_ranking():
    rows = make_rows(60, 5)
    kinds = predictions(rows)
    with watch(COUNT, label="label", keep="gradients") as monitor:
        monitor.alert("worse", "accuracy < 0.9")
        taken = send(monitor, rows, {"id": np.arange(60), "label": (kinds + 1) % 3})
        with pytest.raises(RainError, match="keep='inputs'"):
            monitor.context(taken.alarms[0]).explain()


def test_a_restart_knows_the_labels(tmp_path):
    rows = make_rows(60, 5)
    options = {
        "window": Tumbling("30s"),
        "label": "label",
        "store": tmp_path / "m.duckdb",
        "keep": "gradients",
    }
    monitor = watch(COUNT, **options)
    send(monitor, rows, {"id": np.arange(30), "label": predictions(rows)[:30]})
    with monitor.batch() as b:
        b.feedback({"id": [3], "label": [(predictions(rows)[3] + 1) % 3]})
    before = monitor.accuracy()
    monitor._store.close()
    with watch(COUNT, **options) as monitor:
        pd.testing.assert_frame_equal(monitor.accuracy(), before)
        with monitor.batch() as b:
            b.feedback({"id": [3], "label": [(predictions(rows)[3] + 1) % 3]})
        assert b.taken.repeated == 1
        stored = monitor.sql("SELECT count(label) AS n FROM rows_0")["n"][0]
        assert stored in (0, 30)
    with watch(COUNT, **options) as monitor:
        assert monitor.sql("SELECT count(label) AS n FROM rows_0")["n"][0] == 30
        pd.testing.assert_frame_equal(monitor.accuracy(), before)


def test_a_label_that_is_no_class_is_a_wrong_one():
    rows = make_rows(10, 5)
    with watch(COUNT, label="label", window=Last(5)) as monitor:
        send(monitor, rows, {"id": np.arange(10), "label": np.full(10, 7)})
        (line,) = monitor.accuracy().itertuples()
        assert (line.accuracy, line.labelled) == (0, 10)
        assert monitor.confusion()["other"].sum() == 10


def test_accuracy_needs_labels():
    with watch(COUNT) as monitor:
        monitor_rows = make_rows(5)
        with monitor.batch() as b:
            b.predictions(arrow(monitor_rows))
        with pytest.raises(SettingsError, match="label="):
            monitor.accuracy()
        with pytest.raises(SettingsError, match="label="), monitor.batch() as b:
            b.feedback({"id": [1], "label": [2]})
    with pytest.raises(SettingsError, match="label="):
        watch(COUNT, buckets=Buckets.by({"r": ["a"] * 40}, "r", [True] * 40))


def test_the_ledger_grows_and_forgets():
    ledger = Ledger()
    numbers = np.arange(0, 5000)
    for part in np.array_split(numbers, 7):
        ledger.write(part, pane=part // 10, bucket=0, predicted=part % 3, label=-1)
    assert np.array_equal(ledger.read("pane", numbers), numbers // 10)
    ledger.forget(3000)
    kept = np.arange(3000, 5000)
    assert np.array_equal(ledger.read("predicted", kept), kept % 3)
    assert (ledger.read("label", np.array([0, 4999, 9000])) == -1).all()
    assert START + timedelta(0) == START


def test_a_contradicted_reference_is_not_trusted_with_windows_without_labels():
    held_out, rows = make_rows(900, 20), make_rows(300, 21, seconds=59)
    buckets = Buckets.by({"region": held_out["region"]}, "region", np.ones(900, bool))
    with watch(COUNT, window=Tumbling("1m"), label="label", buckets=buckets) as monitor:
        for number in range(3):
            send(
                monitor,
                rows.assign(id=rows["id"] + 300 * number, t=rows["t"] + timedelta(minutes=number)),
            )
        before = monitor.accuracy()
        assert not before["drifted"].any()
        wrong = (predictions(rows) + 1) % 3
        with monitor.batch() as b:
            b.feedback({"id": 300 + rows["id"].to_numpy(), "label": wrong})
        after = monitor.accuracy()
    assert after["basis"].tolist() == ["iw", "labels", "iw"]
    assert after["drifted"].tolist()[::2] == [False, True]
    assert (after["low"][2], after["high"][2]) == (0, 1)
    assert before["low"][2] > 0.9


def test_without_reference_and_labels_nothing_is_said():
    with watch(COUNT, label="label") as monitor:
        send(monitor, make_rows(20, 3))
        (line,) = monitor.accuracy().itertuples()
    assert np.isnan(line.accuracy)
    assert (line.basis, line.low, line.high) == ("none", 0, 1)
