"""A measurement in a process of its own: its heap is clean, and it can be stopped when it takes too long."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any


class TookTooLong(Exception):
    """The measurement was stopped."""


def in_child(function: Callable[..., Any], *arguments: Any, timeout_s: float | None = None) -> Any:
    """What `function` returns in a forked child. Raises TookTooLong after `timeout_s`, RuntimeError when it failed.

    Forked, not spawned: a child that begins with our modules loaded costs milliseconds, and all begin alike.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(there, function, arguments))
    child.start()
    there.close()
    try:
        if not here.poll(timeout_s):
            raise TookTooLong(f"{function.__name__} took more than {timeout_s} s")
        result, failure = here.recv()
    except EOFError:
        raise RuntimeError(f"{function.__name__} died without a word") from None
    except BaseException:
        child.terminate()  # nobody waits for it any more; it has segments and processes to close
        raise
    finally:
        here.close()
        child.join(timeout=10)
        if child.is_alive():
            child.kill()
            child.join()
    if failure is not None:
        raise RuntimeError(failure)
    return result


def _run(there: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        there.send((function(*arguments), None))
    except BaseException:
        with suppress(BrokenPipeError):  # when it is nobody's business any more
            there.send((None, traceback.format_exc()))
