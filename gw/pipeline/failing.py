"""What a failure is, and which step it belongs to, where one step walks others (gw.pipeline.joining)."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from gw.expr import SearchTooLong
from gw.pipeline.phases import Step

# Where an exception carries the step that raised it.
_STEP: Final = "_gateway_step"


def failing_step(error: BaseException | None, step: Step) -> Step:
    """The step that raised an error: one that another one walked, or else `step`."""
    found = getattr(error, _STEP, None)
    return found if isinstance(found, Step) else step


def search_too_long(error: BaseException | None) -> SearchTooLong | None:
    """That a text of this request makes a regular expression explode, where that is what failed."""
    for found in (error, getattr(error, "__cause__", None)):
        if isinstance(found, SearchTooLong):
            return found
    return None


def run_step(step: Step, ctx: Any) -> Any:
    """Take a step. What it raises carries it from here on."""
    try:
        return step.run(ctx)
    except Exception as error:
        _blame(error, step)
        raise


async def await_step(outcome: Coroutine[Any, Any, Any], step: Step) -> Any:
    """Wait for what a step that awaits has begun. What it raises carries the step from here on."""
    try:
        return await outcome
    except Exception as error:
        _blame(error, step)
        raise


def _blame(error: Exception, step: Step) -> None:
    with suppress(AttributeError):  # a class without room for it: the log then names the step that walks
        setattr(error, _STEP, step)
