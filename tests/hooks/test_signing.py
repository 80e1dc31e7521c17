"""Signatures, against the package of the specification, both ways."""

from __future__ import annotations

import base64
import json
import os
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks

from rainpp.errors import SettingsError, SignatureError
from rainpp.hooks import make_secret, sign, verify

BODY = json.dumps({"type": "test", "data": {"größe": 1.5}}, ensure_ascii=False).encode()


def test_the_reference_accepts_what_we_sign():
    secret = make_secret()
    headers = sign(BODY, secret, key="msg_1")
    assert standardwebhooks.Webhook(secret).verify(BODY, headers) == json.loads(BODY)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(make_secret()).verify(BODY, headers)


@pytest.mark.parametrize("length", [24, 64])
def test_we_accept_what_the_reference_signs(length):
    secret = "whsec_" + base64.b64encode(os.urandom(length)).decode()
    at = datetime.now(UTC)
    headers = {
        "Webhook-Id": "msg_2",
        "WEBHOOK-TIMESTAMP": str(int(at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign("msg_2", at, BODY.decode()),
    }
    assert verify(headers, BODY, secret) == json.loads(BODY)
    assert verify(headers, BODY.decode(), [make_secret(), secret]) == json.loads(BODY)
    with pytest.raises(SignatureError, match="no signature of the message fits"):
        verify(headers, BODY, make_secret())


def test_two_secrets_while_one_replaces_the_other():
    old, new = make_secret(), make_secret()
    headers = sign(BODY, [new, old], key="m")
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        assert standardwebhooks.Webhook(secret).verify(BODY, headers)
        assert verify(headers, BODY, secret)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-id", "another"),
        ("webhook-timestamp", "later"),
        ("webhook-signature", "v1,AAAA"),
        ("webhook-signature", "v1a,\u00e4 v2"),
    ],
)
def test_whatever_is_changed_is_noticed(header, value):
    secret = make_secret()
    if value == "later":
        value = str(int(time.time()) + 7)
    headers = sign(BODY, secret, key="m") | {header: value}
    with pytest.raises(SignatureError, match="no signature"):
        verify(headers, BODY, secret)
    with pytest.raises(SignatureError, match="no signature"):
        verify(sign(BODY, secret, key="m"), BODY + b" ", secret)


@pytest.mark.parametrize(
    ("off", "said"), [(-301, "301 s old"), (301, "301 s ahead of this clock"), (-(10**9), "old")]
)
def test_a_clock_that_is_wrong_is_named(off, said):
    secret, now = make_secret(), 1_800_000_000
    headers = sign(BODY, secret, key="m", timestamp=now + off)
    with pytest.raises(SignatureError, match=said):
        verify(headers, BODY, secret, now=now)
    within = sign(BODY, secret, key="m", timestamp=now + (299 if off > 0 else -299))
    assert verify(within, BODY, secret, now=now)
    assert verify(headers, BODY, secret, now=now, tolerance=2e9)


@pytest.mark.parametrize("at", ["", "-1", "1e9", "\u0661\u0662", "9" * 30, "nan"])
def test_times_that_are_none(at):
    headers = sign(BODY, make_secret(), key="m") | {"webhook-timestamp": at}
    with pytest.raises(SignatureError, match="webhook-timestamp"):
        verify(headers, BODY, make_secret())


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header(missing):
    secret = make_secret()
    headers = sign(BODY, secret, key="m")
    del headers[missing]
    with pytest.raises(SignatureError, match=missing):
        verify(headers, BODY, secret)


def test_signed_nonsense():
    secret = make_secret()
    for body in (b"no json", b"\xff", b"[1]"):
        with pytest.raises(SignatureError, match="signed, but"):
            verify(sign(body, secret, key="m"), body, secret)


@pytest.mark.parametrize(
    "secret",
    ["", [], "whsec_", "whsec_!!", "whsec_" + "QUFB" * 7, "whsec_" + "QUFB" * 22, 5, [None]],
)
def test_bad_secrets_are_refused_and_not_shown(secret):
    with pytest.raises(SettingsError) as caught:
        sign(b"", secret, key="m")
    assert "QUFB" not in str(caught.value)
