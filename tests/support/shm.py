"""What a gateway under test has in /dev/shm: a name that is its alone, a look at what lies there, and its end."""

from __future__ import annotations

import itertools
import os
import shutil

from gw.shared.files import state_directory
from gw.shm.names import SegmentNames
from gw.shm.segment import SHM_DIR

_numbers = itertools.count()


def unique_name() -> str:
    """A `gw.shm.name` that nobody has: no other test, no process beside this one, and no run that was killed."""
    return next(name for number in _numbers if not left_of(name := f"jwtest-{os.getpid()}-{number}"))


def left_of(name: str) -> list[str]:
    """Everything in /dev/shm that a gateway of this name has there: segments, and the directory of its state."""
    return sorted(entry for entry in os.listdir(SHM_DIR) if entry.startswith(f"{name}."))


def segments_of(name: str) -> list[str]:
    """Its segments alone."""
    names = SegmentNames(name)
    return [entry for entry in left_of(name) if names.owns(f"/{entry}")]


def remove_all(name: str) -> None:
    """Take everything away, whoever owns it by then. A process that still has it mapped keeps what it has."""
    # Errors: a worker that was killed a moment ago may still be making files in it.
    shutil.rmtree(state_directory(SegmentNames(name)), ignore_errors=True)
    for entry in left_of(name):
        path = SHM_DIR / entry
        if not path.is_dir():
            path.unlink(missing_ok=True)
