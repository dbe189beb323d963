"""What a soak writes down: counts, failures, and the excuses that a failure may have."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Final

# For so long after a worker was killed its clients may find out, and after an agent was, the Admin API may say 503.
WORKER_EXCUSE_S: Final = 20.0
AGENT_EXCUSE_S: Final = 15.0


class Book:
    """Shared by all threads of one soak."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stopping = threading.Event()
        self.ending = threading.Event()  # of changes and kills; requests go on
        self._lock = threading.Lock()
        self._doomed: dict[int, float] = {}  # client port -> when the worker that held its connection was killed
        self._agent_away_s = float("-inf")

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def fail(self, what: str) -> None:
        with self._lock:
            self.failures.append(what)

    def doom(self, client_ports: set[int]) -> None:
        """The worker that holds these connections is about to be killed."""
        with self._lock:
            self._doomed |= dict.fromkeys(client_ports, time.monotonic())

    def opened(self, client_port: int) -> None:
        """A new connection goes by this port: what befell an earlier one excuses nothing."""
        with self._lock:
            self._doomed.pop(client_port, None)

    def note_agent_away(self) -> None:
        self._agent_away_s = time.monotonic()

    @property
    def agent_may_be_away(self) -> bool:
        return time.monotonic() < self._agent_away_s + AGENT_EXCUSE_S

    def lost(self, client_port: int | None, what: str) -> None:
        """A connection broke before its answer was whole: excused only where its own worker was killed."""
        with self._lock:
            killed_s = None if client_port is None else self._doomed.pop(client_port, None)
        if killed_s is not None and time.monotonic() < killed_s + WORKER_EXCUSE_S:
            self.count("lost with a killed worker")
        else:
            self.fail(what)


class Work(threading.Thread):
    """A thread of a soak: what it does goes wrong aloud."""

    def __init__(self, book: Book, name: str) -> None:
        super().__init__(name=name)
        self.book = book

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.book.fail(f"{self.name}: {error!r}")

    def work(self) -> None:
        raise NotImplementedError
