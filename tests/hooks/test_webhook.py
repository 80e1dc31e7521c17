"""What is sent, and what receivers may answer."""

from __future__ import annotations

import email.utils
import http.server
import json
import shutil
import ssl
import subprocess
import time
from datetime import datetime

import numpy as np
import pytest
import standardwebhooks

import rainpp
from rainpp.hooks import Ack, Alertmanager, Callback, Drop, Retry, Trial, Webhook, verify
from rainpp.hooks.payload import LARGEST, message
from rainpp.hooks.post import retry_after
from tests.hooks.receiver import Receiver, dies, drips, fine, hangs, says
from tests.hooks.world import SECRET, alarms, opened, send


@pytest.fixture(scope="module")
def told():
    """A monitor that has an alarm to tell, and the alarm."""
    with opened() as monitor:
        send(monitor, 0, {"EU": 5, "US": 1})
        (alarm,) = alarms(monitor)
        yield monitor, alarm


def hook_to(receiver, **options):
    return Webhook(receiver.url, secret=SECRET, allow_private=True, **options)


def test_the_reference_accepts_a_message_that_names_the_training_rows(told):
    monitor, alarm = told
    context = monitor.context(alarm)
    with Receiver() as receiver:
        assert hook_to(receiver)(alarm, context) == Ack()
        (found,) = receiver.accepted
    payload = standardwebhooks.Webhook(SECRET).verify(found.body, found.headers)
    assert payload == verify(found.headers, found.body, SECRET)
    assert found.key == alarm.key
    assert found.headers["content-type"] == "application/json"
    assert list(payload) == ["type", "timestamp", "data"]
    assert payload["type"] == "alarm.firing"
    assert payload["timestamp"] == "2026-01-01T00:00:00Z"
    data = payload["data"]
    assert data["group"] == {"region": "EU"}
    assert (data["name"], data["value"], data["target"]) == ("many", 5, 1)
    assert data["fingerprint"] == alarm.fingerprint
    np.testing.assert_allclose(data["vector"], alarm.vector, rtol=1e-8)
    top = context.explain().top(10)
    assert [line["train_id"] for line in data["suspects"]] == top["train_id"].tolist()
    assert [line["effect"] for line in data["suspects"]] == top["effect"].tolist()
    best, sent = context.suggest()[0], data["suggestions"][0]
    assert (sent["kind"], sent["rows"], sent["after"]) == (best.kind, best.rows, best.after)
    assert data["unexplained"] is None


def test_rows_leave_only_when_asked(told):
    monitor, alarm = told
    context = monitor.context(alarm)
    plain, whole = (json.loads(message(alarm, context, rows=rows)) for rows in (False, True))
    assert all("row" not in line for line in plain["data"]["suspects"])
    first = whole["data"]["suspects"][0]
    assert first["row"] == context.training_row(first["train_id"])
    assert len(first["row"]["inputs"]) == 4
    del first["row"]
    assert first == plain["data"]["suspects"][0]


@pytest.mark.parametrize(
    ("problem", "said"),
    [(rainpp.errors.ArtifactError("another index"), "another index"), (KeyError("x"), "KeyError")],
)
def test_an_alarm_that_cannot_be_explained_goes_out_and_says_why(told, monkeypatch, problem, said):
    monitor, alarm = told
    context = monitor.context(alarm)

    def fails():
        raise problem

    monkeypatch.setattr(context, "explain", fails)
    data = json.loads(message(alarm, context))["data"]
    assert said in data["unexplained"]
    assert data["value"] == 5
    assert data["suspects"] == []


def test_changes_and_ends_are_sent_too(told):
    monitor, _ = told
    with opened() as other:
        send(other, 0, {"EU": 5})
        send(other, 1, {"EU": 1})
        send(other, 2, {"EU": 1})
        types = [json.loads(message(e, other.context(e)))["type"] for e in other.changes()]
    assert types.count("alarm.resolved") == 1
    assert types.count("alarm.firing") == 1
    change = monitor.changes()[0]
    data = json.loads(message(change, monitor.context(change)))["data"]
    assert data["status"] == "provisional"
    assert data["revision"] == 0


def replaced(alarm, **parts):
    made = {name: getattr(alarm, name) for name in alarm.__dataclass_fields__}
    return type(alarm)(**(made | parts))


