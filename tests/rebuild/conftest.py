"""Shared memory with a publisher in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.shm.layout import AgentState
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from gw.shm.writer import Publisher
from tests.support.shm import remove_all, unique_name
from tests.support.workers import change


class Memory:
    """Real segments under a name of their own."""

    def __init__(self) -> None:
        self.space = PosixSpace()
        self.names = SegmentNames(unique_name())
        self.clock = SystemClock()
        self.publisher: Publisher | None = None
        self.reader = SnapshotReader(self.space, self.names, self.clock)
        self._revision = 0

    def attach(self, log_size_bytes: int = 64 << 10) -> Publisher:
        if self.publisher is not None:
            self.publisher.close()
        self.publisher = Publisher.attach(self.space, self.names, log_size_bytes=log_size_bytes, clock=self.clock)
        return self.publisher

    def publish(self, resources: Mapping[str, Mapping[str, Any] | None]) -> int:
        """Make these the next version; keys as in a store (`routes/1`), None deletes."""
        publisher = self.publisher or self.attach()
        self._revision += 1
        changes = [change(*key.split("/", 1), resource) for key, resource in resources.items()]
        return publisher.publish(changes, self._revision, AgentState.WATCHING)

    def unlink(self) -> None:
        for name in self.space.list(self.names.prefix):
            self.space.unlink(name)

    def close(self) -> None:
        self.reader.close()
        if self.publisher is not None:
            self.publisher.close()
        remove_all(self.names.name)


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()
