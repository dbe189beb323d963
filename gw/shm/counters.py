"""Traffic counters: one row of shared memory for each worker, written by it at every request and read by everybody.

A row belongs to a cell of the workers' table, and whoever has the cell writes the row, nobody else; so an 8-byte store
is all that counting takes. A worker that dies leaves its row as it stands, and the next owner of the cell goes on from
there: what is counted never falls, whoever is killed, as long as the segment lives.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from typing import Final

from gw.errors import SegmentError
from gw.shm.counter_layout import (
    BUCKETS_S,
    COUNTERS_BYTES,
    FIRST_DURATION,
    FIRST_HISTOGRAM,
    GROUP_OF_STATUS,
    HISTOGRAM_CELLS,
    LAST_CELL,
    ROW_BYTES,
    ROW_CELLS,
    Count,
    Traffic,
    is_counters_header,
    pack_counters_header,
    row_offset,
)
from gw.shm.layout import HEADER_BYTES
from gw.shm.names import SegmentNames, aside
from gw.shm.segment import TABLE_MODE, Segment, SegmentSpace, UntrustedSegment

# Plain numbers: an enum's members are looked up by name each time.
_PROCESSES: Final = int(Count.PROCESSES)
_REQUESTS: Final = int(Count.REQUESTS)
_LOST: Final = int(Count.LOST)
_RECEIVED_BYTES: Final = int(Count.RECEIVED_BYTES)
_SENT_BYTES: Final = int(Count.SENT_BYTES)
_OPENED: Final = int(Count.CONNECTIONS_OPENED)
_CLOSED: Final = int(Count.CONNECTIONS_CLOSED)
_REFUSED: Final = int(Count.CONNECTIONS_REFUSED)
_CONNECTS: Final = int(Count.UPSTREAM_CONNECTS)
_REUSES: Final = int(Count.UPSTREAM_REUSES)
_FAILURES: Final = int(Count.UPSTREAM_FAILURES)
_RETRIES: Final = int(Count.UPSTREAM_RETRIES)
_PLUGIN_FAILURES: Final = int(Count.PLUGIN_FAILURES)
# The first bounds, which most responses stay within.
_BOUND_0_S, _BOUND_1_S, _BOUND_2_S = BUCKETS_S[:3]


class TrafficCounters:
    """One worker's own row. Nothing here waits, fails, or keeps what it is given.

    PERF: each number is held here as well, because reading it back from shared memory costs as much as storing it;
    bench/counters.py has what a request costs.
    """

    __slots__ = (
        "_buckets",
        "_cells",
        "_closed",
        "_connects",
        "_counts",
        "_durations",
        "_durations_s",
        "_failures",
        "_opened",
        "_plugin_failures",
        "_received_bytes",
        "_refused",
        "_requests",
        "_retries",
        "_reuses",
        "_sent_bytes",
        "_views",
    )

    def __init__(self, row: memoryview) -> None:
        """`row`: the bytes of a row. Goes on from what stands there, and settles what its last owner left open."""
        cells = row.cast("Q")
        buckets = cells[FIRST_HISTOGRAM:FIRST_DURATION]
        durations = row.cast("d")[FIRST_DURATION:LAST_CELL]
        self._cells = cells
        self._buckets = buckets
        self._durations = durations
        self._counts: list[int] = buckets.tolist()
        self._durations_s = list(durations)
        found = Traffic(cells[:FIRST_DURATION].tolist(), self._durations_s)
        cells[_LOST] = found[Count.LOST] + found.requests_in_flight
        cells[_CLOSED] = found[Count.CONNECTIONS_CLOSED] + found.connections
        cells[_PROCESSES] = found[Count.PROCESSES] + 1
        self._requests: int = cells[_REQUESTS]
        self._received_bytes: int = cells[_RECEIVED_BYTES]
        self._sent_bytes: int = cells[_SENT_BYTES]
        self._opened: int = cells[_OPENED]
        self._closed: int = cells[_CLOSED]
        self._refused: int = cells[_REFUSED]
        self._connects: int = cells[_CONNECTS]
        self._reuses: int = cells[_REUSES]
        self._failures: int = cells[_FAILURES]
        self._retries: int = cells[_RETRIES]
        self._plugin_failures: int = cells[_PLUGIN_FAILURES]

    def request_started(self) -> None:
        """A request is to be answered: its head has come. Exactly one `request_done` follows."""
        self._requests = self._cells[_REQUESTS] = self._requests + 1

    def request_done(self, status: int, received_bytes: int, sent_bytes: int, duration_s: float) -> None:
        """The request has ended.

        `status`: of the response; 499 when the client went before there was one, as in nginx's log; at most 999.
        `duration_s`: since `request_started`, at least 0.
        """
        cells = self._cells
        self._received_bytes = cells[_RECEIVED_BYTES] = self._received_bytes + received_bytes
        self._sent_bytes = cells[_SENT_BYTES] = self._sent_bytes + sent_bytes
        at = GROUP_OF_STATUS[status]
        durations_s = self._durations_s
        durations_s[at] = self._durations[at] = durations_s[at] + duration_s
        at *= HISTOGRAM_CELLS
        # PERF: three comparisons are a third of a bisection; test_a_duration_meets_its_bucket holds them equal.
        if duration_s > _BOUND_2_S:
            at += bisect_left(BUCKETS_S, duration_s, 3)
        elif duration_s > _BOUND_1_S:
            at += 2
        elif duration_s > _BOUND_0_S:
            at += 1
        counts = self._counts
        counts[at] = self._buckets[at] = counts[at] + 1

    def connection_opened(self) -> None:
        """A client's connection was accepted and is served. Exactly one `connection_closed` follows."""
        self._opened = self._cells[_OPENED] = self._opened + 1

    def connection_closed(self) -> None:
        """A connection that was opened is gone."""
        self._closed = self._cells[_CLOSED] = self._closed + 1

    def connection_refused(self) -> None:
        """A client's connection was accepted and cut off at once, because there are too many."""
        self._refused = self._cells[_REFUSED] = self._refused + 1

    def upstream_connected(self) -> None:
        """A new connection to a node stands."""
        self._connects = self._cells[_CONNECTS] = self._connects + 1

    def upstream_reused(self) -> None:
        """A request goes out on a connection that was used before."""
        self._reuses = self._cells[_REUSES] = self._reuses + 1

    def upstream_failed(self) -> None:
        """An attempt at a node ended without a whole response: no connection, a time-out, an end too early."""
        self._failures = self._cells[_FAILURES] = self._failures + 1

    def upstream_retried(self) -> None:
        """A request is tried once more, at the same node or another one."""
        self._retries = self._cells[_RETRIES] = self._retries + 1

    def plugin_failed(self) -> None:
        """A plugin's code raised what it should not have."""
        self._plugin_failures = self._cells[_PLUGIN_FAILURES] = self._plugin_failures + 1

    def close(self) -> None:
        """Let go of the row; nothing may be counted after this. A worker's row ends with its process and needs none."""
        for view in (self._buckets, self._durations, self._cells):
            view.release()


