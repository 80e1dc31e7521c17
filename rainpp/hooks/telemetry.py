"""Monitors as OpenTelemetry metrics: the same numbers that the Prometheus page shows."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rainpp.errors import RainError
from rainpp.hooks.prometheus import COUNTERS, METRICS, MOST_GROUPS, Sample, samples

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

    from rainpp.monitoring.monitor import Monitor

# Instruments are asked one by one for one report: the monitors are asked once for all of them.
_SAME_REPORT = 0.5


class Telemetry:
    """Observable gauges and counters of monitors, read whenever the provider's reader asks.

    Names are those of `rainpp.hooks.exposition` with dots, as in `rainpp.value`. The monitors are
    not kept alive.

    Parameters
    ----------
    meter_provider : by default the one that was set for the process.
    most_groups : of a monitor; how many more there are is a number of its own.

    Raises
    ------
    RainError : opentelemetry-sdk is not installed.
    """

    def __init__(
        self,
        monitors: Iterable[Monitor],
        meter_provider: MeterProvider | None = None,
        *,
        most_groups: int = MOST_GROUPS,
    ) -> None:
        try:
            from opentelemetry import metrics
        except ImportError:
            raise RainError("opentelemetry is not installed; pip install 'rainpp[otel]'.") from None
        self._monitors = [weakref.ref(monitor) for monitor in monitors]
        self._most, self._read, self._samples = most_groups, 0.0, list[Sample]()
        provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
        meter = provider.get_meter("rainpp")
        for name, (words, _) in METRICS.items():
            meter.create_observable_gauge(_dotted(name), [self._asked(name)], description=words)
        for name, (words, _) in COUNTERS.items():
            meter.create_observable_counter(_dotted(name), [self._asked(name)], description=words)

    def _asked(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(sample.value, dict(sample.labels))
                for sample in self._now(name)
                if sample.name == name
            ]

        return observe

    def _now(self, name: str) -> Sequence[Sample]:
        first = name == next(iter(METRICS))
        if first or time.monotonic() - self._read > _SAME_REPORT:
            held = [monitor for found in self._monitors if (monitor := found()) is not None]
            self._samples = list(samples(held, self._most))
            self._read = time.monotonic()
        return self._samples


def _dotted(name: str) -> str:
    return name.replace("_", ".", 1)