@pytest.mark.parametrize(
    "parts",
    [
        {"group": {f"column {n}": "x" * 300 for n in range(200)}},
        {"group": {"name": "\U0001f600" * 9000}},
        {"group": {"n" * 30_000: 1}},
        {"vector": np.arange(3000) / 7},
        {"because": "b" * 50_000, "name": "\u2028"},
        {"value": float("nan"), "relaxed": float("inf")},
    ],
)
def test_a_message_stays_below_the_limit(told, parts):
    monitor, alarm = told
    text = message(replaced(alarm, **parts), monitor.context(alarm), rows=True)
    assert len(text) < LARGEST
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["data"]["monitor"] == "people"
    assert ("left_out" in found["data"]) == ("value" not in parts)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_only_2xx_is_a_success(told, status):
    monitor, alarm = told
    with Receiver(says(status)) as receiver:
        assert hook_to(receiver)(alarm, monitor.context(alarm)) == Ack()


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 502, 503])
def test_anything_else_is_tried_again(told, status):
    monitor, alarm = told
    with Receiver(says(status)) as receiver:
        found = hook_to(receiver)(alarm, monitor.context(alarm))
    assert found == Retry(None, f"127.0.0.1 answered {status}", whole=False)


def test_gone_disables(told):
    monitor, alarm = told
    with Receiver(says(410)) as receiver:
        found = hook_to(receiver)(alarm, monitor.context(alarm))
    assert isinstance(found, Drop)
    assert found.disable


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_not_followed(told, status):
    monitor, alarm = told
    with Receiver() as inside, Receiver(says(status, location=inside.url)) as receiver:
        found = hook_to(receiver)(alarm, monitor.context(alarm))
        assert isinstance(found, Retry)
        assert "redirect" in found.why
        assert (inside.attempts, inside.gets) == ([], [])
        assert len(receiver.attempts) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_receiver_that_asks_to_wait_is_left_alone(told, status):
    monitor, alarm = told
    later = email.utils.formatdate(time.time() + 3600, usegmt=True)
    for text, seconds in (("120", 120), (later, 3600)):
        with Receiver(says(status, retry_after=text)) as receiver:
            found = hook_to(receiver)(alarm, monitor.context(alarm))
        assert isinstance(found, Retry)
        assert found.whole
        assert found.after == pytest.approx(seconds, abs=3)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e3", "99 bottles", "Wed, 99 Foo", "\u0663"])
def test_a_time_to_wait_that_is_none(text):
    assert retry_after(text) is None


def test_a_time_to_wait_that_is_over():
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("answer", [hangs, drips])
def test_a_slow_receiver_is_given_up_after_the_timeout(told, answer):
    monitor, alarm = told
    with Receiver(answer) as receiver:
        began = time.monotonic()
        found = hook_to(receiver, timeout=0.4)(alarm, monitor.context(alarm))
        assert 0.3 < time.monotonic() - began < 2
    assert isinstance(found, Retry)
    assert found.why == "127.0.0.1: no whole answer within 0.4 s."


def slow_body(handler, *_):
    handler.reply(200, {"content-length": "100"})
    drips(handler)


def test_a_body_that_drips_or_breaks_off_is_no_answer(told):
    monitor, alarm = told
    for answer, said in ((slow_body, "no whole answer"), (dies, "IncompleteRead")):
        with Receiver(answer) as receiver:
            found = hook_to(receiver, timeout=0.4)(alarm, monitor.context(alarm))
        assert isinstance(found, Retry)
        assert said in found.why


def test_no_more_than_a_few_kb_of_an_answer_are_read(told):
    monitor, alarm = told

    def endless(handler, *_):
        handler.reply(500)
        try:
            while True:
                handler.wfile.write(b"x" * 65536)
        except OSError:
            pass

    with Receiver(endless) as receiver:
        found = hook_to(receiver)(alarm, monitor.context(alarm))
    assert isinstance(found, Retry)
    assert len(found.why) < 300


def test_what_is_no_http(told):
    monitor, alarm = told

    def nonsense(handler, *_):
        handler.wfile.write(b"SSH-2.0-x\r\n\r\n")

    with Receiver(nonsense) as receiver:
        hook = hook_to(receiver)
        assert "BadStatusLine" in hook(alarm, monitor.context(alarm)).why
    assert "refused" in hook(alarm, monitor.context(alarm)).why.lower()


def test_a_private_address_is_refused_when_it_is_sent_to(told):
    monitor, alarm = told
    found = Webhook("http://0x7f.1:9/", secret=SECRET)(alarm, monitor.context(alarm))
    assert isinstance(found, Retry)
    assert "private" in found.why


