"""The demo of a stream: what is said about planted errors, a shift and late labels is true."""

from __future__ import annotations

import numpy as np
import pytest

from rainpp.demo import run_stream_demo
from rainpp.demo import stream as demo
from rainpp.demo.digits import load_images, plant_errors


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    return run_stream_demo(tmp_path_factory.mktemp("demo"))


def minute_of(summary, name):
    return next(event.minute for event in summary.events if event.alarm.startswith(name))


def test_the_training_error_is_found_from_the_first_alarm(summary):
    assert minute_of(summary, "too few 1s") < demo.SHIFT_AT
    assert summary.auc_r > 0.85
    assert summary.precision > 0.7
    planted = plant_errors(*load_images(), seed=0).planted
    assert summary.planted == planted.sum()
    first = next(event for event in summary.events if event.found)
    ids = [int(part.split()[0]) for part in first.found[0].split(": ")[1].split(", ")[:3]]
    train = np.arange(len(planted))
    assert planted[np.isin(train, ids)].all()


def test_the_shift_is_seen_when_it_begins_and_not_before(summary):
    assert minute_of(summary, "drift") == demo.SHIFT_AT
    assert demo.SHIFT_AT <= minute_of(summary, "accuracy") <= demo.SHIFT_AT + 1


def test_accuracy_says_what_it_rests_on(summary):
    before, after, unlabelled = summary.accuracy
    assert "basis blend, 50% labelled" in before
    assert float(after.split(": ")[1].split()[0]) < float(before.split(": ")[1].split()[0]) - 0.1
    assert "basis iw, 0% labelled, reference in doubt" in unlabelled
    for line in summary.accuracy:
        low, high = (float(part) for part in line.split("(")[1].split(")")[0].split(" to "))
        assert low <= float(line.split("in truth ")[1]) <= high


def test_it_can_be_run_again_over_its_own_files(tmp_path, summary):
    run_stream_demo(tmp_path)
    again = run_stream_demo(tmp_path)
    assert [e.because for e in again.events] == [e.because for e in summary.events]
    assert again.lines()[0] == summary.lines()[0]
    assert isinstance(again.as_dict()["state"], str)
    assert np.isfinite(again.auc_r)
