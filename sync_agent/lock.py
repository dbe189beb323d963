"""One agent per run directory and name, whoever starts the second one."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from gw.errors import ConfigError


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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                "gw.run_dir",
                f"a sync agent of this name already runs (pid {holder} holds {path}); stop it, or give this one "
                "another gw.run_dir and gw.shm.name",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(descriptor)
