"""The lock files of full rebuilds in gw.run_dir. Agent and workers may be two users, so both open them in one way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# For the workers' group too: to lock a file, the right to read it is enough. Nobody else may hold it for ever.
MODE: Final = 0o640


def open_turn_file(path: Path) -> int:
    """A descriptor of the file, which is made when it is not there. Raises OSError."""
    # Not blocking, because what lies there might be a pipe.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, MODE)


def make_turn_file(path: Path, gid: int | None) -> None:
    """Make the file, for group `gid` where that is given, whatever the umask says. Raises OSError."""
    descriptor = open_turn_file(path)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            if gid is not None:
                os.fchown(descriptor, -1, gid)
            os.fchmod(descriptor, MODE)
    finally:
        os.close(descriptor)
