"""Segments in plain memory, with every step recorded: for tests that replay what a writer did, or fill /dev/shm up."""

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from gw.errors import SegmentError
from gw.shm.segment import AGENT_MODE, SegmentExists, SegmentMissing, no_room


class Created(NamedTuple):
    """A segment of zeros came to be. `serial` names it for good, whatever it is renamed to."""

    serial: int
    name: str
    size: int


class Stored(NamedTuple):
    """One store through the seam."""

    serial: int
    offset: int
    data: bytes


class Renamed(NamedTuple):
    """A segment took the place of another."""

    old: str
    new: str


class Unlinked(NamedTuple):
    """A name went away."""

    name: str


Step = Created | Stored | Renamed | Unlinked


@dataclass
class _Memory:
    serial: int
    name: str
    content: bytearray


class MemorySegment:
    """A Segment over bytes that outlive their name, as a mapping does."""

    def __init__(self, memory: _Memory, steps: list[Step], *, writable: bool) -> None:
        self._memory = memory
        self._steps = steps
        self.name = memory.name
        self.size = len(memory.content)
        self.inode = memory.serial
        whole = memoryview(memory.content)
        self.view = whole if writable else whole.toreadonly()

    def store(self, offset: int, data: bytes) -> None:
        self.view[offset : offset + len(data)] = data
        self._steps.append(Stored(self._memory.serial, offset, bytes(data)))

    def store_u64(self, offset: int, value: int) -> None:
        self.store(offset, value.to_bytes(8, sys.byteorder))

    def load_u64(self, offset: int) -> int:
        return int.from_bytes(self.view[offset : offset + 8], sys.byteorder)

    def close(self) -> None:
        self.view.release()


@dataclass
class MemorySpace:
    """A SegmentSpace of one process. `limit_bytes` is the size of its /dev/shm, None for no end."""

    limit_bytes: int | None = None
    steps: list[Step] = field(default_factory=list)
    _linked: dict[str, _Memory] = field(default_factory=dict)
    _serials: int = 0

    def create(self, name: str, size: int, mode: int) -> MemorySegment:
        if name in self._linked:
            raise SegmentExists(name)
        if self.limit_bytes is not None and size > (free := self.limit_bytes - self.used_bytes):
            raise no_room(name, size, max(free, 0))
        self._serials += 1
        memory = _Memory(self._serials, name, bytearray(size))
        self._linked[name] = memory
        self.steps.append(Created(memory.serial, name, size))
        return MemorySegment(memory, self.steps, writable=True)

    def create_steps(self, name: str, size: int, mode: int) -> Generator[None, None, MemorySegment]:
        segment = self.create(name, size, mode)
        try:
            yield
        except GeneratorExit:
            self.unlink(name)
            raise
        return segment

    def open(self, name: str, *, writable: bool = False, mode: int = AGENT_MODE) -> MemorySegment:
        memory = self._linked.get(name)
        if memory is None:
            raise SegmentMissing(name)
        if not memory.content:
            raise SegmentError(f"shared-memory segment {name} is empty: whoever was creating it did not finish")
        return MemorySegment(memory, self.steps, writable=writable)

    def rename(self, old: str, new: str) -> None:
        self._linked[new] = self._linked.pop(old)
        self._linked[new].name = new
        self.steps.append(Renamed(old, new))

    def unlink(self, name: str) -> bool:
        if self._linked.pop(name, None) is None:
            return False
        self.steps.append(Unlinked(name))
        return True

    def list(self, prefix: str) -> list[str]:
        return sorted(name for name in self._linked if name.startswith(prefix))

    def inode(self, name: str) -> int | None:
        memory = self._linked.get(name)
        return None if memory is None else memory.serial

    def check_owner(self, name: str) -> None:
        """Nobody else is in this memory."""

    @property
    def used_bytes(self) -> int:
        """What the segments with a name take."""
        return sum(len(memory.content) for memory in self._linked.values())

    def content(self, name: str) -> bytearray:
        """The bytes behind a name, to damage them."""
        return self._linked[name].content

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        yield  # there is one process
