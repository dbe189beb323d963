"""What version is there, which changes do I lack, or the whole: the worker's side. Writes nothing, keeps no timer.

A reader believes a slot by its checksum, a base by the checksum in the slot, a record by its own, a blob by its content
hash; and it reads control again after it copied from the log, because the writer moves the log's start before it
overwrites. When nothing valid is there it says so, and the caller keeps what it has.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from gw.clock import Clock
from gw.errors import SegmentError
from gw.model.keys import ResourceKey
from gw.shm.base import Base
from gw.shm.layout import (
    CONTROL_BYTES,
    HEADER_BYTES,
    SLOTS_END,
    Slot,
    is_control_header,
    newest_slot,
)
from gw.shm.log import STEP_CHANGES, Change, Record, Ring, check_blob, check_chain, record_steps
from gw.shm.names import SegmentNames
from gw.shm.segment import Segment, SegmentSpace
from gw.shm.snapshot import Entry

# The agent beats twice a second (HEARTBEAT_S of its outlet). Five missed beats, and the segment may be one that nobody
# writes any more.
STALE_AFTER_NS: Final = 3_000_000_000
# How often a reader without a living control segment looks for another. Half of what a person notices; a look costs
# microseconds, a worker that waits for its first configuration should not wait for this.
LOOK_INTERVAL_S: Final = 0.1
# Both slots are torn only for a reader that was overtaken twice during one copy. Once is rare, eight times is damage.
SLOT_ATTEMPTS: Final = 8
# A load fails when the writer overran it or swept its base: the newer slot is there to be read, so no waiting.
LOAD_ATTEMPTS: Final = 5


T = TypeVar("T")


class Cursor(NamedTuple):
    """Up to where a reader has applied the log, and the state it holds by that."""

    epoch: int
    position: int
    version: int
    digest: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole configuration, as of `slot`: what `base` holds, and then `changes`, of each resource the newest.

    All of it is checked but the blobs of the base, which are when they are asked for. Dropping the base unmaps it.
    """

    slot: Slot
    base: Base
    changes: Sequence[Change]
    cursor: Cursor

    def read(self) -> dict[ResourceKey, Entry]:
        """Everything at once, for a caller that wants it all. Raises SegmentError for a damaged blob."""
        entries: dict[ResourceKey, Entry] = {}
        for kind, *columns in self.base.chunks():
            for id, hash, place, routing in zip(*columns, strict=True):
                key = ResourceKey(kind, id)
                entries[key] = Entry(hash, self.base.blob(key, hash, place), routing)
        for change in self.changes:
            entries.pop(change.key, None)
            if change.blob is not None:
                entries[change.key] = Entry(change.hash, change.blob, change.routing)
        return entries


@dataclass(frozen=True, slots=True)
class Changes:
    """What to apply to come from the cursor to `slot`: of each resource the newest value, checked against its hash."""

    slot: Slot
    changes: Sequence[Change]
    cursor: Cursor


