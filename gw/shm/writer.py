"""The only writer of control, snapshot and log: for the agent alone, one per host.

Whatever the moment at which it is killed, the newest valid slot names a base and every record after it, and both are
whole. Each publish keeps this order: first a slot that no longer names what is about to be overwritten, then the bytes,
then the slot that names them. Its own memory (`entries`, `version`, `digest`) follows only after the last store, so a
publish that failed has changed nothing and may be repeated with the same changes.
"""

import logging
import os
import random
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from gw.clock import Clock
from gw.errors import SegmentError
from gw.model.digest import DIGEST_MASK, digest_of
from gw.model.keys import ResourceKey
from gw.shm import process
from gw.shm.base_writer import BaseWriter, WrittenBase
from gw.shm.layout import CONTROL_BYTES, AgentState, Slot, pack_control_header, pack_slot, slot_offset
from gw.shm.log import MIN_LOG_BYTES, Change, Ring, encode_record
from gw.shm.names import SegmentNames, aside
from gw.shm.recover import Leftovers, find_leftovers
from gw.shm.segment import AGENT_MODE, Segment, SegmentSpace
from gw.shm.snapshot import Entry

# A record larger than this share of the ring would push out the history of readers that lag a little: those who have to
# take in that much are as well served by a new base.
RECORD_SHARE: Final = 4
# Records after the base may fill this share before a new base is begun. The rest is what may be published while it is
# written; a full load replays little more than this much; and a new base, which costs the whole configuration, comes
# once per so many bytes of changes.
BASE_SHARE: Final = 2
# When room is made, at least this share at once: else every publish on a full ring would cost a slot more.
ROOM_SHARE: Final = 8
# A new base that found no room is tried again after so much of the ring has been filled further.
RETRY_SHARE: Final = 16

log: Final = logging.getLogger(__name__)


class _Renewal(NamedTuple):
    """A base that is being written for a version that was published already."""

    steps: Generator[None, None, WrittenBase]
    log_base: int  # where the first record after that version stands


