"""From a commit to a changed pixel: the dashboard in headless Chromium beside many other pages.

A monitor of digits takes a batch of 80 scans every tenth of a second. A page in Chromium looks at
the pixels of its chart at the start of every frame and notes when they have changed, and for which
change; 49 more pages, sockets of another process, read the same stream. What is counted is the time
from the end of the commit, when handlers are called, to the frame after the one that was drawn; and
from before the batch, model and transaction included.

    python -m experiments.dashboard [--seconds 60] [--pages 50]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import shutil
import subprocess
import sys
import threading
import time
from importlib.resources import files
from typing import Any

import numpy as np

from experiments import results
from rainpp.dashboard import create_app, make_server
from rainpp.dashboard.demo import demo_monitors, scans
from rainpp.dashboard.pages import FILES
from rainpp.demo.digits import load_images, plant_errors

RATE = 10  # batches a second
WARM = 5.0  # seconds before anything is counted

# Notes for every change the first frame at whose start the pixels of the chart are others.
PROBE = """() => {
  window.seen = {};
  let before = null;
  const card = document.querySelector("article.card");
  const look = () => {
    const canvas = card.querySelector(".plot canvas");
    const seq = card.dataset.drawn;
    if (seq !== undefined && !(seq in window.seen)) {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const words = new Uint32Array(data.buffer);
      let hash = 0;
      for (let at = 0; at < words.length; at += 1) hash = (Math.imul(hash, 31) + words[at]) | 0;
      if (hash !== before) window.seen[seq] = performance.timeOrigin + performance.now();
      before = hash;
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--listen", nargs=3, metavar=("HOST", "PORT", "COUNT"))
    options = parser.parse_args()
    if options.listen:
        host, port, count = options.listen
        asyncio.run(listen(host, int(port), int(count)))
        return
    runs: list[dict[str, Any]] = [weight()]
    for pages in dict.fromkeys((1, options.pages)):
        runs.append(measure(pages, options.seconds))
        print(runs[-1], flush=True)
    settings = {"rate": RATE, "seconds": options.seconds, "chromium": browser_version()}
    command = f"python -m experiments.dashboard --seconds {options.seconds:g}"
    print(results.save("dashboard", command=command, settings=settings, runs=runs))


def weight() -> dict[str, Any]:
    """Bytes of everything the page is made of."""
    folder = files("rainpp.dashboard").joinpath("static")
    bodies = [folder.joinpath(*name.split("/")).read_bytes() for name in FILES]
    return {
        "part": "weight",
        "files": len(FILES),
        "bytes": sum(map(len, bodies)),
        "bytes_gzipped": sum(len(gzip.compress(body)) for body in bodies),
    }


def browser_version() -> str:
    """What Chromium says it is."""
    done = subprocess.run([chromium(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("chromium is not installed")
    return found


def measure(pages: int, seconds: float) -> dict[str, Any]:
    """Times from commit to pixel with so many pages open."""
    (watched, other), committed, sent = demo_monitors(), {}, {}
    other.close()
    watched.on("change", lambda delta, _: committed.setdefault(delta.seq, time.time()))
    server = make_server(create_app([watched]), port=0)
    thread = threading.Thread(target=server.run_until_stopped)
    thread.start()
    over = threading.Event()
    feeder = threading.Thread(target=feed, args=(watched, sent, over))
    crowd = start_crowd(server, pages - 1)
    try:
        feeder.start()
        seen = look(server.url, seconds)
    finally:
        over.set()
        feeder.join()
        heard = stop_crowd(crowd)
        server.stop()
        thread.join()
        server.bound.close()
        watched.close()
    return {"part": "pixel", "pages": pages, **summary(seen, committed, sent), **heard}


def feed(watched: Any, sent: dict[int, float], over: threading.Event) -> None:
    """A batch every tenth of a second."""
    data, number, due = plant_errors(*load_images(), seed=0), 0, time.monotonic()
    while not over.is_set():
        rows = scans(data, number)
        began = time.time()
        with watched.batch(source="scanners", upto=number) as batch:
            batch.predictions(rows)
        for delta in batch.taken.deltas:
            sent[delta.seq] = began
        number, due = number + 1, due + 1 / RATE
        over.wait(max(0.0, due - time.monotonic()))


def look(url: str, seconds: float) -> dict[int, float]:
    """When each change was seen, by sequence number, as the page noted it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as starter:
        browser = starter.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.wait_for_selector(".plot canvas")
        page.evaluate(PROBE)
        page.wait_for_timeout(WARM * 1000)
        page.evaluate("window.seen = {}")
        page.wait_for_timeout(seconds * 1000)
        found = page.evaluate("window.seen")
        browser.close()
    return {int(seq): at / 1000 for seq, at in found.items()}


def summary(
    seen: dict[int, float], committed: dict[int, float], sent: dict[int, float]
) -> dict[str, Any]:
    """Quantiles. A change that was drawn together with a later one is seen when that is."""
    drawn = sorted(seen)
    times: dict[str, list[float]] = {"commit": [], "batch": []}
    for seq in committed:
        later = [other for other in drawn if other >= seq]
        if not later or seq <= drawn[0]:
            continue
        times["commit"].append(seen[later[0]] - committed[seq])
        times["batch"].append(seen[later[0]] - sent[seq])
    found: dict[str, Any] = {"changes": len(times["commit"]), "frames": len(drawn)}
    for name, values in times.items():
        for share in (50, 95, 99, 100):
            value = float(np.quantile(values, share / 100)) * 1e3
            found[f"{name}_p{share}_ms"] = round(value, 1)
    return found


def start_crowd(server: Any, count: int) -> subprocess.Popen[str] | None:
    """More pages, in a process of their own."""
    if not count:
        return None
    host, port = server.bound.getsockname()[:2]
    command = [sys.executable, "-m", "experiments.dashboard", "--listen"]
    found = subprocess.Popen(
        [*command, host, str(port), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert found.stdout is not None
    found.stdout.readline()
    return found


def stop_crowd(crowd: subprocess.Popen[str] | None) -> dict[str, Any]:
    """How many events the others got: the fewest and the most."""
    if crowd is None:
        return {}
    said = crowd.communicate("over\n")[0].split()
    return {"others_fewest_events": int(said[0]), "others_most_events": int(said[1])}


async def listen(host: str, port: int, count: int) -> None:
    """Read so many streams until standard input ends; print the fewest and the most events."""
    heard = [0] * count

    async def page(number: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        while part := await reader.read(1 << 16):
            heard[number] += part.count(b"event: changes")

    tasks = [asyncio.create_task(page(number)) for number in range(count)]
    print("listening", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(min(heard), max(heard), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    main()
