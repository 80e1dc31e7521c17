"""The page in a real browser: what is seen, brushed, heard and downloaded."""

from __future__ import annotations

import threading

import pytest

import rainpp
from rainpp.dashboard import create_app, make_server
from rainpp.dashboard.demo import Feeder, demo_monitors
from rainpp.index.artifact import save
from tests.dashboard.digits import planted
from tests.dashboard.world import LONG, SQL, TOKEN, listening, next_of, send, serving, watched
from tests.monitoring import world

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("sklearn", reason="scikit-learn has the digits")


def pixels(page, place=0):
    """The picture of a chart."""
    return page.evaluate(
        "place => document.querySelectorAll('.plot canvas')[place].toDataURL()", place
    )


def test_it_loads_from_here_alone_and_is_light(server, opened):
    page = opened(server)
    assert page.title() == "rainpp"
    assert page.locator("article.card h2").all_inner_texts() == ["ones", "sevens"]
    page.wait_for_selector("#connection:has-text('connected')")
    size = page.evaluate(
        "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".filter(e => !e.name.endsWith('/stream')).reduce((sum, e) => sum + e.decodedBodySize, 0)"
    )
    assert 50_000 < size <= 500_000


def test_a_commit_changes_the_chart(digits, server, opened):
    page = opened(server)
    page.wait_for_timeout(300)
    before = pixels(page)
    page.wait_for_timeout(300)
    assert pixels(page) == before
    digits[1]()
    page.wait_for_function(
        "before => document.querySelector('.plot canvas').toDataURL() !== before", arg=before
    )


@pytest.mark.slow
def test_a_new_alarm_is_shown_and_announced(digits, server, opened):
    page = opened(server)
    monitor = digits[0][0]
    known = page.locator("#alarm-list li").count()
    assert page.locator("#announcements p").count() == 0
    monitor.alert("any 1s", "ones > 0", where={"source": "north"})
    digits[1]()
    page.wait_for_selector("#announcements p:has-text('any 1s is firing')")
    item = page.locator("#alarm-list li.firing", has_text="any 1s").first
    assert "source = north" in item.inner_text()
    assert "ones > 0" in item.locator("dd").first.inner_text()
    assert "when it went off" in item.inner_text()
    assert page.locator("#alarm-list li").count() >= min(known, 1)
    assert page.locator("#announcements").get_attribute("aria-live") == "assertive"


def chosen(page):
    """What the complaint form says is complained about."""
    return page.locator(".complaint:visible > p").first.inner_text()


def brush(page, start, end):
    """Drag over a share of the first chart."""
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


def test_a_brush_is_a_complaint_and_ends_in_a_patch(server, opened, tmp_path):
    page = opened(server, accept_downloads=True)
    brush(page, 0.2, 0.8)
    assert "numbers of source" in chosen(page)
    assert page.locator(".complaint input:checked").count() == 0
    page.get_by_role("button", name="Find the training rows").click()
    assert page.get_by_role("alert").inner_text().startswith("Say first what is wrong")
    page.get_by_role("radio", name="too low").check()
    page.get_by_role("button", name="Find the training rows").click()
    page.wait_for_selector("table.training tbody tr")
    assert page.locator("table.training tbody tr").count() == 30
    assert page.locator("table.training canvas").count() == 30
    drawn = page.locator("table.training canvas").first.evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        ".filter((v, at) => at % 4 === 0)"
    )
    data = planted()
    row = int(page.locator("table.training tbody tr").first.inner_text().split(",")[0])
    assert drawn == [round(float(value) * 255) for value in data.inputs[row]]
    page.wait_for_selector("text=the index captures")
    page.get_by_label("What is in the patch").select_option("all")
    page.get_by_label("Rows in the patch").fill("12")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the patch").click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    patch = rainpp.read_patch(path)
    assert len(patch) == 12
    assert patch.frame.id[0] == row
    wrong = data.planted[patch.frame.id.to_numpy(int)]
    assert wrong.mean() > 0.7


def saved(page, path):
    """The patch that the page offers."""
    with page.expect_download() as started:
        page.get_by_role("link", name="Download the patch").click()
    started.value.save_as(path)
    return rainpp.read_patch(path)


