"""One look at a host's gateway through its shared memory: what the metrics are made of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gw.shm import process
from gw.shm.counter_layout import Traffic
from gw.shm.layout import Cell, Slot


@dataclass(frozen=True, slots=True)
class HostView:
    """`slot` is the newest of control, None when there is none; `live` are the cells of living workers, by index.

    `expected` is the number of workers that the master means to have, `now_ns` the CLOCK_MONOTONIC of the look.
    `traffic` are the rows of the counters, by the number of the cell, also those whose last owner is gone.
    """

    slot: Slot | None
    agent_is_alive: bool
    live: tuple[tuple[int, Cell], ...]
    expected: int
    now_ns: int
    host_name: str
    traffic: Mapping[int, Traffic] = field(default_factory=dict)


class Reader(Protocol):
    """The part of gw.shm.reader.SnapshotReader that is used."""

    def peek(self) -> Slot | None: ...


class Table(Protocol):
    """The part of gw.shm.cells.WorkerTable that is used."""

    @property
    def expected(self) -> int: ...
    def live(self) -> Iterator[tuple[int, Cell]]: ...


class Counters(Protocol):
    """The part of gw.shm.counters.CounterTable that is used."""

    def read(self) -> dict[int, Traffic]: ...


def view_host(reader: Reader, table: Table, host_name: str, counters: Counters | None = None) -> HostView:
    """Look now. Any worker sees the same."""
    slot = reader.peek()
    return HostView(
        slot=slot,
        agent_is_alive=slot is not None and process.is_alive(slot.agent_pid, slot.agent_start_time),
        live=tuple(table.live()),
        expected=table.expected,
        now_ns=time.monotonic_ns(),
        host_name=host_name,
        traffic={} if counters is None else counters.read(),
    )
