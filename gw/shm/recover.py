"""What a dead agent of ours left behind, and how much of it can be believed. Changes nothing. For the writer alone."""

import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from gw.errors import SegmentError
from gw.model.digest import digest_of
from gw.model.keys import ResourceKey
from gw.shm.base import Base
from gw.shm.layout import HEADER_BYTES, SLOTS_END, Slot, newest_slot
from gw.shm.log import Ring, decode_records
from gw.shm.names import SegmentNames
from gw.shm.reader import holds_slot, load_content, run_to_end
from gw.shm.segment import Segment, SegmentMissing, SegmentSpace, UntrustedSegment
from gw.shm.snapshot import Entry

log: Final = logging.getLogger(__name__)


@dataclass
class Leftovers:
    """A valid control segment and what it leads to. `entries` None: the slot is good, what it names is not.

    `ring` None: the log cannot be carried on, though the content may be whole without it.
    """

    control: Segment
    slot: Slot
    slot_index: int
    entries: dict[ResourceKey, Entry] | None
    ring: Ring | None
    boundaries: deque[int]  # positions at which the records of the ring begin, oldest first


def find_leftovers(space: SegmentSpace, names: SegmentNames) -> Leftovers | None:
    """None when there is no control segment, or none with a valid slot. Raises UntrustedSegment for a stranger's."""
    control = _open_control(space, names)
    if control is None:
        return None
    found = newest_slot(bytes(control.view[HEADER_BYTES:SLOTS_END]))
    assert found is not None
    index, slot = found
    ring = _open_ring(space, names, slot)
    entries = _find_entries(space, names, slot, ring)
    boundaries = _find_boundaries(ring, slot)
    if ring is not None and boundaries is None:
        ring.segment.close()
        ring = None
    return Leftovers(control, slot, index, entries, ring, boundaries or deque())


def _open_control(space: SegmentSpace, names: SegmentNames) -> Segment | None:
    try:
        control = space.open(names.control, writable=True)
    except SegmentMissing:
        return None
    except UntrustedSegment:
        raise
    except SegmentError as error:
        log.warning("starting anew: %s", error)
        return None
    if holds_slot(control):
        return control
    log.warning("starting anew: %s holds no valid slot", names.control)
    control.close()
    return None


def _open_ring(space: SegmentSpace, names: SegmentNames, slot: Slot) -> Ring | None:
    segment = None
    try:
        segment = space.open(names.log, writable=True)
        ring = Ring.of(segment)
        if ring.epoch != slot.epoch:
            raise SegmentError(f"{names.log} belongs to another epoch than {names.control}")
    except UntrustedSegment:
        raise
    except SegmentError as error:
        log.warning("the change log is not carried on: %s", error)
        if segment is not None:
            segment.close()
        return None
    return ring


def _find_boundaries(ring: Ring | None, slot: Slot) -> deque[int] | None:
    if ring is None:
        return None
    try:
        raw = run_to_end(ring.copy_steps(slot.log_start, slot.log_end))
        return deque(record.position for record in decode_records(raw, slot.log_start))
    except SegmentError as error:
        log.warning("the change log is not carried on: %s", error)
        return None


def _find_entries(
    space: SegmentSpace, names: SegmentNames, slot: Slot, ring: Ring | None
) -> dict[ResourceKey, Entry] | None:
    if not slot.version:
        return {}
    try:
        return _read_entries(space, names, slot, ring)
    except UntrustedSegment:
        raise
    except SegmentError as error:
        log.warning("version %d in shared memory is lost: %s", slot.version, error)
        return None


def _read_entries(space: SegmentSpace, names: SegmentNames, slot: Slot, ring: Ring | None) -> dict[ResourceKey, Entry]:
    if ring is None and slot.log_base != slot.log_end:
        raise SegmentError("its last changes stood in the change log")
    raw = b"" if ring is None else run_to_end(ring.copy_steps(slot.log_base, slot.log_end))
    segment = space.open(names.snapshot(slot.snapshot_number))
    try:
        base = Base(segment, slot)
        loaded = run_to_end(load_content(base, slot, raw))
        entries = loaded.read()
    finally:
        segment.close()
    if digest_of(entry.hash for entry in entries.values()) != slot.digest:
        raise SegmentError("its resources do not add up to its digest")
    return entries
