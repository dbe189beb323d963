"""One `gw start` for each gateway: a lock file in gw.run_dir that names its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gw.errors import JitterwayError
from gw.settings import Settings
from gw.shm import process


class Holder(NamedTuple):
    """The process that a lock file names. The start time tells it from a later one with the same pid."""

    pid: int
    start_time: int

    @property
    def is_alive(self) -> bool:
        return process.is_alive(self.pid, self.start_time)


class AlreadyRuns(JitterwayError):
    """Another `gw start` holds the lock. `holder` is None when it has not written its name yet."""

    def __init__(self, path: Path, holder: Holder | None) -> None:
        who = f"pid {holder.pid}" if holder is not None else "another process"
        super().__init__(
            f"this gateway already runs: {who} holds {path}; `gw stop` ends it, another gw.shm.name and gw.run_dir "
            "make a second gateway"
        )
        self.holder = holder


# What systemd names RuntimeDirectory= by, colon-separated. There the workers' user may write, unlike in gw.run_dir,
# which is the agent's.
_RUNTIME_VARIABLE: Final = "RUNTIME_DIRECTORY"


def lock_path(settings: Settings, directory: Path | None = None) -> Path:
    """The lock file of a gateway, in `directory` or gw.run_dir."""
    return (directory or settings.gw.run_dir) / f"{settings.gw.shm.name}.gw.lock"


def orders_path(lock: Path) -> Path:
    """The socket on which the holder of this lock takes orders (gw.cli.orders)."""
    return lock.with_suffix(".sock")


def unit_directory(environ: Mapping[str, str]) -> Path | None:
    """The directory that systemd made for the unit we run in; None outside of one, or where it makes none."""
    first = environ.get(_RUNTIME_VARIABLE, "").partition(":")[0]
    return Path(first) if first else None


def find_holder(path: Path) -> Holder | None:
    """The living process that the lock file names; None when there is none. Raises JitterwayError.

    Looks without locking: who starts at that moment would find the lock taken.
    """
    try:
        holder = _parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot_open(path, error) from error
    return holder if holder is not None and holder.is_alive else None


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock, with our pid and start time in the file.

    The kernel drops the lock when we die, however that comes; at the end we also take away the file.
    Raises AlreadyRuns, and JitterwayError when the file cannot be opened.
    """
    descriptor = _locked(path)
    try:
        pid = os.getpid()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d %d\n" % (pid, process.start_time(pid) or 0), 0)
        yield
    finally:
        # While we hold it, the file of that name is ours: `_locked` looks again after locking.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _cannot_open(path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may have taken the file away between our open and our lock.
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            holder = _parse(os.pread(descriptor, 64, 0))
            os.close(descriptor)
            raise AlreadyRuns(path, holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _parse(written: bytes) -> Holder | None:
    try:
        pid, start_time = (int(part) for part in written.split())
    except ValueError:
        return None
    return Holder(pid, start_time)


def _cannot_open(path: Path, error: OSError) -> JitterwayError:
    return JitterwayError(f"cannot open {path}: {error.strerror} (does this gateway belong to another user?)")
