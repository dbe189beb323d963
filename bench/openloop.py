"""Open-loop load at a constant rate, in a process of its own, for any benchmark.

    with OpenLoop(port, requests) as load:
        load.warm_up()
        block = load.run(2_000, 20.0)
        print(block.quantile_ms(99), block.errors, block.late_ms(99))

See `bench.generator` for what "open loop" promises. A block in which the generator itself was late says so (`invalid`):
its figures are the generator's and not those of what was measured.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

from bench.block import Block
from bench.generator import Generator, Limits
from bench.processes import pin, raise_priority

_POLL_S: Final = 0.005
# Before the backend, which answers a burst in one go as well.
_PRIORITY: Final = 2


class OpenLoop:
    """The handle on a generator process. `core`: the one it is kept on; None leaves it to the kernel.

    `late_limit_ms`: a block is invalid when the generator took up one request in a hundred later than this.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        *,
        limits: Limits | None = None,
        core: int | None = None,
        late_limit_ms: float = 1.0,
    ) -> None:
        self._late_limit_ms = late_limit_ms
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, port, list(requests), limits or Limits(), core), name="load", daemon=True
        )
        self._process.start()
        theirs.close()
        self.has_priority = bool(self._orders.recv())

    def __enter__(self) -> OpenLoop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._orders.send(None)
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._orders.close()

    def warm_up(self) -> Counter[str]:
        """Send each request once. Raises SystemExit, naming what was answered, when that is not 200 throughout."""
        ended: Counter[str] = self._ask(("warm_up",), lambda: None)
        failed = {what: count for what, count in ended.items() if what != "200" and count}
        if failed:
            raise SystemExit(f"requests failed, so nothing was measured: {failed} of {ended.total()}")
        return ended

    def run(self, rate_per_s: float, seconds: float, *, meanwhile: Callable[[], None] = lambda: None) -> Block:
        """One block. `meanwhile` is called every 5 ms or so while it runs."""
        return Block(self._ask(("run", rate_per_s, seconds), meanwhile), rate_per_s, seconds, self._late_limit_ms)

    def _ask(self, order: tuple[Any, ...], meanwhile: Callable[[], None]) -> Any:
        self._orders.send(order)
        while not self._orders.poll(_POLL_S):
            meanwhile()
            if not self._process.is_alive():
                raise SystemExit("the load generator ended by itself")
        return self._orders.recv()


def request_bytes(path: str, host: str, method: str = "GET") -> bytes:
    """A request without a body, as `OpenLoop` takes it."""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\n\r\n".encode()


def _serve(orders: Connection, port: int, requests: list[bytes], limits: Limits, core: int | None) -> None:
    """What the process does: orders come through the pipe, and it ends with the pipe."""
    if core is not None:
        pin([os.getpid()], core)
    orders.send(raise_priority([os.getpid()], _PRIORITY))
    generator = Generator(port, requests, limits)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt), contextlib.closing(generator):
        while (order := orders.recv()) is not None:
            orders.send(getattr(generator, order[0])(*order[1:]))
