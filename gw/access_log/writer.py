"""The thread that writes: whoever serves requests never waits for the disk, and memory stays bounded when it stalls.

Batches go through a queue. When more bytes wait than may, a batch is dropped and its lines are counted; a batch that
cannot be written (disk full, no permission) is counted, too. Both are told in the error log, at most once a minute, as
nginx does. Nothing stops a worker: a gateway without a log is better than none.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Final, NamedTuple

from gw.access_log.file import LogFile
from gw.clock import Clock

logger = logging.getLogger(__name__)

# What may wait in one worker: seconds of a busy one, and nothing that a host would miss.
MAX_WAITING_BYTES: Final = 4 << 20
_BETWEEN_COMPLAINTS_S: Final = 60.0


class _Batch(NamedTuple):
    """Whole lines."""

    data: bytes
    lines: int


class _Reopen:
    """Open the file anew: somebody has moved it away."""


class _Stop:
    """Nothing comes any more."""


class LogWriter:
    """Writes what `put` is given, in order. Not started before `start`; everything but the thread is for one thread.

    `dropped_lines`: how many did not get into the file since the start.
    """

    def __init__(self, file: LogFile, clock: Clock, *, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._file = file
        self._clock = clock
        self._max_waiting_bytes = max_waiting_bytes
        self._queue: queue.SimpleQueue[_Batch | _Reopen | _Stop] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        # Each has one writer, so that no lock is needed: the first two belong to who calls `put`.
        self._put_bytes = 0
        self._refused_lines = 0
        self._taken_bytes = 0
        self._failed_lines = 0
        self._complained_s = -_BETWEEN_COMPLAINTS_S

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        return self._put_bytes - self._taken_bytes

    @property
    def dropped_lines(self) -> int:
        return self._refused_lines + self._failed_lines

    def put(self, data: bytes, lines: int) -> None:
        """Let whole lines be written. Never waits."""
        if self.waiting_bytes + len(data) > self._max_waiting_bytes:
            self._refused_lines += lines
            self._complain("it is not written as fast as lines come; see what holds up its disk or its reader")
            return
        self._put_bytes += len(data)
        self._queue.put(_Batch(data, lines))

    def reopen(self) -> None:
        """Write what comes from now on to a file of that name, opened anew. May be called in a signal handler."""
        self._queue.put(_Reopen())

    def stop(self, timeout_s: float) -> None:
        """Write what waits and close the file, within that time."""
        self._queue.put(_Stop())
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.error("access log %s: %d bytes were not written in time", self._file.path, self.waiting_bytes)

    def _run(self) -> None:
        self._open()
        while not isinstance(task := self._queue.get(), _Stop):
            if isinstance(task, _Reopen):
                self._open()
            else:
                self._write(task)
                self._taken_bytes += len(task.data)
        self._file.close()

    def _open(self) -> None:
        try:
            self._file.open()
        except OSError as error:
            self._complain(f"cannot be opened: {error.strerror}; see to its directory and its owner")

    def _write(self, batch: _Batch) -> None:
        try:
            # A signal would have to reach every worker through whoever started it; a look costs 2 us a batch.
            if not self._file.is_open or self._file.is_away:
                self._open()
            if not self._file.is_open:
                self._failed_lines += batch.lines
                return
            self._file.write(batch.data)
        except OSError as error:
            self._failed_lines += batch.lines
            self._complain(f"cannot be written: {error.strerror}")

    def _complain(self, reason: str) -> None:
        now = self._clock.monotonic()
        if now - self._complained_s >= _BETWEEN_COMPLAINTS_S:
            self._complained_s = now
            logger.error("access log %s: %s (%d lines lost so far)", self._file.path, reason, self.dropped_lines)
