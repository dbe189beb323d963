"""Files of the agent's own: read only when nobody else could have written them, and replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def read_ours(path: Path, forbidden: int) -> bytes:
    """A file's content. Raises ValueError when it belongs to somebody else, or its mode has one of those bits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"it belongs to user {status.st_uid}, not to us")
        if status.st_mode & forbidden:
            raise ValueError(f"others may use it (mode {stat.S_IMODE(status.st_mode):04o}); chmod it to 0600")
        return file.read()


@contextlib.contextmanager
def written_anew(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, 0600, that takes the place of the one at `path` once it is whole and on the disk."""
    aside = path.with_name(f"{path.name}.new" if path.name.startswith(".") else f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.rename(aside, path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    """Make a rename in it outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
