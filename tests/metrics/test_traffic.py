"""What the rows of the counters become in Prometheus's text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gw.metrics.expose import OPENMETRICS, exposition
from gw.metrics.host_view import HostView, view_host
from gw.metrics.traffic import COUNTS, NAMES, ROWS
from gw.shm.counters import CounterTable
from gw.shm.layout import Cell, CellState
from tests.shm.world import NAMES as SEGMENTS
from tests.support.memory_space import MemorySpace
from tests.support.metrics import Scrape

BUCKETS = ("0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0", "2.0", "5.0", "10.0", "30.0",
           "60.0", "+Inf")  # fmt: skip


@pytest.fixture
def table() -> CounterTable:
    return CounterTable.open_or_create(MemorySpace(), SEGMENTS)


class Nobody:
    """A host on which nothing but the counters is there."""

    expected = 0

    def __init__(self, live: Collection[int]) -> None:
        self._live = live

    def peek(self) -> None:
        return None

    def live(self):
        return ((index, Cell(CellState.SERVING, pid=100 + index)) for index in self._live)


def look(table: CounterTable, live: Collection[int] = ()) -> HostView:
    return view_host(Nobody(live), Nobody(live), "a-host", table)


def text(table: CounterTable, live: Collection[int] = (), prefix: str = "apisix_") -> str:
    return b"".join(exposition(look(table, live), prefix)).decode()


def scrape(table: CounterTable, live: Collection[int] = ()) -> Scrape:
    return Scrape(text(table, live))


def test_requests_and_counts_are_those_of_all_workers_that_ever_were(table):
    for index in (0, 3):
        counters = table.take(index)
        for _ in range(2):
            counters.request_started()
        counters.request_done(200, 100, 1000, 0.25)
        counters.upstream_connected()
        counters.upstream_reused()
        counters.upstream_failed()
        counters.upstream_retried()
        counters.plugin_failed()
    table.take(3)  # the one in its place
    found = scrape(table, live=(3,))
    for name, value in {
        "http_requests_total": 4,
        "gateway_http_requests_in_flight": 0,
        "gateway_http_requests_lost_total": 1,
        "gateway_http_received_bytes_total": 200,
        "gateway_http_sent_bytes_total": 2000,
        "gateway_upstream_connects_total": 2,
        "gateway_upstream_reuses_total": 2,
        "gateway_upstream_failures_total": 2,
        "gateway_upstream_retries_total": 2,
        "gateway_plugin_failures_total": 2,
    }.items():
        assert found.value(f"apisix_{name}") == value, name
    assert found.by_worker("apisix_gateway_worker_http_requests_total") == {0: 2, 3: 2}
    assert found.by_worker("apisix_gateway_worker_processes_total") == {0: 1, 3: 2}


def test_what_is_open_now_is_that_of_the_living(table):
    for index in (0, 1, 2):
        counters = table.take(index)
        for _ in range(5):
            counters.connection_opened()
        counters.connection_closed()
        counters.connection_refused()
        counters.request_started()
    found = scrape(table, live=(0, 2))
    states = {"accepted": 18, "handled": 15, "active": 8, "writing": 2, "waiting": 6}
    for state, value in states.items():
        assert found.value("apisix_nginx_http_current_connections", state=state) == value, state
    assert found.value("apisix_gateway_http_requests_in_flight") == 2
    assert found.by_worker("apisix_gateway_worker_connections") == {0: 4, 2: 4}
    assert found.by_worker("apisix_gateway_worker_http_requests_in_flight") == {0: 1, 2: 1}
    assert found.by_worker("apisix_gateway_worker_processes_total") == {0: 1, 1: 1, 2: 1}


def test_several_requests_on_one_connection_leave_none_waiting_below_0(table):
    counters = table.take(0)
    counters.connection_opened()
    for _ in range(3):
        counters.request_started()
    found = scrape(table, live=(0,))
    assert found.value("apisix_nginx_http_current_connections", state="waiting") == 0
    assert found.value("apisix_nginx_http_current_connections", state="writing") == 3


def test_responses_are_told_by_class_and_those_that_alarm_by_status(table):
    counters = table.take(0)
    for status, times in {200: 3, 204: 1, 404: 2, 403: 4, 499: 5, 500: 1, 502: 6, 505: 7, 999: 8}.items():
        for _ in range(times):
            counters.request_done(status, 0, 0, 0.0)
    found = scrape(table)
    name = "apisix_gateway_http_responses_total"
    told = {
        (dict(labels)["class"], dict(labels)["code"]): value
        for (at, labels), value in found.samples.items()
        if at == name
    }
    assert told == {
        ("2xx", "other"): 4, ("3xx", "other"): 0, ("4xx", "other"): 4, ("4xx", "404"): 2, ("4xx", "429"): 0,
        ("4xx", "499"): 5, ("5xx", "other"): 7, ("5xx", "500"): 1, ("5xx", "502"): 6, ("5xx", "503"): 0,
        ("5xx", "504"): 0, ("other", "other"): 8,
    }  # fmt: skip
    by_class = {status_class: sum(told[key] for key in told if key[0] == status_class) for status_class, _ in told}
    for status_class, count in by_class.items():
        assert found.value("apisix_gateway_http_request_duration_seconds_count", **{"class": status_class}) == count


def test_durations_are_a_histogram_as_prometheus_wants_it(table):
    counters = table.take(0)
    for duration_s in (0.0, 0.001, 0.0015, 0.25, 0.5, 75.0):
        counters.request_done(200, 0, 0, duration_s)
    counters.request_done(404, 0, 0, 0.25)
    counters.request_done(403, 0, 0, 0.25)
    found = scrape(table)
    name = "apisix_gateway_http_request_duration_seconds"
    assert found.types[name] == "histogram"
    buckets = [found.value(f"{name}_bucket", **{"class": "2xx", "le": bound}) for bound in BUCKETS]
    assert buckets == [2, 3, 3, 3, 3, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 6]
    assert found.value(f"{name}_count", **{"class": "2xx"}) == 6
    assert found.value(f"{name}_sum", **{"class": "2xx"}) == pytest.approx(75.7525)
    assert found.value(f"{name}_sum", **{"class": "4xx"}) == 0.5
    assert found.value(f"{name}_count", **{"class": "5xx"}) == 0
    le = {dict(labels)["le"] for at, labels in found.samples if at == f"{name}_bucket"}
    assert le == set(BUCKETS)


def test_a_counter_never_falls_when_workers_come_and_go(table):
    """As Prometheus sees it: the same series, look after look."""
    series: dict[object, float] = {}
    ours = tuple(f"apisix_{name}" for name in NAMES)

    def check(live: Collection[int]) -> None:
        found = scrape(table, live)
        for key, value in found.samples.items():
            family = re.sub(r"_(total|bucket|count|sum)$", "", key[0])
            # The others are the cells', which begin anew with each process.
            if key[0].startswith(ours) and found.types[family] in ("counter", "histogram"):
                assert value >= series.get(key, 0), key
                series[key] = value
        assert series.keys() <= found.samples.keys()

    for live in ((0, 1), (1,), (0, 1, 2), (2,), (), (0, 1, 2)):
        for index in live:
            counters = table.take(index)
            counters.connection_opened()
            for status in (200, 404, 101):
                counters.request_started()
                counters.request_done(status, 5, 6, 0.003)
            counters.request_started()
        check(live)


def test_without_counters_nothing_is_said_of_traffic(table):
    assert "http_requests" not in text(table)
    seen = dataclasses.replace(look(table, (0,)), traffic={})
    assert not any(name in b"".join(exposition(seen, "")).decode() for name in NAMES)


def test_names_and_types_are_as_prometheus_wants_them(table):
    table.take(0)
    assert len(set(NAMES)) == len(NAMES)
    for metric in (*COUNTS, *ROWS):
        assert re.fullmatch(r"gateway_[a-z_]+", metric.name)
        assert metric.help.endswith(".")
    families = {family.name: family for family in parse_plain(text(table, (0,), prefix=""))}
    for name in NAMES:
        expected = "counter" if name.endswith("_total") else "histogram" if "duration" in name else "gauge"
        family = families[name.removesuffix("_total")]
        assert family.type == expected
        assert family.documentation
    plain = text(table, (0,))
    assert "# TYPE apisix_http_requests_total counter\n" in plain
    assert "# TYPE apisix_nginx_http_current_connections gauge\n" in plain
    assert plain.count("# HELP apisix_gateway_http_request_duration_seconds ") == 1


def test_openmetrics_says_the_same(table):
    table.take(0).request_done(200, 1, 2, 0.25)
    seen = look(table, (0,))
    parsed = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(b"".join(exposition(seen, "apisix_", OPENMETRICS)).decode())
        for sample in family.samples
    }
    assert parsed == Scrape(b"".join(exposition(seen, "apisix_")).decode()).samples
