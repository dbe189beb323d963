"""The access log of one worker: takes finished requests, keeps their lines for a moment, hands them to the writer.

A line is formatted when its request ends. To keep the request for later instead would cost the same, since threads of
Python share one core, would hold its headers meanwhile, and would make pauses of what is now spread over requests
(bench/access_log.py compares them).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from gw.access_log.file import LogFile
from gw.access_log.line import LineFormat
from gw.access_log.writer import LogWriter
from gw.clock import Clock, SystemClock
from gw.pipeline.context import Context
from gw.settings.access_log import AccessLogSettings

logger = logging.getLogger(__name__)

# APISIX's `flush=3`: how old a line may grow in memory.
FLUSH_S: Final = 3.0
_STOP_TIMEOUT_S: Final = 5.0


class Timers(Protocol):
    """What is asked of an event loop."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any: ...


class AccessLog:
    """See the module. Made after the fork, on the thread of the loop; `close` it last, when no request is left."""

    __slots__ = ("_buffer_bytes", "_chars", "_format", "_lines", "_timer", "_timers", "_writer")

    def __init__(self, line: LineFormat, writer: LogWriter, timers: Timers, *, buffer_bytes: int) -> None:
        self._format = line.write
        self._writer = writer
        self._timers = timers
        self._buffer_bytes = buffer_bytes
        self._lines: list[str] = []
        self._chars = 0
        self._timer: Any = None

    @classmethod
    def open(
        cls, settings: AccessLogSettings, path: Path, timers: Timers, clock: Clock | None = None
    ) -> AccessLog | None:
        """The log that the settings ask for, None where they ask for none. A file that cannot be opened is reported
        and tried again with each batch; nothing is raised.
        """
        if not settings.enable_access_log:
            return None
        line = LineFormat(settings.access_log_format, settings.access_log_format_escape)
        if line.unknown:
            names = ", ".join(sorted(set(line.unknown)))
            logger.warning("nginx_config.http.access_log_format: no such variable, logged as missing: %s", names)
        writer = LogWriter(LogFile(path), clock or SystemClock())
        writer.start()
        return cls(line, writer, timers, buffer_bytes=settings.access_log_buffer_bytes)

    @property
    def dropped_lines(self) -> int:
        """Lines that did not get into the file."""
        return self._writer.dropped_lines

    def add(self, ctx: Context) -> None:
        """Log a finished request. Keeps nothing of it but the line. Raises nothing: a log must not end a request."""
        try:
            line = self._format(ctx)
        except Exception:
            logger.exception("access log: no line for %s", ascii(ctx.request.target))
            return
        self._lines.append(line)
        self._chars += len(line)
        if self._chars >= self._buffer_bytes:
            self.flush()
        elif self._timer is None:
            self._timer = self._timers.call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Hand the lines on to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._writer.put("".join(self._lines).encode("utf-8", "replace"), len(self._lines))
            self._lines.clear()
            self._chars = 0

    def reopen(self) -> None:
        """Log into a file of that name opened anew, from the next batch on: SIGUSR1. May be called in its handler."""
        self._writer.reopen()

    def close(self) -> None:
        """Write what is there and stop; waits for the disk, for some seconds at most."""
        self.flush()
        self._writer.stop(_STOP_TIMEOUT_S)