@pytest.fixture
def certificate(tmp_path):
    """A certificate of "localhost" and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: no certificate to test TLS with")
    made, key = tmp_path / "made.pem", tmp_path / "key.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {made} -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost",
        shell=True,
        check=True,
        capture_output=True,
    )
    return made, key


def test_tls_checks_the_name_and_not_the_address(told, certificate, monkeypatch):
    monitor, alarm = told
    made, key = certificate
    with Receiver() as receiver:
        about = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        about.load_cert_chain(made, key)
        receiver.socket = about.wrap_socket(receiver.socket, server_side=True)
        port = receiver.server_port
        there = Webhook(f"https://localhost:{port}/", secret=SECRET, allow_private=True)
        context = monitor.context(alarm)
        assert "CERTIFICATE_VERIFY_FAILED" in there(alarm, context).why
        monkeypatch.setenv("SSL_CERT_FILE", str(made))
        assert there(alarm, context) == Ack()
        other = Webhook(f"https://127.0.0.1:{port}/", secret=SECRET, allow_private=True)
        assert "CERTIFICATE_VERIFY_FAILED" in other(alarm, context).why


def test_tls_that_does_not_shake_hands_is_given_up(told):
    monitor, alarm = told

    class Mute(http.server.BaseHTTPRequestHandler):
        def handle(self):
            self.server.over.wait(30)

    with Receiver(handler=Mute) as receiver:
        url = f"https://127.0.0.1:{receiver.server_port}/"
        hook = Webhook(url, secret=SECRET, allow_private=True, timeout=0.3)
        began = time.monotonic()
        assert "no whole answer" in hook(alarm, monitor.context(alarm)).why
        assert time.monotonic() - began < 2


# Alertmanager.


def test_an_alarm_is_pushed_and_ended_with_the_same_labels():
    with opened() as monitor, Receiver() as receiver:
        hook = Alertmanager(receiver.url.removesuffix("/hook"), allow_private=True)
        send(monitor, 0, {"EU": 5})
        send(monitor, 1, {"EU": 1})
        send(monitor, 2, {"EU": 1})
        for alarm in alarms(monitor):
            assert hook(alarm, monitor.context(alarm)) == Ack()
        top = monitor.context(alarms(monitor)[0]).explain().top(1)["train_id"][0]
        (first,), (last,) = (found.json for found in receiver.accepted)
        assert {found.path for found in receiver.accepted} == {"/api/v2/alerts"}
    assert first["labels"] == last["labels"]
    assert first["labels"] == {
        "alertname": "many",
        "monitor": "people",
        "column": "n",
        "region": "EU",
    }
    assert first["annotations"]["value"] == "5"
    assert first["annotations"]["because"] == "n > 2"
    assert first["annotations"]["suspects"].startswith(f"{top} (")
    now = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
    assert first["startsAt"] == "2026-01-01T00:00:00Z" < first["endsAt"]
    assert last["endsAt"][:16] in (now, time.strftime("%Y-%m-%dT%H:%M", time.gmtime()))
    assert first["endsAt"] > last["endsAt"]


def test_an_alarm_of_the_future_does_not_end_before_it_begins(told):
    monitor, alarm = told
    ahead = replaced(alarm, since=datetime(2999, 1, 1))
    with Receiver() as receiver:
        hook = Alertmanager(receiver.url, allow_private=True)
        for status in ("firing", "resolved"):
            hook(replaced(ahead, status=status), monitor.context(alarm))
        for found in receiver.accepted:
            (alert,) = found.json
            assert alert["startsAt"] <= alert["endsAt"]


def test_the_shape_of_its_own_webhook(told):
    monitor, alarm = told
    with Receiver() as receiver:
        hook = Alertmanager(receiver.url, form="webhook", name="pager", allow_private=True)
        hook(alarm, monitor.context(alarm))
        (found,) = receiver.accepted
    assert found.path == "/hook"
    body = found.json
    assert set(body) == {
        *("receiver", "status", "alerts", "groupLabels", "commonLabels", "commonAnnotations"),
        *("externalURL", "version", "groupKey", "truncatedAlerts"),
    }
    assert (body["version"], body["receiver"], body["status"]) == ("4", "pager", "firing")
    assert body["groupKey"] == '{}:{alertname="many", monitor="people"}'
    (alert,) = body["alerts"]
    assert alert["fingerprint"] == alarm.fingerprint
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert alert["labels"] == body["commonLabels"]


def test_labels_are_called_as_prometheus_allows(told):
    from rainpp.hooks.alertmanager import labels_of

    _, alarm = told
    group = {"a b": 1, "a-b": None, "monitor": "x", "9": "y", "__z": "w", "größe": 2.5}
    assert labels_of(replaced(alarm, group=group)) == {
        "alertname": "many",
        "monitor": "people",
        "column": "n",
        "a_b": "1",
        "a_b_2": "NULL",
        "group_monitor": "x",
        "group_9": "y",
        "group___z": "w",
        "gr__e": "2.5",
    }


def test_a_test_event_says_so(told):
    monitor, _ = told
    with Receiver(fine) as receiver:
        before = len(monitor.changes())
        assert monitor.test(hook_to(receiver)) == Ack()
        assert monitor.test(Alertmanager(receiver.url, allow_private=True)) == Ack()
        hook, alert = (found.json for found in receiver.accepted)
        assert len(monitor.changes()) == before
    assert hook["type"] == "test"
    assert alert[0]["labels"]["alertname"] == "test (test)"
    seen = []
    assert monitor.test(Callback(lambda e, _: seen.append(e), name="c")) == Ack()
    assert isinstance(seen[0], Trial)
    with Receiver(says(500)) as receiver:
        assert "500" in monitor.test(hook_to(receiver)).why