@pytest.mark.slow
def test_a_suggestion_is_downloaded_as_it_was_made(server, opened, tmp_path):
    page = opened(server, accept_downloads=True)
    brush(page, 0.5, 0.6)
    page.get_by_label("What it should be").fill("30")
    page.get_by_role("button", name="Find the training rows").click()
    page.wait_for_selector("table.training tbody tr")
    choice = page.get_by_label("What is in the patch")
    offered = choice.locator("option").all_inner_texts()
    facts = page.locator(".facts").first.inner_text()
    assert offered[-1] == "the best of all changes, mixed"
    assert {line.split()[2] for line in offered[:-1]} == {"delete", "relabel"}
    for at, line in enumerate(offered[:-1]):
        _, _, kind, rows, _ = line.split()
        choice.select_option(index=at)
        assert page.get_by_label("Rows in the patch").is_hidden()
        patch = saved(page, tmp_path / f"{kind}.parquet")
        assert set(patch.frame.intervention) == {kind}
        assert len(patch) == int(rows)
        assert f"{kind} {rows} rows ({patch.frame.id[0]}" in facts
    page.get_by_role("button", name="How many rows are enough?").click()
    page.wait_for_selector("text=rows together (")
    words = page.locator(".complaint-tools p").inner_text()
    assert choice.input_value() == "fix"
    patch = saved(page, tmp_path / "fix.parquet")
    kinds = patch.frame.intervention.value_counts()
    assert words.startswith(f"{len(patch)} rows together (")
    assert all(f"{count} to {kind}" in words for kind, count in kinds.items())


@pytest.mark.slow
def test_another_group_changes_nothing_else_that_was_said(server, opened):
    page = opened(server)
    brush(page, 0.3, 0.7)
    group = page.get_by_label("Group", exact=True)
    others = [o for o in ("north", "south") if o != group.locator("option:checked").inner_text()]
    page.get_by_role("radio", name="too high").check()
    group.select_option(label=others[0])
    assert page.get_by_role("radio", name="too high").is_checked()
    assert f"source = {others[0]}" in chosen(page)
    page.get_by_label("What it should be").fill("31")
    group.select_option(label="every group shown")
    assert page.get_by_label("What it should be").input_value() == "31"
    assert page.get_by_role("radio", name="each should be").is_checked()
    assert "2 groups" in chosen(page)


@pytest.mark.slow
def test_what_an_alarm_says_is_chosen_and_said(digits, server, opened):
    page = opened(server)
    alarms = [item for item in digits[0][0].changes() if isinstance(item, rainpp.Alarm)]
    raised = next(item for item in alarms if item.name == "too few 1s")
    page.locator(".plot").first.focus()
    page.keyboard.press("End")
    for _ in range(30):
        for _ in range(2):
            said = page.locator(".readout").first.inner_text()
            if f"= {raised.group['source']}" in said and f"{raised.since:%H:%M} UTC" in said:
                break
            page.keyboard.press("ArrowDown")
        else:
            page.keyboard.press("ArrowLeft")
            continue
        break
    page.keyboard.press("Enter")
    note = page.locator(".complaint form .note")
    assert note.inner_text() == '"too low" is what the alarm too few 1s says.'
    assert page.evaluate("document.activeElement.value") == "higher"
    page.keyboard.press("ArrowDown")
    assert note.inner_text() == ""


@pytest.mark.slow
def test_escape_lets_go_of_the_answer(server, opened):
    page = opened(server)
    brush(page, 0.3, 0.7)
    page.get_by_role("radio", name="too low").check()
    page.keyboard.press("Enter")
    page.wait_for_selector("table.training")
    page.keyboard.press("Escape")
    assert page.locator(".complaint:visible").count() == 0
    assert page.evaluate("document.activeElement.className").startswith("plot")
    assert page.locator(".brush").count() == 0


