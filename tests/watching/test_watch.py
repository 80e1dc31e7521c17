"""`rainpp watch` and `rainpp serve`: what they say, how they end, what they refuse."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time

import httpx
import pytest
from typer.testing import CliRunner

from rainpp.cli import app
from rainpp.errors import ModelError, RainError, SettingsError
from rainpp.monitoring.alarm import Alarm
from rainpp.sources import Asides
from rainpp.watching.config import read_config
from rainpp.watching.opening import open_monitors
from rainpp.watching.run import watch
from tests.sources.world import image, lines, rows
from tests.watching.world import TOKEN, Watch, prepare

DIRECTORY = """
[[source]]
type = "directory"
path = "in"
pattern = "*.jsonl"
every = 0.05
"""
HTTP = f"""
[[source]]
type = "http"
name = "shop"
[server]
port = 0
token = "{TOKEN}"
"""
ALERT = """
[[monitor.alert]]
name = "many"
when = "n > 2"
"""
HOOKS = """
hooks = "all of them"
[[monitor.alert]]
name = "many"
when = "n > 2"
hooks = ["pager"]
[[hook]]
name = "pager"
type = "webhook"
url = "https://example.org"
secret = "whsec_x"
[[hook]]
name = "all of them"
type = "file"
path = "alarms.jsonl"
"""


def write(file, number, count=12, *, more=b""):
    folder = file.parent / "in"
    folder.mkdir(exist_ok=True)
    text = b"\n".join(lines(rows(count, number))) + b"\n" + more
    (folder / f"{number:03}.jsonl").write_bytes(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "rainpp_test_watch", raising=False)
    return tmp_path / "shop"


def quiet(_):
    """Alarms are said to nobody."""


def state_of(file):
    (monitor,) = open_monitors(read_config(file))
    with monitor:
        return image(monitor)


def test_a_process_says_alarms_and_goes_on_after_sigterm(folder):
    file = prepare(folder, ALERT, DIRECTORY, names=["by_region"])
    write(file, 0, 30)
    running = Watch(file, "--json")
    assert running.wait_for("watching by_region")
    write(file, 1, more=b"oops\n")
    assert running.wait_for("set aside")
    status, out = running.end(signal.SIGTERM)
    assert status == 0
    assert any("SIGTERM: stopping" in line for line in running.log)
    said = [json.loads(line) for line in out.splitlines()]
    assert said
    assert all(line["monitor"] == "by_region" and line["name"] == "many" for line in said)
    assert not any("vector" in line for line in said)
    assert [line["seq"] for line in said] == sorted({line["seq"] for line in said})
    write(file, 2)
    again = Watch(file, "--once")
    status, out = again.end()
    assert status == 0
    assert not any("oops" in line for line in again.log)
    assert all(line.startswith("by_region: many is") for line in out.splitlines())
    whole = prepare(folder.parent / "whole", ALERT, DIRECTORY, names=["by_region"])
    for number, (count, more) in enumerate([(30, b""), (12, b"oops\n"), (12, b"")]):
        write(whole, number, count, more=more)
    watch(read_config(whole), quiet, once=True)
    assert state_of(file) == state_of(whole)


def test_a_signal_ends_it_and_the_state_is_closed(folder):
    file = prepare(folder, DIRECTORY, HTTP, names=["money"])
    (folder / "in").mkdir()
    write(file, 0)
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        timer = threading.Timer(1.5, os.kill, (os.getpid(), number))
        timer.start()
        started = time.monotonic()
        watch(read_config(file), quiet)
        assert 1 < time.monotonic() - started < 12
        assert signal.getsignal(number) is before
        assert "000" not in state_of(file)["late"]
    assert json.loads(state_of(file)["offsets"])["in"] > 0


def test_hooks_are_told_what_they_were_named_for(folder):
    part = HOOKS.split("[[monitor.alert]]")
    file = prepare(folder, names=["by_region"])
    text = file.read_text().replace("[monitor.schema]", f"{part[0]}[monitor.schema]")
    file.write_text(f"{text}[[monitor.alert]]{part[1]}{DIRECTORY}")
    write(file, 0, 30)
    told = {"pager": [], "all of them": []}
    said = []

    def make(hook):
        assert hook.options.get("secret") == (("whsec_x",) if hook.name == "pager" else None)
        return lambda alarm, _: told[hook.name].append(alarm)

    watch(read_config(file), said.append, once=True, make_hook=make)
    assert said
    assert all(isinstance(alarm, Alarm) for alarm in said)
    assert told == {"pager": said, "all of them": said}


def test_a_handler_that_fails_stops_nothing(folder, caplog):
    file = prepare(folder, ALERT, DIRECTORY, names=["by_region"])
    write(file, 0, 30)
    write(file, 1, 30)

    def fails(_):
        raise OSError("no more paper")

    watch(read_config(file), fails, once=True)
    assert json.loads(state_of(file)["offsets"])["in"] >> 40 == 1
    assert any("a handler of by_region failed: no more paper" in m for m in caplog.messages)


def test_once_says_that_a_file_was_left(folder):
    file = prepare(folder, DIRECTORY.replace("jsonl", "parquet"), names=["money"])
    (folder / "in").mkdir()
    (folder / "in" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(RainError, match=r"not all was taken: .*a\.parquet cannot be read"):
        watch(read_config(file), quiet, once=True)


def test_records_set_aside_are_listed_beside_the_state(folder):
    file = prepare(folder, DIRECTORY, names=["money"])
    write(file, 0, 3, more=b"oops\n")
    watch(read_config(file), quiet, once=True)
    watch(read_config(file), quiet, once=True)
    (aside,) = Asides(folder / "state.duckdb.aside.jsonl").read()
    assert (aside.source, aside.record) == ("in", "oops")


def test_a_query_that_fits_no_row_ends_everything(folder):
    file = prepare(folder, DIRECTORY, HTTP, names=["money"])
    text = file.read_text()
    head, _, tail = text.partition("[monitor.schema]")
    file.write_text(head + tail[tail.index("[[source]]") :])  # no schema
    write(file, 0, 3)
    path = folder / "in" / "000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"amount"', b'"price"'))
    with pytest.raises(RainError, match="amount"):
        watch(read_config(file), quiet)


@pytest.mark.parametrize("page", [False, True])
def test_page_push_and_metrics_stand_on_one_port(folder, monkeypatch, page):
    file = prepare(folder, HTTP, names=["money"])
    answers = []

    def client():
        while not (found := [m for m in messages() if "listening at" in m]):
            time.sleep(0.05)
        url = found[0].rpartition(" ")[2]
        body = b"\n".join(lines(rows(4, 1)))
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson"}
        for path in ("/push/shop", "/push/other"):
            answer = httpx.post(url + path, content=body, headers=head, timeout=60)
            answers.append(answer)
        answers.extend(
            httpx.get(url + path, headers=given, timeout=60)
            for path in ("/metrics", "/api/monitors")
            for given in ({"Authorization": "Bearer x"}, {"Authorization": f"Bearer {TOKEN}"})
        )
        os.kill(os.getpid(), signal.SIGTERM)

    logger, kept = logging.getLogger("rainpp"), []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())

    def messages():
        return list(kept)

    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.INFO)
    logging.getLogger("rainpp.watching.run").setLevel(logging.INFO)
    thread = threading.Thread(target=client)
    thread.start()
    try:
        watch(read_config(file), quiet, page=page)
    finally:
        logger.removeHandler(handler)
    thread.join(10)
    of_page = [401, 200] if page else [404, 404]
    assert [answer.status_code for answer in answers] == [200, 404, 401, 200, *of_page]
    assert answers[0].json()["monitors"]["money"]["rows"] == 4
    assert 'monitor="money"' in answers[3].text
    assert answers[3].headers["content-type"].startswith("text/plain; version=0.0.4")
    assert not page or "money" in answers[5].text


PIXELS = """
[[monitor]]
name = "pixels"
sql = "SELECT count(*) AS n FROM shots WHERE guess(x) = 1"
function = "guess"
time = "t"
window = "1m"
schema = { t = "TIMESTAMP", x = "DOUBLE[3]" }
"""


def write_shots(folder, wide):
    shot = json.dumps({"t": "2026-01-01T00:00:00Z", "x": [0.5] * wide})
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "0.jsonl").write_text(3 * f"{shot}\n")


def taken_pixels(file):
    """How many rows the monitor counts once it has taken what is there."""
    watch(read_config(file), quiet, once=True)
    (monitor,) = open_monitors(read_config(file))
    with monitor:
        return monitor.read().rows.tolist()


def test_a_schema_that_does_not_fit_the_model_is_refused_before_there_is_a_state(folder):
    file = prepare(folder, PIXELS, DIRECTORY, names=[])
    write_shots(folder, 4)
    words = r"\[\[monitor\]\] pixels schema does not fit the model: .*\(3,\) and \(4,\)"
    with pytest.raises(SettingsError, match=words):
        watch(read_config(file), quiet, once=True)
    assert not (folder / "state.duckdb").exists()
    file.write_text(file.read_text().replace("DOUBLE[3]", "DOUBLE[4]"))
    assert taken_pixels(file) == [3]


def test_rows_that_do_not_fit_the_model_are_said_with_their_file(folder):
    file = prepare(folder, PIXELS.replace("DOUBLE[3]", "DOUBLE[]"), DIRECTORY, names=[])
    write_shots(folder, 3)
    with pytest.raises(ModelError) as caught:
        watch(read_config(file), quiet, once=True)
    said = str(caught.value)
    assert said.startswith("the monitor `pixels` cannot take in the rows of ")
    assert "in/0.jsonl (source `in`): the model cannot read these rows" in said
    assert "\n" not in said
    write_shots(folder, 4)
    assert taken_pixels(file) == [3]


@pytest.mark.parametrize("page", [False, True])
def test_an_open_address_without_a_token_is_refused(folder, page):
    server = '[server]\nhost = "0.0.0.0"\nport = 0\n'
    file = prepare(folder, DIRECTORY, server, names=["money"])
    (folder / "in").mkdir()
    if page:
        with pytest.raises(SettingsError, match="other machines may reach"):
            watch(read_config(file), quiet, page=True)
    else:  # nothing listens
        watch(read_config(file), quiet, once=True)


def test_no_source(folder):
    file = prepare(folder, names=["money"])
    with pytest.raises(SettingsError, match=r"has no \[\[source\]\]"):
        watch(read_config(file), quiet)


def test_errors_are_one_line(folder, monkeypatch):
    file = prepare(folder, ALERT.replace("n > 2", "m > 2"), DIRECTORY, names=["money"])
    (folder / "in").mkdir()
    monkeypatch.chdir(folder)
    for arguments, words in (
        (["watch", "none.toml"], "cannot read `none.toml`"),
        (["serve", "none.toml"], "cannot read `none.toml`"),
        (["watch", "--once"], "[[monitor]] money: "),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert result.stdout == ""
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert words in last
    assert file.exists()
