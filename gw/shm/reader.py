"""What version is there, which changes do I lack, or the whole: the worker's side. Writes nothing, keeps no timer.

A reader believes a slot by its checksum, a base by the checksum in the slot, a record by its own, a blob by its content
hash; and it reads control again after it copied from the log, because the writer moves the log's start before it
overwrites. When nothing valid is there it says so, and the caller keeps what it has.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gw.clock import Clock
from gw.errors import SegmentError
from gw.model.keys import ResourceKey
from gw.shm.layout import (
    CONTROL_BYTES,
    HEADER_BYTES,
    SLOTS_END,
    Slot,
    is_control_header,
    newest_slot,
)
from gw.shm.log import Change, Record, Ring, check_blobs, check_chain, decode_records
from gw.shm.names import SegmentNames
from gw.shm.segment import Segment, SegmentSpace
from gw.shm.snapshot import EntryRef, decode_steps

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


class Cursor(NamedTuple):
    """Up to where a reader has applied the log, and the state it holds by that."""

    epoch: int
    position: int
    version: int
    digest: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A whole configuration, as of `slot`. The entries' blobs lie in `base` where the log did not replace them.

    Dropping the entries unmaps the base; `base.close()` does it at once, and makes their `blob` raise SegmentError.
    """

    slot: Slot
    entries: dict[ResourceKey, EntryRef]
    cursor: Cursor
    base: Segment


@dataclass(frozen=True, slots=True)
class Changes:
    """What to apply, in this order, to come from the cursor to `slot`. Blobs are checked against their hashes."""

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

        A piece is 128 entries of the base (some 0.3 ms) or one record of the log.
        The state it ends with is the one that stood when it began (or began again).
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
        slot = self.peek()
        if slot is None or not slot.version or slot.epoch != cursor.epoch:
            return None
        if (slot.version, slot.digest) == (cursor.version, cursor.digest):
            return Changes(slot, (), cursor)
        try:
            records = list(decode_records(self._copy(slot, cursor.position), cursor.position))
            check_chain(records, cursor.version, slot.version, slot.digest)
            check_blobs(records)
        except SegmentError:
            return None
        return Changes(slot, [change for record in records for change in record.changes], _cursor_at(slot))

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
        raw = self._copy(slot, slot.log_base)
        base = self._space.open(self._names.snapshot(slot.snapshot_number))
        try:
            return (yield from load_content(base, slot, raw))
        except BaseException:
            base.close()
            raise

    def _copy(self, slot: Slot, position: int) -> bytes:
        if position == slot.log_end:
            return b""
        raw = self._ring(slot.epoch).copy(position, slot.log_end)
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


def run_to_end(steps: Generator[None, None, Loaded]) -> Loaded:
    """Load without a pause, for a caller that has nothing else to do."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            loaded: Loaded = done.value
            return loaded


def holds_slot(control: Segment) -> bool:
    """Whether a segment is a control segment of our format with a valid slot in it."""
    return (
        control.size == CONTROL_BYTES
        and is_control_header(bytes(control.view[:HEADER_BYTES]))
        and newest_slot(bytes(control.view[HEADER_BYTES:SLOTS_END])) is not None
    )


def load_content(base: Segment, slot: Slot, raw: bytes) -> Generator[None, None, Loaded]:
    """A base and the records after it (a copy of the log from `slot.log_base` on), as one.

    Raises SegmentError when they do not make up what the slot says.
    """
    entries = yield from decode_steps(base, slot)
    records = []
    for record in decode_records(raw, slot.log_base):
        _apply(record, entries)
        records.append(record)
        yield
    check_chain(records, slot.snapshot_version, slot.version, slot.digest)
    return Loaded(slot, entries, _cursor_at(slot), base)


def _apply(record: Record, entries: dict[ResourceKey, EntryRef]) -> None:
    for change in record.changes:
        if change.blob is None:
            entries.pop(change.key, None)
        else:
            entries[change.key] = EntryRef(change.hash, change.routing, change.blob, 0, len(change.blob))


def _cursor_at(slot: Slot) -> Cursor:
    return Cursor(slot.epoch, slot.log_end, slot.version, slot.digest)
