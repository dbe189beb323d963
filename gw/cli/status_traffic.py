"""The part of `gw status` that tells of traffic: what each worker counted, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from gw.cli.columns import short_size, short_time
from gw.errors import SegmentError
from gw.shm.counter_layout import BUCKETS_S, CLASSES, GROUPS, Count, Histogram, Traffic, merged, total
from gw.shm.counters import CounterTable
from gw.shm.names import SegmentNames
from gw.shm.segment import SegmentSpace, UntrustedSegment

HEADINGS: Final = (
    *("WORKER", "REQUESTS", "IN FLIGHT", "CONNECTIONS", "2XX", "3XX", "4XX", "5XX"),
    *("MEAN", "P50", "P99", "RECEIVED", "SENT"),
)
_LONGEST_S: Final = BUCKETS_S[-1]


def read_traffic(space: SegmentSpace, names: SegmentNames) -> dict[int, Traffic] | None:
    """The rows of the counters by cell; None before a master made them, and for those of another version of gw.

    Raises UntrustedSegment for a stranger's.
    """
    try:
        table = CounterTable.open(space, names)
    except UntrustedSegment:
        raise
    except SegmentError:
        return None
    with closing(table):
        return table.read()


def add_traffic(status: dict[str, Any], rows: Mapping[int, Traffic] | None) -> None:
    """Add a `traffic` to the status of the whole host, and to each of its workers; None where nothing is counted.

    A cell goes on from the worker that had it before, and the host counts every worker that ever was; what is open now
    is that of living ones.
    """
    rows = {} if rows is None else rows
    living = set()
    for worker in status["workers"]:
        if worker["alive"]:
            living.add(worker["cell"])
        row = rows.get(worker["cell"])
        worker["traffic"] = None if row is None else _told(row, row if worker["alive"] else None)
    now = total(row for index, row in rows.items() if index in living)
    status["traffic"] = _told(total(rows.values()), now) if rows else None


def traffic_rows(status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table for people: headings, a row for each worker, one for all; empty when nothing is counted."""
    if status.get("traffic") is None:
        return []
    workers = [_row(str(worker["pid"]), worker["traffic"]) for worker in status["workers"] if worker["traffic"]]
    return [HEADINGS, *workers, _row("all", status["traffic"])]


def _told(row: Traffic, now: Traffic | None) -> dict[str, Any]:
    """`now`: of what is open; None when nothing is, because the worker is gone."""
    durations = merged(row.histogram_of(each) for each in CLASSES)
    return {
        "processes": row[Count.PROCESSES],
        "requests": row[Count.REQUESTS],
        "requests_in_flight": 0 if now is None else now.requests_in_flight,
        "requests_lost": row[Count.LOST],
        "responses": {each: row.histogram_of(each).responses for each in CLASSES},
        "statuses": {
            group.code: row.histogram(number).responses for number, group in enumerate(GROUPS) if group.code
        },
        "duration_mean_ms": (
            round(durations.duration_s / durations.responses * 1e3, 3) if durations.responses else None
        ),
        "duration_p50_ms": _bound_ms(durations, 0.5),
        "duration_p99_ms": _bound_ms(durations, 0.99),
        "received_bytes": row[Count.RECEIVED_BYTES],
        "sent_bytes": row[Count.SENT_BYTES],
        "connections": {
            "active": 0 if now is None else now.connections,
            "opened": row[Count.CONNECTIONS_OPENED],
            "refused": row[Count.CONNECTIONS_REFUSED],
        },
        "upstream": {
            "connects": row[Count.UPSTREAM_CONNECTS],
            "reuses": row[Count.UPSTREAM_REUSES],
            "failures": row[Count.UPSTREAM_FAILURES],
            "retries": row[Count.UPSTREAM_RETRIES],
        },
        "plugin_failures": row[Count.PLUGIN_FAILURES],
    }


def _bound_ms(durations: Histogram, share: float) -> int | None:
    """The bound of a bucket that so many stayed within; None without responses, and beyond the last bound."""
    bound_s = durations.bound_s(share)
    return None if bound_s is None or bound_s > _LONGEST_S else round(bound_s * 1e3)


def _row(name: str, traffic: Mapping[str, Any]) -> tuple[str, ...]:
    responses = traffic["responses"]
    has_ended = any(responses.values())
    return (
        name,
        str(traffic["requests"]),
        str(traffic["requests_in_flight"]),
        str(traffic["connections"]["active"]),
        *(str(responses[each]) for each in ("2xx", "3xx", "4xx", "5xx")),
        short_time(traffic["duration_mean_ms"]) if has_ended else "-",
        *(_at_most(traffic[key]) if has_ended else "-" for key in ("duration_p50_ms", "duration_p99_ms")),
        short_size(traffic["received_bytes"]),
        short_size(traffic["sent_bytes"]),
    )


def _at_most(bound_ms: int | None) -> str:
    if bound_ms is None:
        return f">{_LONGEST_S:.0f}s"
    return f"<={bound_ms}ms" if bound_ms < 1000 else f"<={bound_ms // 1000}s"
