"""A chart by itself, in a real browser: gaps, bands, what a drag takes, and marks of alarms."""

from __future__ import annotations

import pandas as pd
import pytest

import rainpp
from rainpp.windows import Tumbling
from tests.dashboard.world import send, serving, watched

pytest.importorskip("playwright", reason="playwright is not installed")
pytestmark = pytest.mark.slow

# A chart of minutes 0, 1, ... of two groups, `minutes` of which are there.
CHART = """async ([minutes, values, long]) => {
  const { Chart } = await import("/static/chart.js");
  const { Column } = await import("/static/series.js");
  const column = new Column("n");
  let seq = 0;
  window.put = (minute, key, value) => column.take({
    monitor: "people", column: "n", key, group: [["region", key]],
    window: [60000 * minute, 60000 * (minute + long)], value, relaxed: value,
    low: value - 5, high: value + 5, rows: 100, status: "final", revision: 0, model: "m",
    seq: seq++,
  });
  for (const [at, minute] of minutes.entries()) {
    for (const key of Object.keys(values)) window.put(minute, key, values[key][at]);
  }
  window.told = null;
  window.chart = new Chart(column, "n", (cells) => { window.told = cells; });
  const place = document.createElement("div");
  place.className = "card";
  place.style = "position: fixed; inset: 0 auto auto 0; width: 700px; z-index: 9";
  place.append(window.chart.root);
  document.body.append(place);
  window.chart.update();
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
SETTLE = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def page_of_people():
    with watched() as monitor:
        send(monitor)
        with serving([monitor]) as server:
            yield server


@pytest.fixture
def charted(page_of_people, opened):
    """A function that draws a chart; its page."""

    def chart(minutes, long=1, **values):
        page = opened(page_of_people)
        page.evaluate(CHART, [minutes, values, long])
        return page

    return chart


def drawn(page):
    """What is drawn: places and then low, high, expected and value of each group."""
    return page.evaluate("chart.plot.data.map((line) => [...line])")


def test_windows_without_data_are_a_gap(charted):
    page = charted([0, 1, 3, 6, 7], a=[9, 8, 7, 6, 5])
    at, _, _, _, values = drawn(page)
    # One window is missing after minute 1, two after minute 3.
    assert [x / 60 for x in at] == [0, 1, 3, 4, 6, 7]
    assert values == [9, 8, 7, None, 6, 5]


def test_windows_that_overlap_begin_more_often_than_they_are_long(charted):
    page = charted([0, 1, 2, 5, 6], a=[1, 2, 3, 4, 5], long=30)
    at, _, _, _, values = drawn(page)
    assert [x / 60 for x in at] == [0, 1, 2, 3, 5, 6]
    assert values == [1, 2, 3, None, 4, 5]


def test_a_band_of_a_count_does_not_go_below_zero(charted):
    _, low, high, *_ = drawn(charted([0, 1], a=[2, 8]))
    assert (low, high) == ([0, 3], [7, 13])
    _, low, *_ = drawn(charted([0, 1], a=[2, 8.5]))
    assert low == [-3, 3.5]


def drag(page, start, end):
    """Drag from one (minute, value) to another."""
    for number, (minute, value) in enumerate((start, end)):
        x, y = page.evaluate(
            """([minute, value]) => {
              const box = chart.plot.over.getBoundingClientRect();
              return [box.x + chart.plot.valToPos(60 * minute, "x"),
                      box.y + chart.plot.valToPos(value, "y")];
            }""",
            [minute, value],
        )
        page.mouse.move(x, y, steps=1 + 4 * number)
        if not number:
            page.mouse.down()
    page.mouse.up()
    return page.evaluate("told.map((cell) => [cell.key, cell.window[0] / 60000])")


def test_a_drag_over_a_peak_takes_the_peak(charted):
    minutes = list(range(9))
    page = charted(minutes, low=[10] * 9, peak=[11, 11, 11, 40, 50, 40, 11, 11, 11])
    # It begins on the low line; the box holds three points of the peak and none of the others.
    assert drag(page, (2.6, 20), (5.4, 52)) == [["peak", 3], ["peak", 4], ["peak", 5]]
    # A box without height: the line that is nearest to its middle.
    assert drag(page, (2.6, 45), (5.4, 45))[0][0] == "peak"
    assert drag(page, (2.6, 12), (5.4, 12))[0][0] == "low"
    # Where both have points in the box, the one with more of them.
    assert drag(page, (2.6, 45), (6.4, 9))[0][0] == "low"


def test_the_brush_stays_with_its_windows(charted):
    page = charted(list(range(8)), a=[9] * 8)
    page.evaluate("chart.stage.focus()")
    page.keyboard.press("End")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowLeft")
    ends = """() => {
      const at = (slot) => chart.plot.valToPos(slot * 1e-3, "x");
      const [left, width] = ["left", "width"].map((end) => parseFloat(chart.brush.style[end]));
      return [left - at(chart.range.from), left + width - at(chart.range.to)];
    }"""
    page.evaluate(SETTLE)
    before = page.evaluate("chart.brush.style.left")
    page.evaluate("() => { for (const m of [8, 9, 10, 11]) put(m, 'a', 9); chart.update(); }")
    page.evaluate(SETTLE)
    assert page.evaluate("chart.brush.style.left") != before
    assert page.evaluate(ends) == pytest.approx([-4, 4], abs=0.01)
    page.evaluate("() => { for (let m = 12; m < 300; m += 1) put(m, 'a', 9); chart.update(); }")
    page.evaluate(SETTLE)
    assert page.locator(".brush").count() == 0


# The pixels of the colour of alarms in a part of the first canvas of a place.
RED = """([place, x, y, width, height]) => {
  const from = document.querySelector(`${place} canvas`);
  const copy = new OffscreenCanvas(width ?? from.width, height ?? from.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(from, -x, -y);
  const { data } = context.getImageData(0, 0, copy.width, copy.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    found += data[at] > 160 && data[at + 1] < 70 && data[at + 2] < 70;
  }
  return found;
}"""


def red(page, minute, value):
    """How many pixels of the colour of alarms are just above a point."""
    x, y = page.evaluate(
        "([x, y]) => [chart.plot.valToPos(60 * x, 'x', true), chart.plot.valToPos(y, 'y', true)]",
        [minute, value],
    )
    return page.evaluate(RED, ["body > .card", x - 8, y - 18, 16, 15])


def test_an_alarm_is_marked_where_it_went_off_and_hollow_once_over(charted):
    page = charted(list(range(8)), a=[9] * 8)
    page.evaluate(
        """() => {
          const alarm = { name: "x", key: "a", column: "n", should: "increase" };
          chart.mark([
            { ...alarm, status: "firing", since: 60000 * 2, window: [60000 * 2] },
            { ...alarm, status: "resolved", since: 60000 * 4, window: [60000 * 6] },
          ]);
          chart.update();
        }"""
    )
    page.evaluate(SETTLE)
    full, hollow, none = (red(page, minute, 9) for minute in (2, 4, 6))
    assert full > hollow > none == 0


def test_alarms_that_are_over_stay_marked(opened):
    with watched(window=Tumbling("10s")) as monitor:
        monitor.alert("many", "n > 2")
        rows = {"region": "north"}
        start = pd.Timestamp("2026-01-01")
        for number, count in enumerate((60, 1, 1)):
            at = start + pd.Timedelta(seconds=10 * number)
            send(monitor, count, seed=1, first=100 * number, t=at, **rows)
        alarms = [item.status for item in monitor.changes() if isinstance(item, rainpp.Alarm)]
        assert alarms == ["firing", "resolved"]
        with serving([monitor]) as server:
            page = opened(server)
            legend = page.locator(".legend").inner_text()
            assert "hollow once it is over" in legend
            page.wait_for_selector("#alarm-list li")
            assert "when it was over" in page.locator("#alarm-list li").inner_text()
            assert page.evaluate(RED, ["article", 0, 0, None, None]) > 5