class CounterTable:
    """The counters of one gateway. Opened before a fork, they serve the children as well."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    @classmethod
    def open_or_create(cls, space: SegmentSpace, names: SegmentNames) -> CounterTable:
        """For the master. Counters of another layout are replaced, which begins to count anew.

        Raises UntrustedSegment for a stranger's, SegmentError when there is no room.
        """
        try:
            return cls.open(space, names, writable=True)
        except UntrustedSegment:
            raise
        except SegmentError:
            return cls._create(space, names)

    @classmethod
    def open(cls, space: SegmentSpace, names: SegmentNames, *, writable: bool = False) -> CounterTable:
        """For who only looks. Raises SegmentMissing as long as no master has made them."""
        segment = space.open(names.counters, writable=writable, mode=TABLE_MODE)
        is_ours = segment.size == COUNTERS_BYTES and is_counters_header(bytes(segment.view[:HEADER_BYTES]))
        if not is_ours:
            segment.close()
            raise SegmentError(f"{names.counters} holds no counters of this layout")
        return cls(segment)

    @classmethod
    def _create(cls, space: SegmentSpace, names: SegmentNames) -> CounterTable:
        space.unlink(aside(names.counters))
        segment = space.create(aside(names.counters), COUNTERS_BYTES, TABLE_MODE)
        try:
            segment.store(0, pack_counters_header())
            space.rename(aside(names.counters), names.counters)
        except BaseException:
            with suppress(SegmentError):
                space.unlink(aside(names.counters))
            raise
        return cls(segment)

    def take(self, index: int) -> TrafficCounters:
        """For the worker that has cell `index` of the workers' table, once, before it writes that cell.

        Requests and connections that the owner before left open are settled: as lost, and as closed.
        """
        at = row_offset(index)
        return TrafficCounters(self._segment.view[at : at + ROW_BYTES])

    def read(self) -> dict[int, Traffic]:
        """Every row that ever had an owner, by the number of its cell. In steps of 8 bytes: no number is torn."""
        with (
            self._segment.view[HEADER_BYTES:] as rows,
            rows.cast("Q") as words,
            rows.cast("d") as doubles,
            words[_PROCESSES::ROW_CELLS] as processes,
        ):
            return {
                index: Traffic(
                    words[at : at + FIRST_DURATION].tolist(),
                    doubles[at + FIRST_DURATION : at + LAST_CELL].tolist(),
                )
                for index, owners in enumerate(processes.tolist())
                if owners
                for at in (index * ROW_CELLS,)
            }

    def close(self) -> None:
        """Unmap. Rows that were taken are closed first."""
        self._segment.close()
