"""Python's cyclic collector on a large heap that is built without cycles.

A collection walks every container it has not frozen, and looks at everything these refer to. On a heap of 100,000
routes that is a cache miss for each reference, some 0.8 us for a container (measured; 0.04 us where all is in the
cache): a full collection stops the loop for hundreds of milliseconds and finds nothing, and a young one of 10,000 for
8 ms. So what lasts is frozen, and no collection ever walks it again: what a rebuild makes at the end of each of its
slices, and whatever outlives two collections. Freezing costs nothing, whatever the number of objects.

The price: a cycle that is frozen alive and let go of later is never found. Objects that last (connections, routes,
tables) must not end in cycles; tests/server/test_worker_memory.py holds us to it.
"""

from __future__ import annotations

import gc
from typing import Any, Final

# Objects made and not freed before a young collection: under 1 ms, as long as a slice of a rebuild may hold the loop.
YOUNG_OBJECTS: Final = 1000
# Young collections before the next generation is walked, and what is left of both is frozen: at most 3,000 objects.
YOUNG_PER_MIDDLE: Final = 1
# Never reached: nothing is left for the oldest generation.
MIDDLE_PER_OLD: Final = 1000


def calm_collector() -> None:
    """Collect less often, and what lasts not at all. Call it before the first configuration is built."""
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_PER_MIDDLE, MIDDLE_PER_OLD)
    if _freeze_survivors not in gc.callbacks:
        gc.callbacks.append(_freeze_survivors)


def settle_heap() -> None:
    """Take what is there now for long-lived. Call it once, with the first configuration built and no traffic yet."""
    gc.collect()
    gc.freeze()


def keep_objects() -> None:
    """Take what was made since the last collection for long-lived: most of it is, after a slice of a rebuild."""
    gc.freeze()


def _freeze_survivors(phase: str, info: dict[str, Any]) -> None:
    if phase == "stop" and info["generation"] > 0:
        gc.freeze()
