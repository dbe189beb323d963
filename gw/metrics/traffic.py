"""What Prometheus is told of traffic: sums over all rows of the counters, and a few numbers of each worker.

Sums are over every row that ever had an owner, so they only grow, whichever worker was killed; what is open at the
moment counts for living workers alone. Names are APISIX's where it has them without labels of a route; those with
(`http_status`, `http_latency`, `bandwidth`) belong to the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from gw.shm.counter_layout import BUCKETS_S, CLASSES, GROUPS, Count, Histogram, Traffic, total

# Always there, so that their first increase is seen; the other two classes are rare, and told once they occur.
_USUAL_CLASSES: Final = frozenset(("2xx", "3xx", "4xx", "5xx"))
_LE: Final = (*map(floatToGoString, BUCKETS_S), "+Inf")
# What stands for all codes of a class that are not told alone.
_OTHER_CODES: Final = "other"


@dataclass(frozen=True, slots=True)
class CountMetric:
    """One count of the host."""

    name: str
    help: str
    count: Count


@dataclass(frozen=True, slots=True)
class RowMetric:
    """One number of each worker's row; `is_now`: of the moment, so that it is 0 when the worker is gone."""

    name: str
    help: str
    value: Callable[[Traffic], int]
    is_now: bool = False


REQUESTS: Final = CountMetric("http_requests_total", "Client requests.", Count.REQUESTS)
CONNECTIONS: Final = ("nginx_http_current_connections", "Client connections: now, and accepted and handled so far.")
IN_FLIGHT: Final = ("gateway_http_requests_in_flight", "Requests that are being answered.")
RESPONSES: Final = ("gateway_http_responses_total", "Requests that ended, by status.")
DURATION: Final = ("gateway_http_request_duration_seconds", "Time from when a request's head was complete to its end.")

COUNTS: Final = (
    CountMetric("gateway_http_requests_lost_total", "Requests in progress when their worker died.", Count.LOST),
    CountMetric("gateway_http_received_bytes_total", "Bytes of requests.", Count.RECEIVED_BYTES),
    CountMetric("gateway_http_sent_bytes_total", "Bytes of responses.", Count.SENT_BYTES),
    CountMetric("gateway_upstream_connects_total", "Connections opened to upstream nodes.", Count.UPSTREAM_CONNECTS),
    CountMetric(
        "gateway_upstream_reuses_total", "Requests sent on a connection that was used before.", Count.UPSTREAM_REUSES
    ),
    CountMetric(
        "gateway_upstream_failures_total",
        "Attempts at an upstream node that ended without a whole response.",
        Count.UPSTREAM_FAILURES,
    ),
    CountMetric("gateway_upstream_retries_total", "Requests tried once more.", Count.UPSTREAM_RETRIES),
    CountMetric(
        "gateway_plugin_failures_total", "Calls of a plugin that raised an error.", Count.PLUGIN_FAILURES
    ),
)

ROWS: Final = (
    RowMetric("gateway_worker_processes_total", "Processes so far.", lambda row: row[Count.PROCESSES]),
    RowMetric("gateway_worker_http_requests_total", "Client requests.", lambda row: row[Count.REQUESTS]),
    RowMetric(
        "gateway_worker_http_requests_in_flight",
        "Requests that are being answered.",
        lambda row: row.requests_in_flight,
        is_now=True,
    ),
    RowMetric("gateway_worker_connections", "Open client connections.", lambda row: row.connections, is_now=True),
)

NAMES: Final = (
    *(REQUESTS.name, CONNECTIONS[0], IN_FLIGHT[0], RESPONSES[0], DURATION[0]),
    *(metric.name for metric in COUNTS),
    *(metric.name for metric in ROWS),
)


def traffic_families(rows: Mapping[int, Traffic], live: Iterable[int], prefix: str) -> Iterator[Metric]:
    """All of it. `rows` and `live` are by the number of the worker's cell: what was counted, and who still runs."""
    living = set(live)
    whole = total(rows.values())
    now = total(row for index, row in rows.items() if index in living)
    yield _counter(REQUESTS, whole, prefix)
    yield _connections(whole, now, prefix)
    yield GaugeMetricFamily(f"{prefix}{IN_FLIGHT[0]}", IN_FLIGHT[1], now.requests_in_flight)
    yield _responses(whole, prefix)
    yield _durations(whole, prefix)
    yield from (_counter(metric, whole, prefix) for metric in COUNTS)
    yield from (_of_rows(metric, rows, living, prefix) for metric in ROWS)


def _counter(metric: CountMetric, whole: Traffic, prefix: str) -> Metric:
    return CounterMetricFamily(f"{prefix}{metric.name}", metric.help, whole[metric.count])


def _connections(whole: Traffic, now: Traffic, prefix: str) -> Metric:
    """nginx's states, as far as they are known.

    A connection on which a request's head is half there counts as waiting: APISIX's `reading` is not told.
    """
    opened = whole[Count.CONNECTIONS_OPENED]
    states = {
        "accepted": opened + whole[Count.CONNECTIONS_REFUSED],
        "handled": opened,
        "active": now.connections,
        "writing": now.requests_in_flight,
        "waiting": max(0, now.connections - now.requests_in_flight),
    }
    family = GaugeMetricFamily(f"{prefix}{CONNECTIONS[0]}", CONNECTIONS[1], labels=("state",))
    for state, connections in states.items():
        family.add_metric((state,), connections)
    return family


def _responses(whole: Traffic, prefix: str) -> Metric:
    family = CounterMetricFamily(f"{prefix}{RESPONSES[0]}", RESPONSES[1], labels=("class", "code"))
    for number, group in enumerate(GROUPS):
        responses = whole.histogram(number).responses
        if responses or group.status_class in _USUAL_CLASSES:
            family.add_metric((group.status_class, group.code or _OTHER_CODES), responses)
    return family


def _durations(whole: Traffic, prefix: str) -> Metric:
    family = HistogramMetricFamily(f"{prefix}{DURATION[0]}", DURATION[1], labels=("class",))
    for status_class in CLASSES:
        histogram = whole.histogram_of(status_class)
        if histogram.responses or status_class in _USUAL_CLASSES:
            family.add_metric((status_class,), list(_cumulative(histogram)), histogram.duration_s)
    return family


def _cumulative(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Prometheus's buckets: how many took at most so long."""
    within = 0
    for bound, count in zip(_LE, histogram.counts, strict=True):
        within += count
        yield bound, within


def _of_rows(metric: RowMetric, rows: Mapping[int, Traffic], live: set[int], prefix: str) -> Metric:
    family_type = CounterMetricFamily if metric.name.endswith("_total") else GaugeMetricFamily
    family = family_type(f"{prefix}{metric.name}", metric.help, labels=("worker",))
    for index, row in rows.items():
        if not metric.is_now or index in live:
            family.add_metric((str(index),), metric.value(row))
    return family