@pytest.mark.slow
def test_without_training_rows_no_fix_is_offered(opened, tmp_path):
    problem = world.trained().problem
    save(world.trained().index, tmp_path / "small.rain")
    index = rainpp.load(tmp_path / "small.rain")
    with rainpp.monitor("people", SQL, model=problem.model, index=index, time="t", id="id") as one:
        send(one)
        with serving([one]) as server:
            page = opened(server)
            page.locator(".u-over").first.click(position={"x": 100, "y": 100})
            page.get_by_label("What it should be").fill("1")
            page.keyboard.press("Enter")
            page.wait_for_selector("table.training")
            assert page.get_by_role("button", name="What do they share?").count() == 1
            assert page.get_by_role("button", name="How many rows are enough?").count() == 0
            note = page.locator(".answer > .note").inner_text()
            assert "data=(inputs, labels)" in note
            assert "[training] in watch.toml" in note


@pytest.mark.slow
def test_a_point_can_be_said_to_be_another_number(server, opened):
    page = opened(server)
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    over.click(position={"x": 100, "y": 100})
    assert "expected" in chosen(page)
    page.get_by_role("radio", name="too low").check()
    page.get_by_role("button", name="Find the training rows").press("Enter")
    page.wait_for_selector("table.training")
    page.get_by_role("radio", name="should be").check()
    page.get_by_role("button", name="Find the training rows").click()
    assert page.get_by_role("alert").inner_text() == "Say what it should be."
    page.get_by_label("What it should be").fill("35")
    page.get_by_role("button", name="Find the training rows").click()
    page.wait_for_selector("text=should equal 35")


def test_everything_can_be_done_with_the_keyboard(server, opened):
    page = opened(server)
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('plot')"):
            break
    assert page.evaluate("document.activeElement.getAttribute('role')") == "application"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowLeft")
    first = page.locator(".readout").first.inner_text()
    page.keyboard.press("ArrowLeft")
    second = page.locator(".readout").first.inner_text()
    assert first != second
    page.keyboard.press("ArrowDown")
    assert page.locator(".readout").first.inner_text() not in (first, second)
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    assert chosen(page).startswith("2 numbers of source")
    assert page.evaluate("document.activeElement.value") == "higher"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.value") == "lower"
    assert page.evaluate("document.activeElement.checked")
    page.keyboard.press("Enter")
    page.wait_for_selector("table.training")
    assert page.evaluate("document.activeElement.textContent") == "Training rows behind it"


@pytest.mark.slow
def test_an_alarm_leads_to_its_training_rows(server, opened):
    page = opened(server)
    page.locator("#alarm-list li.firing button").first.click()
    page.wait_for_selector("table.training")
    assert page.locator("text=Behind the alarm").count() == 1


