"""Who is let in, what is refused, and that a refusal is one clear line."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from types import ModuleType

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import rainpp.dashboard
from rainpp.dashboard import create_app, make_server
from rainpp.dashboard.keyring import Keyring
from rainpp.dashboard.pages import FILES
from rainpp.errors import RainError, SettingsError
from tests.dashboard.world import LONG, TOKEN, asking, send, serving, watched


@pytest.fixture(scope="module")
def monitor():
    with watched() as found:
        found.alert("many", "n > 1")
        send(found)
        yield found


@pytest.fixture(scope="module")
def client(monitor):
    with asking([monitor]) as found:
        yield found


@pytest.fixture(scope="module")
def locked(monitor):
    routes = [Route("/push", pushed, methods=["POST"])]
    with asking([monitor], token=TOKEN, routes=routes) as found:
        yield found


async def pushed(request):
    return PlainTextResponse(f"{len(await request.body())} bytes")


@pytest.fixture(autouse=True)
def without_cookies(request):
    for name in ("client", "locked"):
        if name in request.fixturenames:
            request.getfixturevalue(name).cookies.clear()


def refused(answer, status, *words):
    """The one line of a refusal."""
    assert answer.status_code == status
    line = answer.json()["error"]
    assert "\n" not in line
    assert "Traceback" not in line
    for word in words:
        assert word in line
    return line


ADDRESSES = ["/api/monitors", "/api/monitors/people", "/api/monitors/people/changes", "/metrics"]
ADDRESSES += ["/stream", "/static/app.js", "/static/vendor/uPlot.esm.js", "/api/complaints/1/patch"]


@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": "rainpp_00000000=1.2"},
    ],
)
def test_without_the_token_nothing_is_told(locked, path, headers):
    refused(locked.get(path, headers=headers), 401, "token")


def test_with_the_token_everything_is(locked):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/monitors", headers=headers).json()["monitors"][0]["monitor"] == "people"
    assert locked.get("/", headers=headers).status_code == 200
    assert locked.get("/", headers=headers).headers["content-type"].startswith("text/html")


def test_a_browser_signs_in_and_gets_a_cookie_that_scripts_do_not(locked):
    assert locked.get("/").headers["location"] == "/login"
    page = locked.get("/login")
    assert '<form method="post" action="/login">' in page.text
    wrong = locked.post("/login", data={"token": "not it"})
    assert wrong.status_code == 401
    assert "That is not the token." in wrong.text
    assert "set-cookie" not in wrong.headers
    right = locked.post("/login", data={"token": TOKEN})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert locked.get("/api/monitors").status_code == 200
    locked.post("/logout")
    refused(locked.get("/api/monitors"), 401)


def test_a_link_with_the_token_is_exchanged_for_a_cookie(locked):
    found = locked.get("/", params={"token": TOKEN})
    assert (found.status_code, found.headers["location"]) == (303, "/")
    assert TOKEN not in str(found.headers)
    assert locked.get("/").status_code == 200
    assert locked.get("/", params={"token": TOKEN}).headers["location"] == "/"


@pytest.mark.parametrize("token", ["", "wrong", "\u00e9", TOKEN[:-1], TOKEN + " "])
def test_a_link_with_another_token_is_not(locked, token):
    found = locked.get("/", params={"token": token})
    assert found.headers["location"].startswith("/login")
    assert "set-cookie" not in found.headers


def test_the_token_is_no_key_to_the_addresses_of_json(locked):
    refused(locked.get("/api/monitors", params={"token": TOKEN}), 401)


def test_more_routes_guard_themselves(locked):
    assert locked.post("/push", content=b"rows").text == "4 bytes"


def test_cookies_are_signed_and_end(monkeypatch):
    ring = Keyring(TOKEN)
    cookie = ring.issue()
    until, _, signature = cookie.partition(".")
    assert ring.admits(cookie)
    assert not Keyring(TOKEN + "2").admits(cookie)
    for forged in (f"{int(until) + 1}.{signature}", until, f".{signature}", "", None, "\u0665.x"):
        assert not ring.admits(forged)
    later = time.time() + ring.lifetime + 1
    monkeypatch.setattr("rainpp.dashboard.keyring.time.time", lambda: later)
    assert not ring.admits(cookie)


@pytest.mark.parametrize("token", ["short", "a" * 15, "line\nbreak" * 4, "\u00e9" * 20])
def test_a_token_that_is_too_weak_or_no_text_is_refused(monitor, token):
    with pytest.raises(SettingsError, match="token"):
        create_app([monitor], token=token)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""]
)
def test_another_name_that_resolves_here_is_refused(client, host):
    refused(client.get("/api/monitors", headers={"Host": host}), 421, "allowed_hosts")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:8765"])
def test_names_of_this_machine_are_answered(client, host):
    assert client.get("/api/monitors", headers={"Host": host}).status_code == 200


def test_hosts_can_be_named(monitor):
    with asking([monitor], allowed_hosts=["board.example"]) as found:
        assert found.get("/", headers={"Host": "board.example"}).status_code == 200
        refused(found.get("/"), 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://[", "Sec-Fetch-Site": "same-origin"},
    ],
)
@pytest.mark.parametrize("path", ["/api/complaints", "/push"])
def test_another_site_cannot_post(client, locked, headers, path):
    for each in (client, locked):
        refused(each.post(path, json={}, headers=headers), 403, "another site")


def test_our_own_page_can_post(client):
    here = str(client.base_url).rstrip("/")
    headers = {"Origin": here, "Sec-Fetch-Site": "same-origin"}
    refused(client.post("/api/complaints", json={}, headers=headers), 400, "no monitor")


def test_every_answer_carries_its_policy(client, locked):
    answers = [
        client.get("/"),
        client.get("/api/monitors"),
        client.get("/nowhere"),
        locked.get("/"),
    ]
    answers += [client.get("/", headers={"Host": "evil.example"}), locked.get("/api/monitors")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/vendor/../../app.py",
        "/static/vendor%5c..%5capp.py",
        "/static/app.js%00.html",
        "/static/",
        "/nowhere",
        "/api/monitors/people/../../../etc/passwd",
    ],
)
def test_no_other_file_is_served(client, path):
    asked = http.client.HTTPConnection(client.base_url.host, client.base_url.port)
    asked.request("GET", path)  # as it is: httpx would tidy it up
    answer = asked.getresponse()
    assert answer.status == 404
    assert "Traceback" not in answer.read().decode()
    asked.close()


def test_files_are_sent_once(client):
    for name in FILES:
        found = client.get(f"/static/{name}")
        assert found.status_code == 200
        again = client.get(f"/static/{name}", headers={"If-None-Match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_bodies_are_bounded_and_are_json(client):
    large = b'{"x": "' + b"x" * 70_000 + b'"}'
    json_type = {"Content-Type": "application/json"}
    refused(client.post("/api/complaints", content=large, headers=json_type), 413, "65536")
    parts = (large[at : at + 1000] for at in range(0, len(large), 1000))
    refused(client.post("/api/complaints", content=parts, headers=json_type), 413, "65536")
    refused(client.post("/api/complaints", content=b"{}"), 415, "application/json")
    for bad in (b"", b"{", b"[1]", b"\xff\xfe", b"[" * 60_000, b'"text"'):
        answer = client.post("/api/complaints", content=bad, headers=json_type)
        refused(answer, 400, "JSON")


def test_a_body_that_comes_too_slowly_is_given_up(monitor, monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.bodies._PATIENCE", 0.3)
    with serving([monitor]) as server:
        one = socket.create_connection(server.bound.getsockname())
        one.settimeout(LONG)
        one.sendall(
            b"POST /api/complaints HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\n\r\n{"
        )
        assert one.recv(1 << 16).startswith(b"HTTP/1.1 408")
        one.close()


def test_a_failure_inside_is_one_line_and_goes_to_the_log(monitor, caplog):
    with asking([monitor]) as found:
        found.feed.pulses.clear()  # so that the handler fails with a KeyError
        answer = found.get("/api/monitors/people")
    line = refused(answer, 500, "log")
    assert "people" not in line
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(client, method):
    refused(client.request(method, "/api/monitors"), 405)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_others_can_reach_it_only_with_a_token(monitor, host):
    with pytest.raises(SettingsError, match="token"):
        make_server(create_app([monitor]), host=host, port=0)


def test_with_a_token_it_is_served_to_others(monitor):
    server = make_server(create_app([monitor], token=TOKEN), host="0.0.0.0", port=0)
    server.bound.close()


@pytest.mark.parametrize("port", [-1, 65536, "80", True, None])
def test_a_port_is_a_number(monitor, port):
    with pytest.raises(SettingsError, match="port"):
        make_server(create_app([monitor]), port=port)


def test_a_port_that_is_taken_is_said_to_be(monitor):
    other = socket.create_server(("127.0.0.1", 0))
    taken = other.getsockname()[1]
    with other, pytest.raises(SettingsError, match="another port"):
        make_server(create_app([monitor]), port=taken)


@pytest.mark.parametrize("monitors", [[], ["people"], [None]])
def test_what_is_no_monitor_is_refused(monitors):
    with pytest.raises(SettingsError, match=r"rainpp\.monitor"):
        create_app(monitors)


def test_metrics_are_those_of_the_hooks(client, monkeypatch):
    hooks = ModuleType("rainpp.hooks")
    monkeypatch.setitem(sys.modules, "rainpp.hooks", hooks)
    refused(client.get("/metrics"), 501, "hooks")
    hooks.exposition = lambda monitors: b"rainpp_monitors %d\n" % len(monitors)
    assert client.get("/metrics").text == "rainpp_monitors 1\n"


def test_without_its_libraries_the_dashboard_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "rainpp.dashboard.app")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(RainError, match=r"pip install .rainpp\[serve\]"):
        _ = rainpp.dashboard.create_app


def test_values_of_the_data_are_text_wherever_they_go():
    nasty = "<img src=x onerror=alert(1)>\u2028</script>\n\ndata: x"
    with watched() as monitor:
        send(monitor, region=nasty)
        with asking([monitor]) as found:
            answer = found.get("/api/monitors/people/changes")
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["changes"][0]["group"] == [["region", nasty]]
            frame = found.feed.snapshot().decode()
            _, _, data = frame.partition("data: ")
            assert json.loads(data)["monitors"][0]["changes"][0]["group"] == [["region", nasty]]
