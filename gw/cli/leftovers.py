"""What a gateway leaves on its host when its `gw start` was killed, and taking that away."""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gw.cli.run_lock import lock_path, orders_path
from gw.clock import Clock
from gw.control.convergence import living_processes
from gw.errors import SegmentError
from gw.settings import Settings
from gw.shared.files import remove_state, state_directory
from gw.shm.layout import FORMAT
from gw.shm.names import SegmentNames
from gw.shm.segment import SHM_DIR, PosixSpace, unlink_all
from gw.shm.trust import Trust

# For the children of a `gw start` that was killed a moment ago: they end by themselves when nothing is in flight.
LEFTOVERS_END_S: Final = 5.0

log: Final = logging.getLogger(__name__)


def segment_space(settings: Settings) -> tuple[PosixSpace, SegmentNames]:
    """The shared memory of a gateway. Raises SegmentError when the host does not know its users or group."""
    return PosixSpace(settings.gw.shm.owners, settings.gw.shm.group), SegmentNames(settings.gw.shm.name)


def still_living(settings: Settings, clock: Clock, wait_s: float) -> list[tuple[str, int]]:
    """(what it is, pid) of the gateway's processes, after giving them `wait_s` seconds to end.

    The children of a killed `gw start` end by themselves, but not at once.
    """
    space, names = segment_space(settings)
    end_s = clock.monotonic() + wait_s
    while living := living_processes(space, names, clock):
        left_s = end_s - clock.monotonic()
        if left_s <= 0 or not wait_for_end([pid for _, pid in living], left_s):
            break
    return living


def of_other_versions(settings: Settings) -> str:
    """For people: segments that this code does not read, for another version of it has made them. Empty: none."""
    space, names = segment_space(settings)
    formats = {names.format_of(name) for name in space.list(f"/{names.name}.v")} - {None, FORMAT}
    found = ", ".join(f"{SHM_DIR}/{names.name}.v{number}.*" for number in sorted(filter(None, formats)))
    return found and f"{found} is of another version of Jitterway: processes that use it are not seen by this one"


def wait_for_end(pids: Iterable[int], timeout_s: float) -> bool:
    """Wait until one of the processes ends; False when the time is over first. No parentage is needed."""
    with contextlib.ExitStack() as opened:
        poller = select.poll()
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                return True
            opened.callback(os.close, pidfd)
            poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))


def remove_leftovers(settings: Settings) -> list[str]:
    """Take away segments, shared state and sockets of a gateway of which no process lives; the names of what was there.

    A stranger's among them is left where it is, and logged.
    """
    space, names = segment_space(settings)
    gone = unlink_all(space, names)
    state = state_directory(names)
    try:
        if remove_state(state, Trust(settings.gw.shm.owners)):
            gone.append(str(state))
    except SegmentError as error:
        log.warning("%s", error)
    sockets = (settings.socket_path, orders_path(lock_path(settings)))
    return gone + [str(path) for path in sockets if _unlinked(path)]


def _unlinked(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def describe(living: list[tuple[str, int]]) -> str:
    """`sync agent 12, worker 34`, for messages."""
    return ", ".join(f"{what} {pid}" for what, pid in living)
