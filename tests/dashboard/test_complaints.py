"""Complaints over HTTP: the library's own numbers, and clear words where there are none."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import rainpp
from rainpp.monitoring.together import together
from tests.dashboard.world import SQL, asking, send, watched
from tests.monitoring import world


@pytest.fixture(scope="module")
def monitor():
    with watched() as found:
        found.alert("many", "n > 1", target=1)
        send(found, 120)
        yield found


@pytest.fixture(scope="module")
def client(monitor):
    with asking([monitor]) as found:
        yield found


def changes(monitor, kind=rainpp.Delta):
    return [item for item in monitor.changes() if isinstance(item, kind)]


def complain(client, **body):
    answer = client.post("/api/complaints", json={"monitor": "people", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client, words, **body):
    answer = client.post("/api/complaints", json={"monitor": "people", **body})
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("wanted", ["lower", "higher", 40, 0.5])
def test_the_ranking_is_that_of_the_library(monitor, client, wanted):
    cells = changes(monitor)[:3]
    found = complain(client, seqs=[cell.seq for cell in cells], wanted=wanted)
    both = together([monitor.context(cell) for cell in cells], wanted)
    expected = both.explain().top(30)
    top = pd.DataFrame(found["top"])
    assert list(top.train_id) == [str(value) for value in expected.train_id]
    assert list(top.intervention) == list(expected.intervention)
    for name in ("effect", "score", "plausibility", "cumulative_effect"):
        assert_allclose(top[name], expected[name])
    assert found["reactions"][0]["words"] == str(both.suggest()[0])
    assert found["about"] == [str(item) for item in both.complaints]
    labels = world.trained().problem.labels
    assert list(top.label) == [str(labels[int(row)]) for row in top.train_id]


def test_an_alarm_is_explained_with_what_it_carries(monitor, client):
    (alarm, *_) = changes(monitor, rainpp.Alarm)
    found = complain(client, seqs=[alarm.seq])
    expected = monitor.context(alarm).explain().top(30)
    assert [line["train_id"] for line in found["top"]] == [str(v) for v in expected.train_id]


@pytest.mark.filterwarnings("ignore::rainpp.errors.ConflictWarning")
def test_the_coverage_is_that_of_the_query_run_again(monitor, client):
    cells = changes(monitor)[:2]
    found = complain(client, seqs=[cell.seq for cell in cells], wanted="lower")
    got = client.get(f"/api/complaints/{found['id']}/coverage").json()
    proven = together([monitor.context(cell) for cell in cells], "lower").rank()
    assert got["coverage"] == pytest.approx(proven.coverage)
    assert got["cosine"] == pytest.approx(proven.cosines.iloc[0, 1])


def test_a_number_that_has_changed_is_complained_about_as_it_is_now():
    with watched() as monitor:
        first = send(monitor, 60).deltas[0]
        with asking([monitor]) as client:
            same = {"t": pd.Timestamp(first.window[0]), "region": first.group["region"]}
            send(monitor, 40, seed=1, first=100, **same)
            now = [
                d for d in changes(monitor) if (d.window, d.group) == (first.window, first.group)
            ]
            assert now[-1].value != first.value
            feed = client.feed
            wait_until(lambda: feed.boards["people"].seq == monitor.changes()[-1].seq)
            found = complain(client, seqs=[first.seq], wanted="lower")
            assert found["total"] == now[-1].value


def wait_until(what):
    import time

    until = time.monotonic() + 30
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_patch_is_a_file_that_the_library_reads(monitor, client, tmp_path):
    cell = changes(monitor)[0]
    found = complain(client, seqs=[cell.seq], wanted="higher")
    answer = client.get(f"/api/complaints/{found['id']}/patch", params={"rows": 7})
    assert 'filename="people-patch.parquet"' in answer.headers["content-disposition"]
    path = tmp_path / "patch.parquet"
    path.write_bytes(answer.content)
    patch = rainpp.read_patch(path)
    assert [str(row) for row in patch.frame.id] == [line["train_id"] for line in found["top"][:7]]
    problem = world.trained().problem
    assert patch.apply(problem.inputs, problem.labels).num_rows <= len(problem.labels)
    where = f"/api/complaints/{found['id']}/patch"
    text = client.get(where, params={"rows": 3, "form": "csv"}).text
    assert list(pd.read_csv(io.StringIO(text)).id) == list(patch.frame.id[:3])
    listed = client.get(where, params={"rows": 3, "form": "json"}).json()
    assert [line["id"] for line in listed] == list(patch.frame.id[:3])


@pytest.mark.parametrize("wanted", ["higher", "lower", 3])
def test_the_patch_of_a_suggestion_is_the_suggestion(monitor, client, wanted):
    cells = changes(monitor)[:4]
    both = together([monitor.context(cell) for cell in cells], wanted)
    found = complain(client, seqs=[cell.seq for cell in cells], wanted=wanted)
    where = f"/api/complaints/{found['id']}/patch"
    suggested = both.suggest()
    assert {one.kind for one in suggested} == {"delete", "relabel"}
    for one in suggested:
        asked = {"rows": one.rows, "kind": one.kind, "form": "json"}
        listed = client.get(where, params=asked).json()
        assert [line["id"] for line in listed] == list(one.train_ids)
        assert {line["intervention"] for line in listed} == {one.kind}
        if one.labels is not None:
            assert [line["new"] for line in listed] == [str(label) for label in one.labels]
    mixed = client.get(where, params={"rows": 20, "kind": "all", "form": "json"}).json()
    assert [str(line["id"]) for line in mixed] == [line["train_id"] for line in found["top"][:20]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kind=replace", "'replace'; it must be one of all, delete, relabel"),
        ("kind=fix", "'fix' once"),
        ("rows=0", "rows"),
        ("rows=x", "rows"),
        ("rows=99999999999999999999999", "rows"),
        ("rows=10001", "10,000"),
        ("form=exe", "parquet"),
        ("rows=1&form=../x", "form"),
    ],
)
def test_a_patch_that_cannot_be_is_refused(monitor, client, query, words):
    found = complain(client, seqs=[changes(monitor)[0].seq], wanted="higher")
    answer = client.get(f"/api/complaints/{found['id']}/patch?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_rules_say_what_the_top_rows_share(monitor, client):
    found = complain(client, seqs=[changes(monitor)[0].seq], wanted="higher")
    rules = client.get(f"/api/complaints/{found['id']}/rules").json()["rules"]
    assert rules
    assert all("label" in rule["predicate"] for rule in rules)


def test_a_fix_is_what_the_library_finds(monitor, client):
    cell = max(changes(monitor), key=lambda delta: delta.value)
    found = complain(client, seqs=[cell.seq], wanted=cell.value - 1)
    got = client.get(f"/api/complaints/{found['id']}/fix").json()
    fix = together([monitor.context(cell)], cell.value - 1).rank().fix()
    assert (got["rows"], got["resolves"]) == (len(fix.interventions), fix.resolves)
    where = f"/api/complaints/{found['id']}/patch"
    asked = {"kind": "fix", "rows": got["rows"], "form": "json"}
    listed = client.get(where, params=asked).json()
    assert [line["id"] for line in listed] == [item.train_id for item in fix.interventions]
    assert client.get(where, params={**asked, "rows": got["rows"] + 1}).status_code == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"seqs": [0], "wanted": "sideways"}, "wanted"),
        ({"seqs": [0], "wanted": True}, "wanted"),
        ({"seqs": [0], "wanted": [1]}, "wanted"),
        ({"seqs": [0], "wanted": 1e305}, "wanted"),
        ({"seqs": [0], "wanted": 10**400}, "wanted"),
        ({"seqs": [0]}, "no complaint"),
        ({"seqs": [], "wanted": "lower"}, "seqs"),
        ({"seqs": 0, "wanted": "lower"}, "seqs"),
        ({"seqs": ["0"], "wanted": "lower"}, "seqs"),
        ({"seqs": [-1], "wanted": "lower"}, "seqs"),
        ({"seqs": [True], "wanted": "lower"}, "seqs"),
        ({"seqs": [10**9], "wanted": "lower"}, "remember"),
        ({"seqs": [2**70], "wanted": "lower"}, "seqs"),
        ({"seqs": list(range(501)), "wanted": "lower"}, "seqs"),
        ({"wanted": "lower"}, "seqs"),
        ({"seqs": [0], "wanted": "lower", "monitor": "<b>"}, "no monitor"),
        ({"seqs": [0], "wanted": "lower", "monitor": ["people"]}, "no monitor"),
        ({"seqs": [0], "wanted": "lower", "monitor": None}, "no monitor"),
    ],
)
def test_what_is_no_complaint_is_refused(client, body, words):
    refused(client, words, **body)


def test_nan_is_no_number_in_json(client):
    headers = {"Content-Type": "application/json"}
    body = b'{"monitor": "people", "seqs": [0], "wanted": NaN}'
    answer = client.post("/api/complaints", content=body, headers=headers)
    assert answer.status_code == 400


def test_as_many_complaints_are_kept_as_there_is_room_for(monitor, client, monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.desk._KEPT", 2)
    names = [
        complain(client, seqs=[changes(monitor)[0].seq], wanted=wanted)["id"]
        for wanted in ("lower", "higher", 40)
    ]
    answers = [client.get(f"/api/complaints/{name}/patch").status_code for name in names]
    assert answers == [400, 200, 200]


@pytest.mark.parametrize("query", ["after=x", "after=-2", "most=0", "most=5001", "most=1e3"])
def test_a_page_of_the_outbox_that_cannot_be_is_refused(client, query):
    answer = client.get(f"/api/monitors/people/changes?{query}")
    assert answer.status_code == 400
    assert "whole number" in answer.json()["error"]


def test_the_outbox_is_read_page_by_page(monitor, client):
    seqs, after = [], -1
    while True:
        where = f"/api/monitors/people/changes?after={after}&most=7"
        found = client.get(where).json()
        if found["upto"] == after:
            break
        after = found["upto"]
        seqs += sorted(item["seq"] for item in found["changes"] + found["alarms"])
    assert seqs == [item.seq for item in monitor.changes()]


def test_an_unknown_monitor_is_not_there(client):
    for path in ("/api/monitors/other", "/api/monitors/other/changes"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "known: people" in answer.json()["error"]


def test_without_the_training_rows_ids_are_shown_and_no_patch_is_made(tmp_path):
    problem = world.trained().problem
    kinds = [rainpp.Delete(), rainpp.Relabel()]
    rainpp.precompute(
        problem.model,
        problem.inputs,
        problem.labels,
        k=6,
        interventions=kinds,
        path=tmp_path / "small.rain",
    )
    index = rainpp.load(tmp_path / "small.rain")
    with rainpp.monitor("people", SQL, model=problem.model, index=index, time="t", id="id") as one:
        send(one)
        with asking([one]) as client:
            found = complain(client, seqs=[0], wanted="lower")
            assert found["patch"] is False
            assert "data=(inputs, labels)" in found["note"]
            assert "[training] in watch.toml" in found["note"]
            assert not any("picture" in line or "numbers" in line for line in found["top"])
            answer = client.get(f"/api/complaints/{found['id']}/patch")
            assert answer.status_code == 400
            assert "not at hand" in answer.json()["error"]
            answer = client.get(f"/api/complaints/{found['id']}/fix")
            assert answer.status_code == 400
            assert "[training] in watch.toml" in answer.json()["error"]


def test_rows_that_are_no_pictures_are_shown_as_numbers(monitor, client):
    found = complain(client, seqs=[changes(monitor)[0].seq], wanted="lower")
    first = found["top"][0]
    inputs = np.asarray(world.trained().problem.inputs)
    assert_allclose(first["numbers"], inputs[int(first["train_id"])], rtol=1e-3)
