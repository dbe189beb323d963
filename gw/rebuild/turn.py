"""The cap on how many workers of a host rebuild in full at once: so many lock files, a worker holds one while it does.

The locks are flock's: the kernel drops them when their holder dies, however it dies. Each worker opens the files
itself, after the fork; with a descriptor opened before, all workers would hold the lock together.

Where the files cannot be opened or locked there is no cap: a worker that never took up a new version would be worse
than several that do so at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gw.shm.turn_file import open_turn_file

log = logging.getLogger(__name__)

# Held in place of a lock's number where there is no cap.
_NO_CAP: Final = -1


class Turn:
    """One worker's turn. `paths` are the lock files, as many as there are turns (none: no cap).

    Nothing is opened before `take`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._descriptors: list[int] = []
        self._held: int | None = None
        self._complained = False

    @property
    def is_held(self) -> bool:
        return self._held is not None

    def take(self) -> bool:
        """Whether this worker has a turn now: held already, free, or not to be had where there is no cap.

        Never waits: asked again and again by who wants one.
        """
        if self._held is None:
            try:
                self._held = self._lock_one()
            except OSError as error:
                self._do_without(error)
                self._held = _NO_CAP
        return self._held is not None

    def release(self) -> None:
        """Let another worker have it. Harmless when none is held."""
        if self._held is not None and self._held != _NO_CAP:
            fcntl.flock(self._descriptors[self._held], fcntl.LOCK_UN)
        self._held = None

    def close(self) -> None:
        """Close the files, which releases too."""
        self._held = None
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _lock_one(self) -> int | None:
        if not self._paths:
            return _NO_CAP
        if not self._descriptors:
            self._open()
        for number, descriptor in enumerate(self._descriptors):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return number
        return None

    def _open(self) -> None:
        try:
            for path in self._paths:
                self._descriptors.append(open_turn_file(path))
        except OSError:
            self.close()
            raise

    def _do_without(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            log.warning("gw.rebuild.max_concurrent_full does nothing: %s; full rebuilds go on without a cap", error)
