"""Traffic counters: one row of shared memory for each worker, written by it and read by everybody.

A row belongs to a cell of the workers' table, and whoever has the cell writes the row, nobody else; so an 8-byte store
is all that writing takes. A worker that dies leaves its row as it stands, and the next owner of the cell goes on from
there: what is counted never falls, whoever is killed, as long as the segment lives.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
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
from gw.shm.names import SegmentNames
from gw.shm.segment import TABLE_MODE, Segment, SegmentSpace, UntrustedSegment, create_in_place

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
# How long what was counted may not be seen by others: well below what people or Prometheus look at.
WRITE_BEHIND_S: Final = 0.05
Defer = Callable[[float, Callable[[], None]], object]
# The first bounds, which most responses stay within.
_BOUND_0_S, _BOUND_1_S, _BOUND_2_S = BUCKETS_S[:3]


class TrafficCounters:
    """One worker's own row. Nothing here waits, fails, or keeps what it is given.

    PERF: numbers are counted here, and written to shared memory together: at once, or with `write_behind` a moment
    later. What is not written when a worker is killed was not counted, neither as begun nor as done. bench/counters.py
    has what a request costs.
    """

    __slots__ = ("_cells", "_defer", "_durations", "_durations_s", "_is_due", "_words", "_written")

    def __init__(self, row: memoryview) -> None:
        """`row`: the bytes of a row. Goes on from what stands there, and settles what its last owner left open."""
        cells = row.cast("Q")
        durations = row.cast("d")[FIRST_DURATION:LAST_CELL]
        self._cells = cells
        self._durations = durations
        self._durations_s = list(durations)
        words: list[int] = cells[:FIRST_DURATION].tolist()
        found = Traffic(words, self._durations_s)
        cells[_LOST] = found[Count.LOST] + found.requests_in_flight
        cells[_CLOSED] = found[Count.CONNECTIONS_CLOSED] + found.connections
        cells[_PROCESSES] = found[Count.PROCESSES] + 1
        self._words: list[int] = cells[:FIRST_DURATION].tolist()
        self._written = self._words.copy()
        self._defer: Defer | None = None
        self._is_due = False

    def write_behind(self, defer: Defer) -> None:
        """Write what is counted together, at most WRITE_BEHIND_S later. `defer` is an event loop's `call_later`."""
        self._defer = defer

    def flush(self) -> None:
        """Write what is not written yet. In steps of 8 bytes: no number is torn."""
        self._is_due = False
        cells, written = self._cells, self._written
        for at, count in enumerate(self._words):
            if count != written[at]:
                cells[at] = written[at] = count
        durations = self._durations
        for at, duration_s in enumerate(self._durations_s):
            durations[at] = duration_s

    def _changed(self) -> None:
        if self._defer is None:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._defer(WRITE_BEHIND_S, self.flush)

    def request_started(self) -> None:
        """A request is to be answered: its head has come. Exactly one `request_done` follows."""
        self._words[_REQUESTS] += 1
        if not self._is_due:
            self._changed()

    def request_done(self, status: int, received_bytes: int, sent_bytes: int, duration_s: float) -> None:
        """The request has ended.

        `status`: of the response; 499 when the client went before there was one, as in nginx's log; at most 999.
        `duration_s`: since `request_started`, at least 0.
        """
        words = self._words
        words[_RECEIVED_BYTES] += received_bytes
        words[_SENT_BYTES] += sent_bytes
        at = GROUP_OF_STATUS[status]
        self._durations_s[at] += duration_s
        at = FIRST_HISTOGRAM + at * HISTOGRAM_CELLS
        # PERF: three comparisons are a third of a bisection; test_a_duration_meets_its_bucket holds them equal.
        if duration_s > _BOUND_2_S:
            at += bisect_left(BUCKETS_S, duration_s, 3)
        elif duration_s > _BOUND_1_S:
            at += 2
        elif duration_s > _BOUND_0_S:
            at += 1
        words[at] += 1
        if not self._is_due:
            self._changed()

    def connection_opened(self) -> None:
        """A client's connection was accepted and is served. Exactly one `connection_closed` follows."""
        self._count(_OPENED)

    def connection_closed(self) -> None:
        """A connection that was opened is gone."""
        self._count(_CLOSED)

    def connection_refused(self) -> None:
        """A client's connection was accepted and cut off at once, because there are too many."""
        self._count(_REFUSED)

    def upstream_connected(self) -> None:
        """A new connection to a node stands."""
        self._count(_CONNECTS)

    def upstream_reused(self) -> None:
        """A request goes out on a connection that was used before."""
        self._words[_REUSES] += 1
        if not self._is_due:
            self._changed()

    def upstream_failed(self) -> None:
        """An attempt at a node ended without a whole response: no connection, a time-out, an end too early."""
        self._count(_FAILURES)

    def upstream_retried(self) -> None:
        """A request is tried once more, at the same node or another one."""
        self._count(_RETRIES)

    def plugin_failed(self) -> None:
        """A plugin's code raised what it should not have."""
        self._count(_PLUGIN_FAILURES)

    def _count(self, at: int) -> None:
        self._words[at] += 1
        if not self._is_due:
            self._changed()

    def close(self) -> None:
        """Let go of the row; nothing may be counted after this. A worker's row ends with its process and needs none."""
        self.flush()
        for view in (self._durations, self._cells):
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
        segment = create_in_place(space, names.counters, COUNTERS_BYTES, TABLE_MODE, pack_counters_header())
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
