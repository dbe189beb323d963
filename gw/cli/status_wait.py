"""`gw status --wait`: until every worker of this host serves a revision of the store. What is told, and the exit code.

Without a revision, the one at which the store stands now counts: it is asked for once, at the start, through the agent.
Where that cannot be had, what is published at that moment is waited for instead, and the exit code tells so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from gw.admin.agent_client import AgentClient
from gw.cli import exit_codes
from gw.cli.leftovers import segment_space
from gw.clock import SystemClock
from gw.control.served import is_served, laggards, observed
from gw.errors import AgentUnavailable
from gw.model.operations import Head, Outcome
from gw.settings import Settings
from gw.shm.reader import SnapshotReader

# The agent answers from memory, a store within milliseconds; a longer silence is a finding of its own.
AGENT_TIMEOUT_S: Final = 2.0
# Often enough for a person not to notice; shared memory announces nothing.
_POLL_S: Final = 0.02


class HeadUnknown(Exception):
    """Nobody says how far the store has got; the text says why."""


@dataclass(frozen=True, slots=True)
class Waited:
    """How waiting ended. `lines` are for standard error."""

    exit_code: int
    lines: tuple[str, ...] = ()


def wait_until_served(settings: Settings, timeout_s: float, revision: int | None) -> Waited:
    """Wait until every worker serves `revision` (None: where the store stands now), at most `timeout_s` seconds.

    Exit codes: 0 it is served, 1 it is not, 3 what is published is served and the store could not be asked.
    Raises SegmentError for a stranger's or damaged workers' table.
    """
    space, names = segment_space(settings)
    clock = SystemClock()
    end_s = clock.monotonic() + timeout_s
    unknown = ""
    if revision is None:
        try:
            revision = asyncio.run(_fetch_head(settings))
        except HeadUnknown as reason:
            unknown = str(reason)
    with closing(SnapshotReader(space, names, clock)) as reader:
        if revision is None:
            slot = reader.peek()
            revision = 0 if slot is None else slot.revision
        while not is_served(revision, seen := observed(reader, space, names)) and clock.monotonic() < end_s:
            time.sleep(_POLL_S)
    return outcome(revision, timeout_s, laggards(revision, seen), unknown)


def outcome(revision: int, timeout_s: float, late: Iterable[Mapping[str, Any]], unknown: str) -> Waited:
    """What to say. `late`: who does not serve the revision; `unknown`: why the store could not be asked, or empty."""
    lines = [f"the store's revision of now is not known: {unknown}"] if unknown else []
    behind = [_line(each) for each in late]
    if behind:
        within = f"within {timeout_s:g} s" if timeout_s else "now"
        lines.append(f"revision {revision} is not served by every worker {within}")
        return Waited(exit_codes.FAILED, (*lines, *dict.fromkeys(behind)))
    if unknown:
        lines.append(f"every worker serves the newest published version, revision {revision}")
        return Waited(exit_codes.UNCONFIRMED, tuple(lines))
    return Waited(exit_codes.OK)


def _line(late: Mapping[str, Any]) -> str:
    who = "absent" if late["pid"] is None else f"worker {late['pid']} ({late['state']})"
    return f"  {who}: {late['why']}"


async def _fetch_head(settings: Settings) -> int:
    """Where the store stands. Raises HeadUnknown."""
    client = AgentClient(settings.socket_path)
    try:
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            answer = await client.call(Head())
    except AgentUnavailable as error:
        raise HeadUnknown(str(error)) from None
    except TimeoutError:
        raise HeadUnknown(f"the sync agent and its store did not answer within {AGENT_TIMEOUT_S:g} s") from None
    finally:
        await client.close()
    if answer.outcome is not Outcome.OK:
        raise HeadUnknown(answer.reason)
    return answer.revision
