"""`gw status`: who serves which version. From shared memory, and from the agent where it answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from gw.admin.agent_client import AgentClient
from gw.cli import exit_codes
from gw.cli.leftovers import segment_space
from gw.clock import SystemClock
from gw.control.convergence import observed_convergence
from gw.errors import AgentUnavailable
from gw.model.operations import Status
from gw.settings import Settings, load_settings
from gw.shm.reader import SnapshotReader

# The agent answers from memory; a longer silence is a finding of its own.
_AGENT_TIMEOUT_S: Final = 2.0
# Ten looks within the time a person waits without noticing; shared memory announces nothing.
_WAIT_POLL_S: Final = 0.02

_HEADINGS: Final = (
    *("WORKER", "STATE", "VERSION", "DIGEST", "APPLIED AT"),
    *("REBUILD", "TOOK", "JITTER", "STALE", "PROBLEMS"),
)


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 the gateway is there (with --wait: converged), 1 nothing of it runs, or not converged in time."""
    settings = load_settings(arguments.config)
    status = _look(settings) if arguments.wait is None else _wait(settings, arguments.wait)
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        print(table(status, settings.gw.shm.name))
    if arguments.wait is not None and not status["converged"]:
        print(f"gw: not converged within {arguments.wait:g} s", file=sys.stderr)
        return exit_codes.FAILED
    return exit_codes.OK if is_running(status) else exit_codes.FAILED


def is_running(status: Mapping[str, Any]) -> bool:
    """Whether any process of the gateway lives."""
    return bool(status["agent"]["alive"] or any(worker["alive"] for worker in status["workers"]))


def table(status: Mapping[str, Any], name: str) -> str:
    """The same for people."""
    if not is_running(status):
        return f"nothing of {name!r} runs"
    converged = "every worker serves the newest version" if status["converged"] else "not converged"
    lines = [f"{name}: {converged}", "", *_agent_lines(status["agent"]), ""]
    lines += _aligned([_HEADINGS, *(_worker_row(worker) for worker in status["workers"])])
    if len(status["workers"]) < status["expected_workers"]:
        lines.append(f"{status['expected_workers']} workers are expected")
    return "\n".join(lines)


def _agent_lines(agent: Mapping[str, Any]) -> list[str]:
    if agent["pid"] is None:
        return ["agent    none has published yet"]
    lines = [f"agent    pid {agent['pid']}, {agent['state']}"]
    if not agent["alive"]:
        lines[0] += ": changes wait for it, traffic goes on"
    elif not agent["answers"]:
        lines[0] += ", does not answer on its socket: what it rejects is not known"
    if agent["version"] is not None:
        lines.append(
            f"         version {agent['version']}, revision {agent['revision']}, digest {agent['digest']}, "
            f"heartbeat {agent['heartbeat_age_ms']} ms ago"
        )
    if agent["store"] is not None:
        lines.append(f"         store {agent['store']}, {agent['resources']} resources")
    if agent["problem"]:
        lines.append(f"problem  {agent['problem']}")
    lines += [f"rejected {item['kind']}/{item['id']}: {item['reason']}" for item in agent["rejected"] or ()]
    hidden = (agent["rejected_count"] or 0) - len(agent["rejected"] or ())
    if hidden > 0:
        lines.append(f"rejected {hidden} more")
    return lines


def _worker_row(worker: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(worker["pid"]),
        worker["state"] if worker["current"] or not worker["alive"] else f"{worker['state']}, behind",
        str(worker["version"]),
        worker["digest"],
        worker["applied_at"] or "-",
        worker["rebuild_kind"],
        f"{worker['rebuild_duration_ms']:.1f} ms",
        f"{worker['jitter_ms']} ms",
        f"{worker['staleness_ms']} ms",
        str(worker["problems"]),
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _look(settings: Settings) -> dict[str, Any]:
    space, names = segment_space(settings)
    clock = SystemClock()
    report = asyncio.run(_agent_report(settings))
    with closing(SnapshotReader(space, names, clock)) as reader:
        return observed_convergence(reader, space, names, clock, report)


def _wait(settings: Settings, timeout_s: float) -> dict[str, Any]:
    """What `_look` says once the workers have converged, or when the time is over."""
    space, names = segment_space(settings)
    clock = SystemClock()
    end_s = clock.monotonic() + timeout_s
    with closing(SnapshotReader(space, names, clock)) as reader:
        while not observed_convergence(reader, space, names, clock)["converged"] and clock.monotonic() < end_s:
            time.sleep(_WAIT_POLL_S)
    return _look(settings)


async def _agent_report(settings: Settings) -> Mapping[str, Any] | None:
    client = AgentClient(settings.socket_path, timeout_s=_AGENT_TIMEOUT_S)
    try:
        answer = await client.call(Status())
    except AgentUnavailable:
        return None
    finally:
        await client.close()
    return answer.status
