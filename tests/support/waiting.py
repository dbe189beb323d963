"""Waiting for something to become true, with a deadline and a message: never a bare sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Far above what anything takes on a machine that is busy with other things as well: only what has failed waits so long.
DEADLINE_S = 60.0


def wait_until(condition: Callable[[], T], *, what: str, deadline_s: float = DEADLINE_S, every_s: float = 0.02) -> T:
    """The first truthy answer of `condition`. An OSError counts as not yet. Fails naming `what` after `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while True:
        try:
            answer = condition()
        except OSError as error:
            answer, last = None, repr(error)
        else:
            last = repr(answer)
        if answer:
            return answer
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {deadline_s} s: {what} (last: {last})")
        time.sleep(every_s)