class Publisher:
    """Publishes versions of the configuration. Made by `attach`; not for several threads.

    Raises SegmentError from whatever needs room in /dev/shm and finds none; the last version then stays published.
    """

    def __init__(
        self, space: SegmentSpace, names: SegmentNames, log_size_bytes: int, clock: Clock, rng: Random
    ) -> None:
        self._space = space
        self._names = names
        self._log_size_bytes = log_size_bytes
        self._clock = clock
        self._rng = rng
        self._entries: dict[ResourceKey, Entry] = {}
        self._control: Segment | None = None
        self._ring: Ring | None = None
        self._boundaries: deque[int] = deque()  # positions at which the ring's records begin, oldest first
        self._slot_index = 0
        self._retry_base_at = 0
        self._bases = BaseWriter(space, names)
        self._renewal: _Renewal | None = None
        pid = os.getpid()
        self._slot = Slot(AgentState.STARTING, agent_pid=pid, agent_start_time=process.start_time(pid) or 0)
        self.recovered = False

    @classmethod
    def attach(
        cls,
        space: SegmentSpace,
        names: SegmentNames,
        *,
        log_size_bytes: int,
        clock: Clock,
        rng: Random | None = None,
    ) -> "Publisher":
        """Take over what an agent of ours left, as far as it is valid; else begin a new epoch with version 0.

        `log_size_bytes` is that of the log segment, at least 1 KiB. Another size than the one found is a new epoch with
        the same content. Raises UntrustedSegment for segments of a stranger, SegmentError when there is no room, and
        ValueError for a log too small.
        """
        if log_size_bytes < MIN_LOG_BYTES:
            raise ValueError(f"a change log of {log_size_bytes} bytes: at least {MIN_LOG_BYTES} are needed")
        for name in (names.control, names.log, aside(names.control), aside(names.log)):
            space.check_owner(name)
        publisher = cls(space, names, log_size_bytes, clock, rng or random.SystemRandom())
        try:
            publisher._begin(find_leftovers(space, names))
        except BaseException:
            publisher.close()
            raise
        return publisher

    @property
    def epoch(self) -> int:
        return self._slot.epoch

    @property
    def version(self) -> int:
        """0 until something was published, the empty configuration included."""
        return self._slot.version

    @property
    def digest(self) -> int:
        return self._slot.digest

    @property
    def revision(self) -> int:
        """The store revision up to which everything is published."""
        return self._slot.revision

    @property
    def slot(self) -> Slot:
        """What was published last."""
        return self._slot

    @property
    def entries(self) -> MappingProxyType[ResourceKey, Entry]:
        """The published configuration: one live view for the publisher's whole life."""
        return MappingProxyType(self._entries)

    def restore(self, entries: Mapping[ResourceKey, Entry], version: int, revision: int) -> int:
        """Publish a whole configuration kept elsewhere (last good), under its own version if that is a new one.

        Versions go on from there. Returns the version it has now, which is never one that was given out before.
        """
        version = max(version, self._slot.highest_version + 1)
        digest = digest_of(entry.hash for entry in entries.values())
        self._publish_base(entries, version, digest, revision=revision)
        restored = dict(entries)
        self._entries.clear()
        self._entries.update(restored)
        return version

    def publish(self, changes: Iterable[Change], revision: int, state: AgentState) -> int:
        """Make the changes the next version, and return it. Costs what changed, not what is there.

        Changes that change nothing (equal hash; deleting what is absent) are dropped, and of several to one resource
        the last one counts. When none is left, only revision and state are published, under the same version; but the
        first publish is a version even when it is empty. After a SegmentError nothing has happened: repeat it when
        there is room.
        """
        effective = self._effective(changes)
        if not effective and self._slot.version:
            self._store_slot(revision=revision, state=state)
            return self._slot.version
        version = self._slot.highest_version + 1
        digest = self._digest_after(effective)
        record = self._encode_if_small(effective, version, revision, digest)
        if record is None:
            self._publish_base(self._merged(effective), version, digest, revision=revision, state=state)
        else:
            self._publish_record(record, version, digest, revision=revision, state=state)
        self._commit(effective)
        return version

    def renew_step(self) -> bool:
        """Write a piece of a new base, if one is due: under a millisecond. Whether there is more to do.

        To be called between publishes, again and again. A publish does not wait for it, except where the ring is about
        to overwrite the records after the base: that one does what is left.
        """
        if self._renewal is None:
            if not self._is_base_due():
                return False
            self._begin_renewal()
            return True
        try:
            self._advance_renewal()
        except SegmentError as error:
            assert self._ring is not None
            # Nothing is lost: the versions are published, and there is still room in the ring.
            log.warning("the base is not renewed yet: %s", error)
            self._retry_base_at = self._slot.log_end + self._ring.ring_bytes // RETRY_SHARE
        return self._renewal is not None

    def touch(self, state: AgentState, revision: int | None = None) -> None:
        """Heartbeat: the same version again, with the time, the state and the processed revision.

        Also writes everything anew when somebody took a segment away from under us. Raises SegmentError when that
        fails.
        """
        self._store_slot(state=state, revision=self._slot.revision if revision is None else revision)
        if not self._is_intact():
            log.warning("segments of %s were removed by somebody: writing them anew", self._names.prefix)
            self._begin_epoch()

    def sweep(self, used_snapshots: Iterable[int]) -> list[int]:
        """Unlink the bases that are neither published nor in `used_snapshots`; their numbers."""
        return self.unlink_bases(self.find_unneeded(used_snapshots))

    def find_unneeded(self, used_snapshots: Iterable[int]) -> list[int]:
        """The bases that `sweep` would unlink. A number is never given out twice, so they stay unneeded."""
        keep = {self._slot.snapshot_number, *used_snapshots}
        found = filter(None, map(self._names.snapshot_number, self._space.list(self._names.prefix)))
        # What has a number above the published one may be what is being written.
        return [n for n in found if n not in keep and (self._renewal is None or n < self._slot.snapshot_number)]

    def unlink_bases(self, numbers: Iterable[int]) -> list[int]:
        """Unlink bases that are not needed; those that are gone now. In any thread: to free 50 MB takes 10 ms."""
        gone = []
        for number in numbers:
            with suppress(SegmentError):  # a stranger's: not ours to remove, and no reason to stop
                if self._space.unlink(self._names.snapshot(number)):
                    gone.append(number)
        return gone

    def close(self) -> None:
        """Unmap. Unlinks nothing that is named: workers and the next agent go on from what is there."""
        self._abandon_renewal()
        if self._control is not None:
            self._control.close()
        if self._ring is not None:
            self._ring.segment.close()

    # Taking over, and beginning anew.

    def _begin(self, left: Leftovers | None) -> None:
        if left is None:
            self._begin_epoch()
            return
        self._control, self._slot_index, self._ring = left.control, left.slot_index, left.ring
        self._slot = replace(
            left.slot,
            state=AgentState.STARTING,
            agent_pid=self._slot.agent_pid,
            agent_start_time=self._slot.agent_start_time,
        )
        self._boundaries = left.boundaries
        self._bases.note_number(left.slot.snapshot_number)
        if left.entries is None:
            self._begin_epoch(is_lost=True)
            return
        self._entries.update(left.entries)
        self.recovered = left.slot.version > 0
        if left.ring is None:
            self._begin_epoch()
        elif left.ring.segment.size != self._log_size_bytes:
            self._resize_log()
        else:
            self._store_slot()

    def _resize_log(self) -> None:
        try:
            self._begin_epoch()
        except SegmentError as error:
            log.warning("the change log keeps its size: %s", error)
            self._store_slot()

    def _begin_epoch(self, *, is_lost: bool = False) -> None:
        """New control and log segments, written aside and put in place one after the other; control last.

        In between, the old control (if it is any good) names a base that holds everything, and no record.
        """
        self._abandon_renewal()
        version = 0 if is_lost else self._slot.version
        # Random, so that it differs from every one a worker may remember; 0 is left for "none".
        epoch = self._rng.getrandbits(64) or 1
        base = self._bases.write(self._entries, version, self._slot.digest) if version else WrittenBase()
        made: list[str] = []
        try:
            ring = Ring.prepare(self._create_aside(self._names.log, self._log_size_bytes, made), epoch)
            control = self._create_aside(self._names.control, CONTROL_BYTES, made)
            if self._control is not None and version:
                self._store_slot(**base._asdict(), log_start=self._slot.log_end, log_base=self._slot.log_end)
                self._boundaries.clear()
            slot = replace(
                self._slot,
                **base._asdict(),
                generation=1,
                epoch=epoch,
                version=version,
                digest=self._slot.digest if version else 0,
                revision=self._slot.revision if version else 0,
                log_start=0,
                log_base=0,
                log_end=0,
                heartbeat_ns=self._heartbeat_ns(),
            )
            control.store(0, pack_control_header())
            control.store(slot_offset(0), pack_slot(slot))
            self._space.rename(aside(self._names.log), self._names.log)
            self._space.rename(aside(self._names.control), self._names.control)
        except BaseException:
            self._discard(made, base)
            raise
        self._retire()
        self._control, self._ring, self._slot, self._slot_index = control, ring, slot, 0
        self._boundaries, self._retry_base_at = deque(), 0

    def _create_aside(self, name: str, size: int, made: list[str]) -> Segment:
        self._space.unlink(aside(name))
        segment = self._space.create(aside(name), size, AGENT_MODE)
        made.append(aside(name))
        return segment

    def _discard(self, made: Iterable[str], base: WrittenBase) -> None:
        if base.snapshot_number and base.snapshot_number != self._slot.snapshot_number:
            made = (*made, self._names.snapshot(base.snapshot_number))
        for name in made:
            with suppress(SegmentError):
                self._space.unlink(name)

    def _retire(self) -> None:
        """Let go of the old control; whoever still reads it sees no heartbeat, and looks for the new one at once."""
        if self._control is not None:
            self._store_slot(heartbeat_ns=0)
        self.close()

    def _is_intact(self) -> bool:
        assert self._control is not None
        assert self._ring is not None
        number = self._slot.snapshot_number
        return (
            self._space.inode(self._names.control) == self._control.inode
            and self._space.inode(self._names.log) == self._ring.segment.inode
            and (not number or self._space.inode(self._names.snapshot(number)) is not None)
        )

    # One version.

    def _effective(self, changes: Iterable[Change]) -> dict[ResourceKey, Change]:
        last = {change.key: change for change in changes}
        return {key: change for key, change in last.items() if self._changes_something(change)}

    def _changes_something(self, change: Change) -> bool:
        present = self._entries.get(change.key)
        if change.blob is None:
            return present is not None
        return present is None or present.hash != change.hash

    def _digest_after(self, changes: Mapping[ResourceKey, Change]) -> int:
        digest = self._slot.digest
        for key, change in changes.items():
            if (present := self._entries.get(key)) is not None:
                digest -= present.hash
            if change.blob is not None:
                digest += change.hash
        return digest & DIGEST_MASK

    def _encode_if_small(
        self, changes: Mapping[ResourceKey, Change], version: int, revision: int, digest: int
    ) -> bytes | None:
        """The record for these changes; None where a new base takes its place."""
        assert self._ring is not None
        limit_bytes = self._ring.ring_bytes // RECORD_SHARE
        is_chained = version == self._slot.version + 1 and self._slot.version > 0
        if not is_chained or sum(len(change.blob or b"") for change in changes.values()) > limit_bytes:
            return None
        record = encode_record(version, self._slot.log_end, revision, digest, changes.values())
        return record if len(record) <= limit_bytes else None

    def _publish_record(self, record: bytes, version: int, digest: int, **fields: Any) -> None:
        assert self._ring is not None
        self._make_room(len(record))
        position = self._slot.log_end
        self._ring.write(position, record)
        self._store_version(version, digest, log_end=position + len(record), **fields)
        self._boundaries.append(position)

    def _make_room(self, length: int) -> None:
        """Publish a log start that excludes what a record of this length will overwrite."""
        assert self._ring is not None
        ring_bytes = self._ring.ring_bytes
        needed = self._slot.log_end + length - ring_bytes
        if needed <= self._slot.log_start:
            return
        while needed > self._slot.log_base:  # renewals found no room, or no time
            self._finish_renewal()
        wanted = min(needed + ring_bytes // ROOM_SHARE, self._slot.log_base)
        while self._boundaries and self._boundaries[0] < wanted:
            self._boundaries.popleft()
        start = self._boundaries[0] if self._boundaries else self._slot.log_end
        self._store_slot(log_start=start)

    def _publish_base(self, entries: Mapping[ResourceKey, Entry], version: int, digest: int, **fields: Any) -> None:
        """A version without a record: no reader can come to it by the log, so the log is empty after it."""
        self._abandon_renewal()
        base = self._bases.write(entries, version, digest)
        end = self._slot.log_end
        self._store_version(version, digest, **base._asdict(), log_start=end, log_base=end, **fields)
        self._boundaries.clear()

    def _is_base_due(self) -> bool:
        assert self._ring is not None
        after_base = self._slot.log_end - self._slot.log_base
        return after_base * BASE_SHARE > self._ring.ring_bytes and self._slot.log_end >= self._retry_base_at

    def _begin_renewal(self) -> None:
        steps = self._bases.steps(self._entries.copy(), self._slot.version, self._slot.digest)
        self._renewal = _Renewal(steps, self._slot.log_end)

    def _advance_renewal(self) -> None:
        """The next step of the renewal. With the last one, its base is the published one."""
        assert self._renewal is not None
        renewal = self._renewal
        try:
            next(renewal.steps)
        except StopIteration as done:
            self._renewal = None
            self._store_slot(**done.value._asdict(), log_base=renewal.log_base)
        except SegmentError:
            self._renewal = None
            raise

    def _finish_renewal(self) -> None:
        """The rest of the renewal under way, or all of one, at once."""
        if self._renewal is None:
            self._begin_renewal()
        while self._renewal is not None:
            self._advance_renewal()

    def _abandon_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.steps.close()
            self._renewal = None

    def _merged(self, changes: Mapping[ResourceKey, Change]) -> Mapping[ResourceKey, Entry]:
        merged = dict(self._entries)
        _apply(changes, merged)
        return merged

    def _commit(self, changes: Mapping[ResourceKey, Change]) -> None:
        _apply(changes, self._entries)

    # Stores.

    def _store_version(self, version: int, digest: int, **fields: Any) -> None:
        wall_ns = int(self._clock.wall() * 1e9)
        self._store_slot(version=version, highest_version=version, digest=digest, published_wall_ns=wall_ns, **fields)

    def _store_slot(self, **fields: Any) -> None:
        """Write the older slot; from then on it is the newest."""
        assert self._control is not None
        slot = replace(
            self._slot, **{"heartbeat_ns": self._heartbeat_ns(), **fields}, generation=self._slot.generation + 1
        )
        index = 1 - self._slot_index
        self._control.store(slot_offset(index), pack_slot(slot))
        self._slot, self._slot_index = slot, index

    def _heartbeat_ns(self) -> int:
        return int(self._clock.monotonic() * 1e9)


def _apply(changes: Mapping[ResourceKey, Change], entries: dict[ResourceKey, Entry]) -> None:
    for key, change in changes.items():
        if change.blob is None:
            del entries[key]
        else:
            entries[key] = Entry(change.hash, change.blob, change.routing)
