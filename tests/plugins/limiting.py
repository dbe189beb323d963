"""A worker that does nothing but limit: `python -m tests.plugins.limiting DIRECTORY REQUESTS`.

Prints the number of each request that passed, and REFUSED once, for the first that did not.
"""

import asyncio
import sys
from pathlib import Path

from gw.clock import SystemClock
from gw.pipeline.context import Context, Link, Request
from gw.plugins.api import Environment
from gw.plugins.limit_count import LimitCount
from gw.shared.store import SharedStore

COUNT = 500
REFUSED = "refused"
RULES = [
    {"count": COUNT, "time_window": 3600, "key": "$remote_addr"},
    {"count": COUNT * 10, "time_window": 3600, "key": "$request_method"},
]


def main(directory: Path, requests: int) -> None:
    shared = SharedStore.open(directory, 4 << 20, SystemClock())
    loop = asyncio.new_event_loop()
    plugin = LimitCount({"rules": RULES}, Environment(loop=loop, shared=shared), "routes/1")
    link = Link("http", "192.0.2.1", 50000, "192.0.2.254", 9080)
    has_refused = False
    for number in range(requests):
        ctx = Context(Request("GET", b"/", b"", [], link), 0.0)
        if plugin.access(ctx) is None:
            print(number, flush=True)
        elif not has_refused:
            has_refused = True
            print(REFUSED, flush=True)
    loop.close()
    shared.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
