"""Monitors as a page that Prometheus reads: few series, none per training row."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rainpp.errors import RainError
from rainpp.monitoring.figures import Figure, Figures

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from rainpp.monitoring.monitor import Monitor

MOST_GROUPS = 100
_LONGEST = 200


@dataclass(frozen=True)
class Sample:
    """One number with what it is of."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


# Name, what it is, and which labels it has beside the monitor. Prometheus and OpenTelemetry show
# the same.
METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rainpp_value": (
        "Answer of the standing query in its latest final window.",
        ("column", "group"),
    ),
    "rainpp_value_low": ("Lower end of its 95 % interval.", ("column", "group")),
    "rainpp_value_high": ("Upper end of its 95 % interval.", ("column", "group")),
    "rainpp_rows": ("Rows that could count.", ("column", "group")),
    "rainpp_groups_left_out": ("Groups beyond those that are shown.", ()),
    "rainpp_watermark_age_seconds": ("Clock minus watermark.", ()),
    "rainpp_alarms_firing": ("Groups in which the alarm has gone off.", ("alarm",)),
    "rainpp_batches": ("Batches taken in.", ()),
    "rainpp_outbox_seq": ("Last line of the outbox.", ()),
    "rainpp_deliveries_waiting": ("Events that wait to be delivered.", ("hook",)),
    "rainpp_deliveries_behind": ("Lines of the outbox not looked at.", ("hook",)),
    "rainpp_hook_disabled": ("Whether the receiver wants no more.", ("hook",)),
    "rainpp_dead_letters": ("Events that were given up.", ("hook",)),
}
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rainpp_deliveries_delivered": ("Events delivered.", ("hook",)),
    "rainpp_deliveries_failed": ("Attempts that failed.", ("hook",)),
}


def exposition(
    monitors: Iterable[Monitor] | Mapping[str, Monitor],
    *,
    openmetrics: bool = False,
    most_groups: int = MOST_GROUPS,
) -> bytes:
    """The page, in Prometheus' text format or as OpenMetrics.

    A monitor that is closed meanwhile is left out. Content types are `CONTENT_TYPE_LATEST` of
    `prometheus_client.exposition` and of `prometheus_client.openmetrics.exposition`.

    Parameters
    ----------
    most_groups : of a monitor; how many more there are is a number of its own.

    Raises
    ------
    RainError : prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client import exposition as text
        from prometheus_client.openmetrics import exposition as openly
        from prometheus_client.registry import Collector
    except ImportError:
        raise RainError(
            "prometheus-client is not installed; pip install 'rainpp[prometheus]'."
        ) from None

    held = list(monitors.values() if isinstance(monitors, Mapping) else monitors)

    class Monitors(Collector):
        def collect(self) -> Iterable[Metric]:
            return _families(held, most_groups)

    # A registry of our own: another library's metrics are its own business.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Monitors())
    return (openly if openmetrics else text).generate_latest(registry)


def samples(monitors: Sequence[Monitor], most_groups: int = MOST_GROUPS) -> Iterator[Sample]:
    """Every number of every monitor, as of now."""
    for monitor in monitors:
        try:
            figures = monitor.figures(most_groups)
            hooks = list(monitor.deliveries().to_dict("records"))
        except RainError:  # closed while the page is made
            continue
        yield from _of_figures(figures)
        yield from _of_hooks(figures.monitor, hooks)


def group_text(figure: Figure) -> str:
    """A group in one label, whatever its columns are called."""
    text = ",".join(f"{name}={_value(value)}" for name, value in figure.group.items())
    return text[:_LONGEST]


def _value(value: Any) -> str:
    return "NULL" if value is None else str(value)


def _of_figures(figures: Figures) -> Iterator[Sample]:
    of = ("monitor", figures.monitor)
    for figure in figures.numbers:
        labels = (of, ("column", figure.column), ("group", group_text(figure)))
        yield Sample("rainpp_value", labels, figure.value)
        yield Sample("rainpp_value_low", labels, figure.low)
        yield Sample("rainpp_value_high", labels, figure.high)
        yield Sample("rainpp_rows", labels, figure.rows)
    yield Sample("rainpp_groups_left_out", (of,), figures.left_out)
    if figures.watermark is not None:
        yield Sample("rainpp_watermark_age_seconds", (of,), _age(figures.watermark))
    for name, groups in figures.firing.items():
        yield Sample("rainpp_alarms_firing", (of, ("alarm", name)), groups)
    yield Sample("rainpp_batches", (of,), figures.batches)
    yield Sample("rainpp_outbox_seq", (of,), figures.seq)


def _of_hooks(monitor: str, hooks: Sequence[dict[Any, Any]]) -> Iterator[Sample]:
    for line in hooks:
        labels = (("monitor", monitor), ("hook", str(line["hook"])))
        yield Sample("rainpp_deliveries_waiting", labels, line["waiting"])
        yield Sample("rainpp_deliveries_behind", labels, line["behind"])
        yield Sample("rainpp_hook_disabled", labels, float(bool(line["disabled"])))
        yield Sample("rainpp_dead_letters", labels, line["dead"])
        yield Sample("rainpp_deliveries_delivered", labels, line["delivered"])
        yield Sample("rainpp_deliveries_failed", labels, line["failed"])


def _age(watermark: datetime) -> float:
    return time.time() - watermark.replace(tzinfo=UTC).timestamp()


def _families(monitors: Sequence[Monitor], most_groups: int) -> list[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Metric] = {}
    for made, known in ((GaugeMetricFamily, METRICS), (CounterMetricFamily, COUNTERS)):
        for name, (words, labels) in known.items():
            families[name] = made(name, words, labels=("monitor", *labels))
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for sample in samples(monitors, most_groups):
        # Two groups may be called alike once they are cut short; a series twice is refused.
        if (sample.name, sample.labels) not in seen:
            seen.add((sample.name, sample.labels))
            values = [value for _, value in sample.labels]
            families[sample.name].add_metric(values, sample.value)  # pyright: ignore[reportAttributeAccessIssue]
    return list(families.values())
