"""Where hooks do not send: inside, nowhere, or to what is no URL."""

from __future__ import annotations

import socket
import threading

import pytest

from rainpp.errors import SettingsError
from rainpp.hooks import Alertmanager, Webhook
from rainpp.hooks.address import Target, Unsent, is_private
from rainpp.hooks.post import post
from tests.hooks.receiver import Receiver
from tests.hooks.world import SECRET

BAD = [
    ("ftp://example.com/", "http://"),
    ("example.com/x", "http://"),
    ("//example.com", "http://"),
    ("", "http://"),
    ("javascript:alert(1)", "http://"),
    ("file:///etc/passwd", "http://"),
    ("http://", "no host"),
    ("http:///x", "no host"),
    ("http://.", "no host"),
    ("http://a..b/", "no host"),
    ("http://user:word@example.com/", "password"),
    ("http://user@example.com/", "user"),
    ("http://@example.com/", "user"),
    ("http://example.com/#part", "fragment"),
    ("http://example.com:0/", "port"),
    ("http://example.com:99999/", "URL"),
    ("http://example.com:x/", "URL"),
    ("http://[::1/", "URL"),
    ("http://example.com/a b", "sign"),
    ("http://example.com/\r\nHost: x", "sign"),
    ("http://example.com\\@127.0.0.1/", "sign"),
    ("http://ex\u00e4mple.com/", "sign"),
    (None, "text"),
    (b"http://example.com/", "text"),
    ("http://127.0.0.1/", "private"),
    ("http://localhost:80/", "private"),
    ("http://LOCALHOST./", "private"),
    ("http://x.localhost/", "private"),
    ("http://[::1]/", "private"),
    ("http://[::ffff:10.0.0.1]/", "private"),
    ("http://169.254.169.254/latest/meta-data", "private"),
    ("http://0.0.0.0/", "private"),
]


@pytest.mark.parametrize(("url", "said"), BAD)
def test_bad_urls_are_refused_when_the_hook_is_made(url, said):
    for make in (lambda: Webhook(url, secret=SECRET), lambda: Alertmanager(url)):
        with pytest.raises(SettingsError, match=said):
            make()


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "127.8.8.8", "0.1.2.3", "169.254.1.1"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1"),
        *("64:ff9b::7f00:1", "2002:7f00:1::1", "2002:a00:1::", "2001:0:7f00:1::"),
    ],
)
def test_addresses_inside(address):
    assert is_private(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_outside(address):
    assert not is_private(address)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
def test_other_ways_to_write_this_machine_are_found_when_it_is_looked_up(host):
    target = Target.of(f"http://{host}/", allow_private=False)
    with pytest.raises(Unsent, match=r"127\.0\.0\.1, a private address"):
        target.addresses(5)


def looked_up(monkeypatch, answers):
    """Let names resolve as given, one answer after the other; the names that were asked for."""
    real, asked = socket.getaddrinfo, []

    def ask(host, port, *rest, **more):
        if host != "hooks.test":
            return real(host, port, *rest, **more)
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    return asked


def test_one_private_address_among_public_ones_is_enough(monkeypatch):
    looked_up(monkeypatch, [["8.8.8.8", "10.0.0.1"]])
    with pytest.raises(Unsent, match=r"10\.0\.0\.1"):
        Target.of("https://hooks.test/", allow_private=False).addresses(5)


def test_a_name_is_looked_up_once_and_its_address_connected_to(monkeypatch):
    """The second answer is never asked for: whoever changes it meanwhile gains nothing."""
    with Receiver() as receiver:
        asked = looked_up(monkeypatch, [["127.0.0.1"], ["8.8.8.8"]])
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        url = f"http://hooks.test:{receiver.server_port}/in?token=1"
        answer = post(Target.of(url, allow_private=True), b"{}", {}, 5)
        assert answer.status == 204
        assert asked == ["hooks.test"]
        assert receiver.attempts[0].path == "/in?token=1"
        assert receiver.attempts[0].headers["host"] == f"hooks.test:{receiver.server_port}"


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [over.wait(10)][1:])
    try:
        with pytest.raises(Unsent, match=r"not found within 0\.1 s"):
            Target.of("https://hooks.test/", allow_private=False).addresses(0.1)
    finally:
        over.set()


def test_a_name_that_nobody_knows(monkeypatch):
    def fails(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(Unsent, match="Name or service not known"):
        Target.of("https://hooks.test/", allow_private=False).addresses(5)


def test_names_of_hooks_do_not_give_the_path_away():
    first = Webhook("https://example.com/token-123", secret=SECRET)
    again = Webhook("https://example.com/token-123", secret=SECRET)
    other = Webhook("https://example.com/token-456", secret=SECRET)
    assert first.name == again.name != other.name
    assert "token" not in first.name + repr(first) + repr(first.target)
    assert "QUFB" not in repr(vars(first)["target"]) + repr(first)


@pytest.mark.parametrize("timeout", [0, -1, 61, "5", None, True, float("nan")])
def test_bad_timeouts(timeout):
    with pytest.raises(SettingsError, match="timeout"):
        Webhook("https://example.com/", secret=SECRET, timeout=timeout)


@pytest.mark.parametrize("options", [{"name": ""}, {"name": 5}, {"replay": "some"}])
def test_bad_options(options):
    with pytest.raises(SettingsError):
        Webhook("https://example.com/", secret=SECRET, **options)
    with pytest.raises(SettingsError):
        Alertmanager("https://example.com/", **options)


def test_an_unknown_form():
    with pytest.raises(SettingsError, match="form"):
        Alertmanager("https://example.com/", form="email")
