"""What stands above the charts, and what the demo says of itself."""

from __future__ import annotations

from typer.testing import CliRunner

from rainpp.cli import app
from rainpp.dashboard import demo
from tests.dashboard.world import asking, send, watched


def test_a_sentence_stands_above_the_charts_and_is_no_markup():
    with watched() as monitor:
        send(monitor)
        with asking([monitor], about="a <b> & more") as client:
            answer = client.get("/")
            assert '<p class="about">a &lt;b&gt; &amp; more</p>' in answer.text
            again = client.get("/", headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304
        with asking([monitor]) as client:
            other = client.get("/")
            assert 'class="about"' not in other.text
            assert other.headers["etag"] != answer.headers["etag"]


def test_the_demo_says_what_was_planted_and_what_to_try(monkeypatch):
    shown = {}

    def serve(made, *, port, ready):
        shown["about"], shown["port"] = made, port
        ready("http://127.0.0.1:1/")

    monkeypatch.setattr(demo, "demo_monitors", lambda: [])
    monkeypatch.setattr(demo, "Feeder", lambda _: _Nothing())
    monkeypatch.setattr("rainpp.dashboard.create_app", lambda _, about: about, raising=False)
    monkeypatch.setattr("rainpp.dashboard.serve", serve, raising=False)
    result = CliRunner().invoke(app, ["serve", "--demo", "--port", "8799"])
    assert result.exit_code == 0
    assert shown == {"about": demo.ABOUT, "port": 8799}
    assert result.stderr.splitlines() == ["open http://127.0.0.1:1/", demo.ABOUT]
    assert "labelled 7" in demo.ABOUT


class _Nothing:
    def start(self):
        """Nothing is sent."""

    stop = start
