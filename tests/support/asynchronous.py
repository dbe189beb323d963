"""Tests written as coroutines: each runs in an event loop of its own, and never for ever."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

# Far above what any of them takes on a busy machine; a hang is a failure with a traceback of where it hung.
DEADLINE_S = 60.0


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Decorates a coroutine test, so that pytest sees a plain one with the same fixtures."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def within_deadline() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await test(*args, **kwargs)

        asyncio.run(within_deadline())

    return run
