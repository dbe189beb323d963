"""What is left for the collector, which does not look at what lasts (gw/collector.py)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_kept() -> Iterator[None]:
    """What only the collector finds goes to gc.garbage instead of being freed; it does not run by itself."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def ours_in_the_garbage() -> set[type]:
    """Types of the gateway's, and of gunicorn's, of which something was left."""
    gc.collect()
    return {type(each) for each in gc.garbage if type(each).__module__.startswith(("gunicorn", "gw."))}
