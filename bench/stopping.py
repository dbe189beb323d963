"""A benchmark that is told to stop takes with it what it started."""

from __future__ import annotations

import signal
import sys


def clean_up_when_told_to_stop() -> None:
    """SIGTERM ends us as an exception does, so that gateways and segments are closed on the way out.

    Once only: a second one, as who signals a whole process group sends, would break off the closing.
    """
    signal.signal(signal.SIGTERM, _stop)


def _stop(number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)
