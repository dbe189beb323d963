"""One agent per run directory and name, whoever starts the second one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gw.errors import ConfigError
from gw.shm import process

# A killed process is a zombie while its last threads let go of what they hold, which takes a write to the disk at most.
DYING_HOLDER_S: Final = 2.0


@contextlib.contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Hold the file's exclusive lock, with our pid in it. The kernel drops it when we die, however we die.

    Raises ConfigError naming the holder when another process has it, or the file when it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError("gw.run_dir", f"cannot open {path}: {error.strerror}") from error
    try:
        _take(descriptor, path)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    ends_s = time.monotonic() + DYING_HOLDER_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        if time.monotonic() > ends_s or not holder.isdecimal() or process.start_time(int(holder)) is not None:
            raise ConfigError(
                "gw.run_dir",
                f"a sync agent of this name already runs (pid {holder} holds {path}); stop it, or give this one "
                "another gw.run_dir and gw.shm.name",
            )
        time.sleep(0.01)
