"""The demo as a stream: a training error found from an alarm, a shift seen when it begins.

Scans of digits come from two sources, a minute of event time in each batch. Half of the training 1s
were labelled 7 before the stream began. Halfway the scanner of one source slips by a pixel. Labels
come two minutes late, and from that source only. A standing query counts the 1s of each minute and
source; nobody looks at the planted errors but to judge what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rainpp.buckets import Buckets
from rainpp.demo.digits import Digits, load_images, plant_errors
from rainpp.demo.training import L2, apply, make_fit
from rainpp.errors import DataError
from rainpp.index.artifact import Index
from rainpp.index.build import precompute
from rainpp.intervention import Delete, Relabel
from rainpp.metrics import auc_r
from rainpp.model import Model
from rainpp.monitoring.alarm import Alarm
from rainpp.monitoring.monitor import Monitor
from rainpp.monitoring.opening import monitor
from rainpp.types import Progress, silent
from rainpp.windows import Tumbling

QUERY = """SELECT source, count(*) AS n
FROM scans
WHERE predict(image) = 1
GROUP BY source"""
MINUTES, SCANS = 16, 200  # scans of each source in a minute
SLIPPED, SHIFT_AT = "south", MINUTES // 2
LABELLED, DELAY = "south", 2
_START = datetime(2026, 1, 1)
# One scan in ten shows a 1: of 200 scans 20 do, give or take 4.
_FEWEST = 15
_LEAST_ACCURACY = 0.8


@dataclass(frozen=True)
class Event:
    """An alarm, when it went off in event time, and what stands behind it."""

    minute: int
    alarm: str
    because: str
    value: float
    found: tuple[str, ...] = ()


@dataclass(frozen=True)
class StreamSummary:
    """What was said while the stream went by; every number was measured in this run."""

    scans: int
    sources: int
    minutes: int
    num_train: int
    planted: int
    shift_at: int
    events: tuple[Event, ...]
    auc_r: float
    precision: float
    looked_at: int
    accuracy: tuple[str, ...]
    state: Path

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "state": str(self.state)}

    def lines(self) -> list[str]:
        """For a terminal."""
        out = [
            f"{self.scans:,} scans of {self.sources} sources in {self.minutes} minutes; "
            f"{self.planted} of {self.num_train:,} training labels are wrong: 1s labelled 7",
            "(minutes are those of the window; alarms stand in the order in which they came)",
            "",
        ]
        for event in self.events:
            out.append(f"minute {event.minute:>2}  {event.alarm}: {event.because}")
            out += [f"           {line}" for line in event.found]
        out += [
            "",
            f"of the {self.looked_at} training rows behind the first alarm "
            f"{self.precision:.0%} were planted (AUC_R {self.auc_r:.2f})",
            f"the scanner of {SLIPPED} is off by a pixel from minute {self.shift_at} on; only its "
            f"scans are labelled, {DELAY} minutes late",
            *self.accuracy,
            f"state: {self.state}",
        ]
        return out


def run_stream_demo(
    output_dir: str | Path = ".", *, seed: int = 0, progress: Progress = silent
) -> StreamSummary:
    """Replay the stream; writes stream.duckdb into `output_dir`.

    Raises
    ------
    RainError : scikit-learn is not installed.
    DataError : `output_dir` cannot be written to.
    """
    folder = Path(output_dir)
    data = plant_errors(*load_images(), seed=seed)
    fit = make_fit()
    model = Model(apply, fit(data.inputs, data.labels), loss="cross_entropy", l2=L2)
    index = precompute(
        model, data.inputs, data.labels, interventions=[Delete(), Relabel()], seed=seed
    )
    state = _fresh(folder / "stream.duckdb")
    with _monitor(model, index, data, state, seed) as watched:
        events: list[Event] = []
        ranked: list[np.ndarray] = []
        truth: list[float] = []
        watched.on("*", lambda alarm, ctx: events.append(_event(alarm, ctx, ranked)))
        for minute, (scans, labels, digits) in enumerate(_stream(data, seed)):
            progress("stream", minute, MINUTES)
            pixels = np.stack(scans.column("image").to_numpy())
            truth.append(float((model.probabilities(pixels).argmax(axis=1) == digits).mean()))
            with watched.batch(source="scanners", upto=minute) as batch:
                batch.predictions(scans)
                if labels is not None:
                    batch.feedback(labels)
        progress("stream", MINUTES, MINUTES)
        accuracy = _accuracy(watched, truth)
    planted = data.planted
    looked_at = int(planted.sum())
    scores = ranked[0] if ranked else np.zeros(len(planted))
    best = np.argsort(-scores, kind="stable")[:looked_at]
    return StreamSummary(
        scans=2 * SCANS * MINUTES,
        sources=2,
        minutes=MINUTES,
        num_train=len(planted),
        planted=looked_at,
        shift_at=SHIFT_AT,
        events=tuple(events),
        auc_r=float(auc_r(scores, planted)),
        precision=float(planted[best].mean()),
        looked_at=looked_at,
        accuracy=tuple(accuracy),
        state=state,
    )


def _monitor(model: Model, index: Index, data: Digits, state: Path, seed: int) -> Monitor:
    """The standing query, its alarms, and what is known of the training rows."""
    # Rows the model was not trained on: what accuracy was like before the stream began.
    half, rng = len(data.table_truth) // 2, np.random.default_rng(seed + 1)
    right = model.probabilities(data.table_inputs[:half]).argmax(1) == data.table_truth[:half]
    before = Buckets.by({"source": ["north", "south"] * half}, "source", np.repeat(right, 2))
    found = monitor(
        "scans",
        QUERY,
        model=model,
        index=index,
        time="at",
        id="id",
        label="digit",
        window=Tumbling("1m"),
        lateness="0s",
        buckets=before,
        # Of the day before. The stream draws its scans again and again from the same few.
        reference={"image": data.table_inputs[half + rng.integers(0, half, 4000)]},
        keep="inputs",
        store=state,
    )
    found.alert("too few 1s", f"n < {_FEWEST}", hold=2, target=20)
    found.alert("accuracy", f"accuracy < {_LEAST_ACCURACY}")
    return found


def _stream(
    data: Digits, seed: int
) -> Iterator[tuple[pa.Table, dict[str, Any] | None, np.ndarray]]:
    """Scans of each minute, the labels that come with them, and the digits they show."""
    rng = np.random.default_rng(seed)
    half = len(data.table_truth) // 2
    waiting: list[dict[str, Any]] = []
    for minute in range(MINUTES):
        chosen = half + rng.integers(0, half, 2 * SCANS)
        sources = np.repeat(["north", "south"], SCANS)
        images = data.table_inputs[chosen].copy()
        if minute >= SHIFT_AT:
            slipped = images[sources == SLIPPED].reshape(-1, 8, 8)
            images[sources == SLIPPED] = np.roll(slipped, 1, axis=2).reshape(-1, 64)
        ids = np.arange(2 * SCANS) + 2 * SCANS * minute
        seconds = rng.uniform(0, 60, 2 * SCANS)
        times = [_START + timedelta(minutes=minute, seconds=float(s)) for s in seconds]
        kept = sources == LABELLED
        waiting.append({"id": ids[kept], "digit": data.table_truth[chosen][kept].astype(np.int64)})
        rows = {
            "id": pa.array(ids),
            "at": pa.array(times, pa.timestamp("us")),
            "source": pa.array(sources),
            "image": pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), 64),
        }
        labels = waiting[minute - DELAY] if minute >= DELAY else None
        yield pa.table(rows), labels, data.table_truth[chosen]


def _event(alarm: Alarm, ctx: Any, ranked: list[np.ndarray]) -> Event:
    """An alarm with the training rows behind it, where there are any."""
    minute = MINUTES if alarm.window[0] is None else _minute(alarm.window[0])
    found: list[str] = []
    if alarm.name == "drift":
        minute = int(alarm.rows) // (2 * SCANS)
    elif alarm.status == "firing":
        ranking = ctx.explain()
        if alarm.name == "too few 1s":
            ranked.append(ranking.row_scores())
        top = ranking.top(3)
        rows = ", ".join(
            f"{row.train_id} ({row.intervention}{_to(row.detail)})" for row in top.itertuples()
        )
        found.append(f"training rows behind it: {rows}, ...")
        found += [str(reaction) for reaction in ctx.suggest()[:1]]
    where = f" in {alarm.group['source']}" if "source" in alarm.group else ""
    return Event(
        minute, f"{alarm.name}{where} {alarm.status}", _because(alarm), alarm.value, tuple(found)
    )


def _because(alarm: Alarm) -> str:
    if alarm.name == "drift":
        return alarm.because
    return f"{alarm.column} is {alarm.value:.3g}; {alarm.because}"


def _to(detail: Any) -> str:
    return "" if detail is None else f" to {detail}"


def _minute(at: datetime) -> int:
    return int((at - _START).total_seconds() // 60)


def _accuracy(watched: Monitor, truth: Sequence[float]) -> Sequence[str]:
    """A window before the shift, one after it, one without labels: what their accuracy rests on."""
    frame = watched.accuracy()
    return [
        f"accuracy in minute {_minute(line.window_start)}: {line.accuracy:.3f} ({line.low:.3f} to "
        f"{line.high:.3f}), basis {line.basis}, {line.coverage:.0%} labelled"
        f"{', reference in doubt' if line.drifted else ''}; in truth "
        f"{truth[_minute(line.window_start)]:.3f}"
        for line in frame.iloc[[SHIFT_AT - 2, SHIFT_AT + 2, MINUTES - 1]].itertuples()
    ]


def _fresh(path: Path) -> Path:
    """The path of a state file, an earlier one removed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in (path, path.with_name(path.name + ".wal")):
            old.unlink(missing_ok=True)
    except OSError as problem:
        raise DataError(
            f"cannot write to `{path.parent}`: {problem.strerror or problem}."
        ) from problem
    return path