@pytest.mark.slow
def test_the_same_numbers_stand_in_a_table(digits, server, opened):
    page = opened(server)
    page.locator("summary", has_text="The numbers as a table").first.click()
    rows = page.locator("article.card").first.locator("details table tbody tr")
    shown = {tuple(row.locator("td").all_inner_texts()[:4]) for row in rows.all()[:6]}
    frame = digits[0][0].read()
    known = {
        (f"{line.window_start:%Y-%m-%d %H:%M}", line.source, "ones", f"{line.ones:.0f}")
        for line in frame.itertuples()
    }
    assert shown <= known
    assert len(shown) == 6


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(server, opened, scheme):
    page = opened(server, color_scheme=scheme)
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 20
    worst = min(contrasts, key=lambda item: item[0])
    assert worst[0] >= 4.5, worst
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 22, 27)") == (scheme == "dark")


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((node) => node.offsetParent && [...node.childNodes].some(
      (child) => child.nodeType === 3 && child.textContent.trim()))
    .filter((node) => !node.closest("noscript, .unseen"))
    .map((node) => {
      const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.slice(0, 40)];
    });
}"""


@pytest.mark.slow
@pytest.mark.parametrize("touch", [False, True])
def test_it_fits_a_phone(server, opened, touch):
    size = {"width": 360, "height": 740}
    page = opened(server, viewport=size, has_touch=touch, is_mobile=touch)
    over = page.locator(".u-over").first
    over.scroll_into_view_if_needed()
    if touch:
        over.tap(position={"x": 120, "y": 80})
    else:
        over.click(position={"x": 120, "y": 80})
    page.get_by_role("radio", name="too high").check()
    page.get_by_role("button", name="Find the training rows").click()
    page.wait_for_selector("table.training")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, a.button')].filter(b => b.offsetParent)"
        ".map(b => [b.offsetHeight, b.textContent]).filter(([h]) => h < 24)"
    )
    assert small == []


@pytest.mark.slow
def test_nothing_moves_where_motion_is_not_wanted(server, opened):
    page = opened(server, reduced_motion="reduce")
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(node => {"
        " const { animationName, transitionDuration } = getComputedStyle(node);"
        " return animationName !== 'none' || parseFloat(transitionDuration) > 0; }).length"
    )
    assert moving == 0


@pytest.mark.slow
def test_markup_in_the_data_is_shown_and_never_run(opened):
    nasty = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    with watched() as monitor:
        monitor.alert("many", "n > 0")
        send(monitor, region=nasty)
        with serving([monitor]) as server:
            page = opened(server)
            page.locator("summary", has_text="The numbers as a table").click()
            page.wait_for_selector("details table")
            over = page.locator(".u-over").first
            over.click(position={"x": 100, "y": 100})
            page.get_by_role("radio", name="too high").check()
            page.get_by_role("button", name="Find the training rows").click()
            page.wait_for_selector("table.training")
            assert page.locator("img").count() == 0
            assert page.locator("script").count() == 1
            assert page.title() == "rainpp"
            assert nasty in page.locator("#alarm-list").inner_text()
            assert nasty in page.locator("details table").inner_text()


@pytest.mark.slow
def test_a_quiet_stream_is_called_stale_and_a_swapped_model_named(opened, monkeypatch):
    monkeypatch.setattr("rainpp.dashboard.feed._PULSE", 0.1)
    with watched() as monitor:
        send(monitor)
        with serving([monitor], stale_after=1.0) as server:
            page = opened(server)
            page.wait_for_selector(".badge:has-text('no batch since this server began')")
            send(monitor, seed=1, first=100)
            page.wait_for_selector(".badge:has-text('live')")
            page.wait_for_selector(".badge:has-text('stale: no batch for')")
            other = world.trained(seed=1)
            monitor.swap(other.model, other.index)
            page.wait_for_selector(".badge:has-text('model was swapped, and no batch has come')")
            send(monitor, seed=2, first=200)
            page.wait_for_selector(".badge:has-text('older windows are of the one before')")


@pytest.mark.slow
def test_a_page_finds_its_way_back_when_the_server_does(browser, tmp_path):
    with watched(store=tmp_path / "state.duckdb") as monitor:
        send(monitor)
        with serving([monitor]) as first:
            port = first.bound.getsockname()[1]
            context = browser.new_context()
            page = context.new_page()
            page.goto(first.url)
            page.wait_for_selector("#connection:has-text('connected')")
        page.wait_for_selector("#connection:has-text('connection lost')")
        taken = send(monitor, seed=1, first=100)
        server = make_server(create_app([monitor]), port=port)
        thread = threading.Thread(target=server.run_until_stopped)
        thread.start()
        page.wait_for_selector("#connection:has-text('connected')", timeout=LONG * 1000)
        page.locator("summary", has_text="The numbers as a table").click()
        revisions = sum(delta.revision > 0 for delta in taken.deltas)
        assert revisions > 0
        page.wait_for_selector("td:has-text('revision 1')")
        context.close()
        server.stop()
        thread.join(LONG)
        server.bound.close()


@pytest.mark.slow
def test_a_browser_signs_in(opened):
    with watched() as monitor:
        send(monitor)
        with serving([monitor], token=TOKEN) as server:
            page = opened(server, ready="input[name=token]")
            page.get_by_label("Token of this dashboard").fill(TOKEN)
            page.keyboard.press("Enter")
            page.wait_for_selector(".plot canvas")
            assert page.evaluate("document.cookie") == ""
            assert page.url == server.url


@pytest.mark.slow
def test_the_demo_is_alive():
    monitors = demo_monitors()
    feeder = Feeder(monitors, every=0.01)
    feeder.start()
    with serving(monitors) as server, listening(server) as stream:
        _, data = next_of(stream, "changes")
        assert data["changes"]
    feeder.stop()
    assert not feeder.is_alive()
    for monitor in monitors:
        assert monitor.overview.batches > 0
        monitor.close()
