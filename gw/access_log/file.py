"""The file of the access log, to which several processes append. The only module of this room that does I/O.

Whole lines: a batch is one write with O_APPEND, which on a regular file no other process's write can come into. Into a
pipe it goes in pieces of whole lines that fit PIPE_BUF, for the same reason. What a full disk cuts off is completed by
a line end before the next batch, so that one record is damaged and not two.
"""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from typing import Final

# What is logged is not for everybody on the host; the group may ship it.
_MODE: Final = 0o640
_STANDARD: Final = {"/dev/stdout": 1, "/dev/stderr": 2}


class LogFile:
    """An open log. Every method but the constructor raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._is_regular = False
        self._is_cut = False

    def open(self) -> None:
        """Open the file, and make it and its directory where they are missing. What was open before stays if it fails.

        /dev/stdout and /dev/stderr are those the process has, also where they are sockets, which cannot be opened.
        """
        standard = _STANDARD.get(str(self.path))
        if standard is not None:
            descriptor = os.dup(standard)
        else:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            # Not blocking: a named pipe that nobody reads must not hold us while it is opened.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self.path, flags, _MODE)
            os.set_blocking(descriptor, True)
        self.close()
        self._descriptor = descriptor
        self._is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._is_cut = False

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    @property
    def is_away(self) -> bool:
        """Whether the file was moved or removed, as log rotation does, so that its name leads elsewhere."""
        if not self._is_regular:
            return False
        try:
            return not os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except FileNotFoundError:
            return True

    def write(self, batch: bytes) -> None:
        """Append whole lines. May wait for the disk, or for who reads a pipe."""
        if self._is_cut:
            batch = b"\n" + batch
        for piece in (batch,) if self._is_regular else _pieces(batch, select.PIPE_BUF):
            self._write_all(piece)

    def _write_all(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            written = os.write(self._descriptor, left)
            left = left[written:]
            self._is_cut = bool(left)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _pieces(batch: bytes, limit_bytes: int) -> list[bytes]:
    """The batch in pieces of whole lines, as long as the limit lets them be; a line beyond it is a piece by itself."""
    pieces: list[bytes] = []
    start = 0
    while start < len(batch):
        end = batch.rfind(b"\n", start, start + limit_bytes) + 1
        if end <= start:
            end = batch.find(b"\n", start) + 1 or len(batch)
        pieces.append(batch[start:end])
        start = end
    return pieces
