"""The bytes of the traffic counters, and what a row says. No I/O, no policy; `docs/segment.md` explains them.

Every cell is 8 bytes, aligned, in the host's byte order, and stored whole by its one owner, so it needs no checksum:
whoever reads it sees a value that stood there. Cells are not read at one moment, though: one that is stored later may
be seen earlier than another. What is derived from two of them is therefore kept from falling below 0.

Counters segment (1,048,640)                  Row (2,048): 256 cells
     0  header (64)                              0  counts u64, see Count; up to cell 31 zeros
          0  magic 8 bytes                      32  histograms u64, 16 cells for each of GROUPS: how many responses
          8  format u32                             took at most as long as each of BUCKETS_S, and how many longer
         12  layout u32                        240  durations f64, s, one for each of GROUPS
         16  capacity u32, rows                253  zeros
         20  bytes of a row u32
         24  zeros
    64  512 rows of 2048, by the number of the worker's cell in the workers' table

Each cell only grows, also from one owner to the next, so that sums over all rows only grow, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from gw.shm.layout import FORMAT, HEADER_BYTES, TABLE_CAPACITY

COUNTERS_MAGIC: Final = b"JWCNTR\r\n"
# To be raised with any change below. A master that finds another one begins anew; that needs no other names for all.
LAYOUT: Final = 1

CELL_BYTES: Final = 8
ROW_CELLS: Final = 256
ROW_BYTES: Final = ROW_CELLS * CELL_BYTES
COUNTERS_BYTES: Final = HEADER_BYTES + TABLE_CAPACITY * ROW_BYTES

_HEADER: Final = struct.Struct("<8sIIII40x")
assert _HEADER.size == HEADER_BYTES


class Count(IntEnum):
    """The number of a cell, for what is counted by itself.

    `LOST`: requests that were in progress when their worker died. `CONNECTIONS_REFUSED`: accepted and cut off at once,
    because there were too many. `UPSTREAM_FAILURES`: attempts at a node that ended without a whole response.
    """

    PROCESSES = 0
    REQUESTS = 1
    LOST = 2
    RECEIVED_BYTES = 3
    SENT_BYTES = 4
    CONNECTIONS_OPENED = 5
    CONNECTIONS_CLOSED = 6
    CONNECTIONS_REFUSED = 7
    UPSTREAM_CONNECTS = 8
    UPSTREAM_REUSES = 9
    UPSTREAM_FAILURES = 10
    UPSTREAM_RETRIES = 11
    PLUGIN_FAILURES = 12


class Group(NamedTuple):
    """Responses that are counted together: those of a class (`2xx`), or of one status; `code` "" is all others."""

    status_class: str
    code: str


# What somebody sets an alarm on stands alone; the rest of its class is one group.
_ALONE: Final = (404, 429, 499, 500, 502, 503, 504)
# HTTP's classes; a status outside of them is an upstream's own, such as 999.
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
GROUPS: Final = (
    *(Group(status_class, "") for status_class in CLASSES),
    *(Group(CLASSES[status // 100 - 1], str(status)) for status in _ALONE),
)
# Upper bounds, those of APISIX's prometheus plugin (there in ms).
BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
HISTOGRAM_CELLS: Final = len(BUCKETS_S) + 1  # the last is for what took longer

FIRST_HISTOGRAM: Final = 32
FIRST_DURATION: Final = FIRST_HISTOGRAM + len(GROUPS) * HISTOGRAM_CELLS
LAST_CELL: Final = FIRST_DURATION + len(GROUPS)
assert max(Count) < FIRST_HISTOGRAM
assert LAST_CELL <= ROW_CELLS


def _group_of(status: int) -> int:
    if status in _ALONE:
        return len(CLASSES) + _ALONE.index(status)
    return status // 100 - 1 if 100 <= status < 600 else CLASSES.index("other")


# Three digits are what a status line has.
GROUP_OF_STATUS: Final = tuple(_group_of(status) for status in range(1000))


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]`: responses that took at most BUCKETS_S[i], but longer than the bound before; the last: still longer.

    `duration_s` is the sum of what they took.
    """

    counts: tuple[int, ...]
    duration_s: float

    @property
    def responses(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def bound_s(self, share: float) -> float | None:
        """The bound that this share of the responses stayed within: infinity beyond the last, None without any."""
        wanted = share * self.responses
        seen = 0
        for bound_s, count in zip((*BUCKETS_S, float("inf")), self.counts, strict=True):
            seen += count
            if seen and seen >= wanted:
                return bound_s
        return None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one row says, or many together. `words` are the cells before the durations; those are by group."""

    words: Sequence[int]
    durations_s: Sequence[float]

    def __getitem__(self, count: Count) -> int:
        return self.words[count]

    def histogram(self, group: int) -> Histogram:
        """Of the group with this number in GROUPS."""
        at = FIRST_HISTOGRAM + group * HISTOGRAM_CELLS
        return Histogram(tuple(self.words[at : at + HISTOGRAM_CELLS]), self.durations_s[group])

    def histogram_of(self, status_class: str) -> Histogram:
        """Of all groups of one of CLASSES."""
        return merged(
            self.histogram(number) for number, group in enumerate(GROUPS) if group.status_class == status_class
        )

    @property
    def responses(self) -> int:
        """Requests that are done, whatever came of them."""
        return sum(self.words[FIRST_HISTOGRAM:])

    @property
    def requests_in_flight(self) -> int:
        """Meant for the row of a living worker: a dead one has none, whatever its row says."""
        return max(0, self[Count.REQUESTS] - self[Count.LOST] - self.responses)

    @property
    def connections(self) -> int:
        """Client connections that are open. Meant for the row of a living worker, as above."""
        return max(0, self[Count.CONNECTIONS_OPENED] - self[Count.CONNECTIONS_CLOSED])


def total(rows: Iterable[Traffic]) -> Traffic:
    """What all the rows say together."""
    held = list(rows)
    none = Traffic((0,) * FIRST_DURATION, (0.0,) * len(GROUPS))
    columns = zip(*(row.words for row in (none, *held)), strict=True)
    durations_s = zip(*(row.durations_s for row in (none, *held)), strict=True)
    return Traffic(tuple(map(sum, columns)), tuple(map(sum, durations_s)))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All of them as one."""
    held = list(histograms)
    counts = tuple(sum(column) for column in zip(*(each.counts for each in held), strict=True))
    return Histogram(counts or (0,) * HISTOGRAM_CELLS, sum(each.duration_s for each in held))


def pack_counters_header() -> bytes:
    return _HEADER.pack(COUNTERS_MAGIC, FORMAT, LAYOUT, TABLE_CAPACITY, ROW_BYTES)


def is_counters_header(raw: bytes) -> bool:
    """Whether these 64 bytes begin counters of our layout."""
    return raw == pack_counters_header()


def row_offset(index: int) -> int:
    """Where the row of a worker's cell begins in the segment."""
    return HEADER_BYTES + index * ROW_BYTES
