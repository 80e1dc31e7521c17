"""Metrics, read back by the libraries whose formats they are."""

from __future__ import annotations

import time

import pytest

from rainpp.errors import SettingsError
from rainpp.hooks import Callback, Drop, Retry, Schedule, Telemetry, exposition
from rainpp.hooks.prometheus import COUNTERS, METRICS
from rainpp.windows import Everything, Session
from tests.hooks.world import SQL, opened, send
from tests.monitoring.world import START, arrow, make_rows, watch

parser = pytest.importorskip("prometheus_client.parser")


def read(text):
    """{(name, labels): value}, of the text format."""
    found = {}
    for family in parser.text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def key(name, **labels):
    return name, tuple(sorted({"monitor": "people", **labels}.items()))


def test_what_prometheus_reads():
    with opened() as monitor:
        monitor.on("many", Callback(lambda *_: None, name='a "b"\n\\'), schedule=Schedule())
        monitor.on("many", Callback(lambda *_: Drop("odd"), name="drops"))
        monitor.on("many", Callback(lambda *_: Retry(3600), name="waits"))
        send(monitor, 0, {"EU": 5, 'x"y\\z\n': 2})
        send(monitor, 1, {"EU": 1})
        time.sleep(0.3)
        monitor.drain(0)
        found = read(exposition([monitor]))
        # The first minute is over: the second is not what is shown.
        odd = 'region=x"y\\z\n'
        assert found[key("rainpp_value", column="n", group="region=EU")] == 5
        assert found[key("rainpp_value", column="n", group=odd)] == 2
        frame = monitor.read().set_index("region")
        low = found[key("rainpp_value_low", column="n", group=odd)]
        assert low == pytest.approx(frame.loc['x"y\\z\n', "n_low"])
        assert found[key("rainpp_rows", column="n", group="region=EU")] == 5
        age = time.time() - (START.timestamp() + 61 - time.timezone)
        assert found[key("rainpp_watermark_age_seconds")] == pytest.approx(age, abs=5)
        assert found[key("rainpp_alarms_firing", alarm="many")] == 1
        assert found[key("rainpp_batches")] == 2
        assert found[key("rainpp_outbox_seq")] == monitor.changes()[-1].seq
        assert found[key("rainpp_groups_left_out")] == 0
        assert found[key("rainpp_deliveries_delivered_total", hook='a "b"\n\\')] == 1
        assert found[key("rainpp_deliveries_waiting", hook="waits")] == 1
        assert found[key("rainpp_deliveries_failed_total", hook="waits")] == 1
        assert found[key("rainpp_dead_letters", hook="drops")] == 1
        assert found[key("rainpp_hook_disabled", hook="drops")] == 0


def test_open_metrics():
    openly = pytest.importorskip("prometheus_client.openmetrics.parser")
    with opened() as monitor:
        send(monitor, 0, {"EU": 5})
        text = exposition([monitor], openmetrics=True).decode()
        families = {f.name: f for f in openly.text_string_to_metric_families(text)}
        assert set(families) == {*METRICS, *COUNTERS}
        assert families["rainpp_value"].samples[0].value == 5


def test_the_number_of_series_is_bounded():
    with opened() as monitor:
        send(monitor, 0, {f"r{n}": 1 + n % 3 for n in range(150)})
        found = read(exposition([monitor]))
        shown = [value for (name, _), value in found.items() if name == "rainpp_value"]
        assert len(shown) == 100
        assert sorted(shown)[0] == 2  # the largest groups are the ones shown
        assert found[key("rainpp_groups_left_out")] == 50
        long = read(exposition([monitor], most_groups=3))
        assert long[key("rainpp_groups_left_out")] == 147
        for bad in (-1, "x", None, True):
            with pytest.raises(SettingsError, match="most"):
                monitor.figures(bad)


def test_names_that_are_alike_when_cut_make_one_series():
    with opened() as monitor:
        send(monitor, 0, {"x" * 300: 1, "x" * 301: 2})
        found = read(exposition([monitor]))
        assert [value for (name, _), value in found.items() if name == "rainpp_value"] == [2]


def test_several_monitors_one_empty_one_closed():
    with opened() as monitor, watch(SQL, schema=None, store=":memory:") as empty:
        closed = opened()
        closed.close()
        empty.spec = empty.spec.__class__(**{**vars(empty.spec), "name": "empty"})
        found = read(exposition([closed, empty, monitor]))
        assert {dict(labels)["monitor"] for _, labels in found} == {"people", "empty"}
        assert ("rainpp_batches", (("monitor", "empty"),)) in found


@pytest.mark.parametrize("window", [Everything(), Session("10s")])
def test_windows_without_a_common_end(window):
    with watch(SQL, window=window) as monitor:
        monitor.alert("many", "n > 2")
        with monitor.batch() as b:
            b.predictions(arrow(make_rows(60, seconds=120)))
        latest = monitor.read().sort_values("window_start").groupby("region")["n"].last()
        found = {figure.group["region"]: figure.value for figure in monitor.figures().numbers}
        assert found == latest.to_dict()


def test_open_telemetry():
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    from opentelemetry.sdk.metrics import MeterProvider

    reader = export.InMemoryMetricReader()
    provider = MeterProvider([reader])

    def measured():
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        return {
            metric.name: [
                (dict(point.attributes), point.value) for point in metric.data.data_points
            ]
            for metric in scope.metrics
        }

    with opened() as monitor:
        Telemetry([monitor], provider)
        monitor.on("many", Callback(lambda *_: None, name="mine"))
        send(monitor, 0, {"EU": 5})
        assert monitor.drain(5)
        found = measured()
        labels = {"monitor": "people", "column": "n", "group": "region=EU"}
        assert found["rainpp.value"] == [(labels, 5)]
        assert found["rainpp.alarms_firing"] == [({"monitor": "people", "alarm": "many"}, 1)]
        assert found["rainpp.deliveries_delivered"] == [({"monitor": "people", "hook": "mine"}, 1)]
        send(monitor, 1, {"EU": 7})
        send(monitor, 2, {"EU": 7})
        assert monitor.drain(5)
        assert measured()["rainpp.value"] == [(labels, 7)]
    provider.shutdown()
