"""Prometheus metrics: a picture of the gateway taken when it is asked for, so that counting costs the hot
path nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from gateway.web import Page

HOUR_S = 3600
_QUEUED = "What waits to be sent."


class Exporter(Collector):
    """Renders what `picture` returns (Gateway.picture: plain dicts) in the Prometheus text format."""

    def __init__(self, picture: Any) -> None:
        self._picture = picture
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._registry.register(PROCESS_COLLECTOR)

    def page(self) -> Page:
        """The page /metrics."""
        return Page(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: asking at registration would take a picture of a gateway that is being built."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric, from one picture."""
        now = self._picture()
        yield from _parts(now["parts"])
        yield from _store(now["store"])
        yield _counter("frames_refused", "Frames refused, by reason (SPEC 5).", "reason", now["refused"])
        yield from _links(now["links"])
        yield from _table(
            "radio",
            "radio",
            now["radios"],
            {
                "open": "1 while the radio hears and can send.",
                "queued": _QUEUED,
                "handed_over_s": "Seconds that another program may still have its port.",
            },
        )
        yield from _northbounds(now["northbounds"])
        yield from _devices(now["devices"])
        yield from _bluetooth(now["ble"], now["ble_devices"])
        yield from _modbus(now["modbus"], now["modbus_devices"])
        yield _counter(
            "downlinks",
            "What was sent to nodes, by kind; not_sent: no way to the node.",
            "kind",
            now["downlinks"],
        )
        yield _counter(
            "adr", "Commands that set the radio of a node, by the gateway itself.", "kind", now["adr"]
        )
        yield _counter("commands", "Commands accepted and how they ended.", "state", now["commands"])
        yield from _campaigns(now["campaigns"])
        yield _counter("http_requests", "Requests to these pages.", "result", now["http"])
        yield _counter("api", "What became of requests to the API.", "result", now["api"])
        yield _gauge("nodes", "Registered nodes.", now["nodes"])
        yield _gauge("nodes_heard_1h", "Nodes heard within the last hour.", now["nodes_heard_1h"])
        yield _gauge(
            "nodes_silent", "Nodes not heard for more than two of their heartbeats.", now["nodes_silent"]
        )
        yield _gauge(
            "clock_synchronised",
            "1 while this machine's clock is in time and nodes are given it.",
            now["clock"],
        )


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"tidegate_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tidegate_{name}", text, value=value)


def _table(
    prefix: str, label: str, rows: Mapping[str, Mapping[str, float]], gauges: Mapping[str, str]
) -> Iterator[Metric]:
    """One metric for each column of `rows`; columns in `gauges` (with their help) are gauges, the rest counters."""
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    for column in columns:
        family: GaugeMetricFamily | CounterMetricFamily
        if column in gauges:
            family = GaugeMetricFamily(f"tidegate_{prefix}_{column}", gauges[column], labels=[label])
        else:
            family = CounterMetricFamily(
                f"tidegate_{prefix}_{column}", f"Since the start, by {label}.", labels=[label]
            )
        for key, row in rows.items():
            if column in row:
                family.add_metric([key], row[column])
        yield family


def _campaigns(campaigns: Mapping[str, Any]) -> Iterator[Metric]:
    yield _counter("campaign_messages", "What campaigns have said and heard.", "kind", campaigns["counters"])
    nodes = GaugeMetricFamily(
        "tidegate_campaign_nodes", "Nodes of campaigns that are not over.", labels=["campaign", "state"]
    )
    state = GaugeMetricFamily(
        "tidegate_campaign_state", "1 for the state that a campaign is in.", labels=["campaign", "state"]
    )
    for number, campaign in campaigns["open"].items():
        state.add_metric([number, campaign["state"]], 1)
        for name, count in campaign["nodes"].items():
            nodes.add_metric([number, name], count)
    yield nodes
    yield state
    running = GaugeMetricFamily(
        "tidegate_nodes_running",
        "Nodes by the release that they said to run; 0: none.",
        labels=["type", "release"],
    )
    for kind, releases in campaigns["running"].items():
        for release, count in releases.items():
            running.add_metric([kind, release], count)
    yield running


def _parts(parts: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    gauges = {
        "up": "1 while the part runs and makes progress.",
        "idle_seconds": "Seconds since the part last made progress.",
    }
    return _table("part", "part", parts, gauges)


def _links(links: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    gauges = {
        "open": "1 while the port is open.",
        "queued": _QUEUED,
        "handed_over_s": "Seconds that another program may still have the port; 0: it is the gateway's.",
    }
    return _table("link", "link", links, gauges)


def _northbounds(northbounds: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    gauges = {
        "connected": "1 while the far side answers.",
        "backlog_records": "Records not confirmed by the far side.",
        "certificate_days": "Until the certificate that is shown ends.",
        "backlog_hours": "Age of the oldest record not confirmed, in hours.",
        "in_flight": "Records sent and not confirmed.",
    }
    return _table("northbound", "northbound", northbounds, gauges)


def _devices(devices: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    gauges = {
        "up": "1 while the device answers or is heard.",
        "age_seconds": "Seconds since its last set.",
    }
    return _table("device", "device", devices, gauges)


def _bluetooth(
    adapters: Mapping[str, Mapping[str, float]], devices: Mapping[str, Mapping[str, float]]
) -> Iterator[Metric]:
    gauges = {
        "scanning": "1 while adverts are listened for.",
        "passive": "1 for a passive scan, 0 for an active one.",
        "addresses": "Addresses whose latest advert is remembered.",
        "slots_used": "Connections that are made or kept.",
        "slots_waiting": "Devices that wait for a connection slot.",
    }
    yield from _table("ble", "adapter", adapters, gauges)
    yield from _table("ble_device", "device", devices, {"connected": "1 while the device is connected."})


def _modbus(
    buses: Mapping[str, Mapping[str, float]], devices: Mapping[str, Mapping[str, float]]
) -> Iterator[Metric]:
    gauges = {
        "open": "1 while the port or connection is open.",
        "devices_up": "Devices that answer.",
        "devices_suspect": "Devices that did not answer last time.",
        "devices_down": "Devices that have been silent for long.",
        "latency_seconds": "From request to answer, smoothed.",
        "probe_pause_seconds": "Within so many seconds a silent device that returns is found.",
        "refused_ranges": "Ranges that the device refused and that are not asked for again.",
    }
    yield from _table("modbus", "bus", buses, gauges)
    yield from _table("modbus_device", "device", devices, gauges)


def _store(store: Mapping[str, float]) -> Iterator[Metric]:
    gauges = {
        "depth_frames": "Frames opened and not committed.",
        "failing": "1 while commits fail: nothing is acknowledged.",
        "disk_free_bytes": "What the disk of the database still holds.",
        "disk_full": "1 while readings are not acknowledged because the disk is full.",
        "reserve": "1 while the reserve for events is there.",
        "used_bytes": "Pages of the database in use.",
        "buffer_left_bytes": "What it may still hold before anything undelivered is given up.",
        "buffer_left_hours": "The same in hours at the rate of the last day; -1: not known yet.",
        "retention_longest_ms": "The longest time on the loop of one step that made room.",
    }
    for key, value in store.items():
        if key in gauges:
            yield _gauge(f"store_{key}", gauges[key], value)
        else:
            yield CounterMetricFamily(f"tidegate_store_{key}", "Since the start.", value=value)
