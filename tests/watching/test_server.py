"""The server of `rainpp serve`: it ends, whoever has the page open."""

from __future__ import annotations

import logging
import socket
import time

import httpx
import pytest

from rainpp.dashboard import create_app
from rainpp.watching.config import ServerConfig
from rainpp.watching.server import Server
from tests.dashboard.world import watched


def test_an_open_page_does_not_hold_it_up(caplog):
    with watched() as monitor, caplog.at_level(logging.INFO):
        server = Server(create_app([monitor]), ServerConfig(port=0))
        server.start()
        with httpx.stream("GET", f"{server.url}/stream", timeout=60) as page:
            said = page.iter_text()
            assert "snapshot" in next(said)
            asked = time.monotonic()
            server.stop()
            assert time.monotonic() - asked < 2.5
        assert not server.running
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_who_sends_is_not_what_a_header_says():
    with watched() as monitor:
        server = Server(create_app([monitor], token="a token of a test"), ServerConfig(port=0))
        server.start()
        answer = httpx.post(
            f"{server.url}/login",
            content="token=a+token+of+a+test",
            headers={"X-Forwarded-Proto": "https"},
            timeout=60,
        )
        server.stop()
    assert answer.status_code == 303
    assert "secure" not in answer.headers["set-cookie"].lower()


def _speaks_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _speaks_ipv6(), reason="this machine has no IPv6")
def test_the_address_of_a_numeric_host_can_be_followed():
    with watched() as monitor:
        server = Server(create_app([monitor]), ServerConfig(host="::1", port=0))
        server.start()
        assert httpx.get(f"{server.url}/api/monitors", timeout=60).status_code == 200
        server.stop()