class SnapshotReader:
    """One process's view of the configuration in shared memory. Not for several threads at once.

    `problem` says why control could not be opened at the last look, for people; None when it is open.
    """

    def __init__(self, space: SegmentSpace, names: SegmentNames, clock: Clock) -> None:
        self._space = space
        self._names = names
        self._clock = clock
        self._control: Segment | None = None
        self._log: Ring | None = None
        self._raw = b""
        self._slot: Slot | None = None
        self._next_look_s = float("-inf")
        self.problem: str | None = None

    def peek(self) -> Slot | None:
        """The newest valid slot, None when none can be read now. Never raises; microseconds when nothing changed.

        A slot of version 0 means that the agent is there and has published no configuration yet: keep what you have.
        """
        slot = self._newest()
        if (slot is None or self._is_stale(slot)) and self._look():
            slot = self._newest()
        return slot

    def load(self) -> Loaded:
        """The whole configuration. Raises SegmentError when there is none, or none valid."""
        return run_to_end(self.load_steps())

    def load_steps(self) -> Generator[None, None, Loaded]:
        """As `load`, with a yield after each piece, for a caller that has an event loop to run.

        A piece is some 0.1 ms of checking, or of copying or reading the log. The base's index is read later, by who
        takes it in (`Base.chunks`). The state is the one that stood when the load began (or began again).
        """
        problem = SegmentError("no attempt was made")
        for _ in range(LOAD_ATTEMPTS):
            try:
                return (yield from self._load_steps(self.peek()))
            except SegmentError as error:
                problem = error
                self._look(now=True)
        raise problem

    def changes(self, cursor: Cursor) -> Changes | None:
        """What changed after the cursor; an empty list when nothing did.

        None when the log cannot tell: overrun, another epoch, damage, no configuration. Then a full `load` can.
        """
        return run_to_end(self.changes_steps(cursor))

    def changes_steps(self, cursor: Cursor) -> Generator[None, None, Changes | None]:
        """As `changes`, with a yield after each piece (some 0.1 ms)."""
        slot = self.peek()
        if slot is None or not slot.version or slot.epoch != cursor.epoch:
            return None
        if (slot.version, slot.digest) == (cursor.version, cursor.digest):
            return Changes(slot, (), cursor)
        try:
            raw = yield from self._copy_steps(slot, cursor.position)
            newest = yield from _newest_steps(raw, cursor.position, cursor.version, slot)
        except SegmentError:
            return None
        return Changes(slot, newest, _cursor_at(slot))

    def open_base(self, slot: Slot) -> Base:
        """The base that a slot names. Raises SegmentError when it is gone, or is another."""
        segment = self._space.open(self._names.snapshot(slot.snapshot_number))
        try:
            return Base(segment, slot)
        except BaseException:
            segment.close()
            raise

    def close(self) -> None:
        """Unmap control and log. Loaded entries stay readable."""
        self._drop_log()
        if self._control is not None:
            self._control.close()
            self._control = None

    def _load_steps(self, slot: Slot | None) -> Generator[None, None, Loaded]:
        if slot is None:
            raise SegmentError(self.problem or f"{self._names.control} holds no valid slot")
        if not slot.version:
            raise SegmentError(f"{self._names.control} names no configuration yet")
        # The log first: it is what the writer may overwrite. A base stays as it is.
        raw = yield from self._copy_steps(slot, slot.log_base)
        base = self.open_base(slot)
        try:
            return (yield from load_content(base, slot, raw))
        except BaseException:
            base.close()
            raise

    def _copy_steps(self, slot: Slot, position: int) -> Generator[None, None, bytes]:
        if position == slot.log_end:
            return b""
        raw = yield from self._ring(slot.epoch).copy_steps(position, slot.log_end)
        after = self._newest()
        if after is None or after.epoch != slot.epoch or position < after.log_start:
            raise SegmentError(f"{self._names.log} was overwritten while it was read")
        return raw

    def _ring(self, epoch: int) -> Ring:
        if self._log is not None and self._log.epoch != epoch:
            self._drop_log()
        if self._log is None:
            segment = self._space.open(self._names.log)
            try:
                ring = Ring.of(segment)
                if ring.epoch != epoch:
                    raise SegmentError(f"{self._names.log} belongs to another epoch than {self._names.control}")
            except SegmentError:
                segment.close()
                raise
            self._log = ring
        return self._log

    def _drop_log(self) -> None:
        if self._log is not None:
            self._log.segment.close()
            self._log = None

    def _newest(self) -> Slot | None:
        if self._control is None:
            return None
        raw = bytes(self._control.view[HEADER_BYTES:SLOTS_END])
        if raw == self._raw:
            return self._slot
        for _ in range(SLOT_ATTEMPTS):
            found = newest_slot(raw)
            # A copy that the writer overtook may show a slot older than one seen before: that one is no news.
            if found is not None and (self._slot is None or found[1].generation >= self._slot.generation):
                self._raw, self._slot = raw, found[1]
                return self._slot
            raw = bytes(self._control.view[HEADER_BYTES:SLOTS_END])
        return None

    def _is_stale(self, slot: Slot) -> bool:
        return self._clock.monotonic() * 1e9 - slot.heartbeat_ns > STALE_AFTER_NS

    def _look(self, *, now: bool = False) -> bool:
        """Open control by its name, if another segment goes by it than the one we hold. Says whether it did."""
        time_s = self._clock.monotonic()
        if not now and time_s < self._next_look_s:
            return False
        self._next_look_s = time_s + LOOK_INTERVAL_S
        inode = self._space.inode(self._names.control)
        if self._control is not None and inode in (None, self._control.inode):
            return False
        try:
            control = self._space.open(self._names.control)
        except SegmentError as error:
            self.problem = str(error)
            return False
        if not holds_slot(control):
            self.problem = f"{self._names.control} holds no valid slot"
            control.close()
            return False
        self.close()
        self._control, self._raw, self._slot, self.problem = control, b"", None, None
        return True


def run_to_end(steps: Generator[None, None, T]) -> T:
    """Take all steps without a pause, for a caller that has nothing else to do. Their result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result


def holds_slot(control: Segment) -> bool:
    """Whether a segment is a control segment of our format with a valid slot in it."""
    return (
        control.size == CONTROL_BYTES
        and is_control_header(bytes(control.view[:HEADER_BYTES]))
        and newest_slot(bytes(control.view[HEADER_BYTES:SLOTS_END])) is not None
    )


def load_content(base: Base, slot: Slot, raw: bytes) -> Generator[None, None, Loaded]:
    """A base and the records after it (a copy of the log from `slot.log_base` on), as one.

    Raises SegmentError when they do not make up what the slot says.
    """
    yield from base.check_steps()
    newest = yield from _newest_steps(raw, slot.log_base, slot.snapshot_version, slot)
    return Loaded(slot, base, newest, _cursor_at(slot))


def _newest_steps(raw: bytes, position: int, since: int, slot: Slot) -> Generator[None, None, Sequence[Change]]:
    """The newest change of each resource in the records that lead from version `since` to the slot's.

    Raises SegmentError when they do not lead there, or one of them is damaged.
    """
    newest: dict[ResourceKey, Change] = {}
    records: list[Record] = []
    for record in record_steps(raw, position):
        yield
        if record is None:
            continue
        records.append(record)
        for number, change in enumerate(record.changes, 1):
            check_blob(change)
            newest[change.key] = change
            if number % STEP_CHANGES == 0:
                yield
    check_chain(records, since, slot.version, slot.digest)
    return list(newest.values())


def _cursor_at(slot: Slot) -> Cursor:
    return Cursor(slot.epoch, slot.log_end, slot.version, slot.digest)
