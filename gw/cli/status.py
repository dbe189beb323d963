"""`gw status`: who serves which version, and how much. From shared memory, and from the agent where it answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from gw.admin.agent_client import AgentClient
from gw.cli import exit_codes
from gw.cli.columns import aligned, short_time
from gw.cli.leftovers import of_other_versions, segment_space
from gw.cli.status_traffic import add_traffic, read_traffic, traffic_rows
from gw.cli.status_wait import AGENT_TIMEOUT_S, wait_until_served
from gw.clock import SystemClock
from gw.control.convergence import observed_convergence
from gw.errors import AgentUnavailable
from gw.model.operations import Status
from gw.settings import Settings, load_settings
from gw.shm.reader import SnapshotReader

# STALE and WORST: how long a change has been seen and not served, now and at worst. HELD: the longest time for which
# the last rebuild kept the event loop to itself.
_HEADINGS: Final = (
    *("WORKER", "STATE", "VERSION", "DIGEST", "APPLIED AT"),
    *("REBUILD", "TOOK", "HELD", "JITTER", "STALE", "WORST", "PROBLEMS"),
)
# Beginnings of two digests differ when the digests do. The whole is in the line of the agent, and in --json.
_DIGEST_DIGITS: Final = 8
_SECONDS_OF_ISO: Final = len("2026-01-01T00:00:00")


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: those of `wait_until_served` with --wait or --revision; else 0 the gateway is there, 1 it is not."""
    settings = load_settings(arguments.config)
    waited = None
    if arguments.wait is not None or arguments.revision is not None:
        waited = wait_until_served(settings, arguments.wait or 0.0, arguments.revision)
    status = _look(settings)
    print(json.dumps(status, indent=2) if arguments.json else table(status, settings.gw.shm.name))
    if others := of_other_versions(settings):
        print(f"gw: {others}", file=sys.stderr)
    if waited is None:
        return exit_codes.OK if is_running(status) else exit_codes.FAILED
    for line in waited.lines:
        print(f"gw: {line}", file=sys.stderr)
    return waited.exit_code


def is_running(status: Mapping[str, Any]) -> bool:
    """Whether any process of the gateway lives."""
    return bool(status["agent"]["alive"] or any(worker["alive"] for worker in status["workers"]))


def table(status: Mapping[str, Any], name: str) -> str:
    """The same for people."""
    if not is_running(status):
        return f"nothing of {name!r} runs"
    converged = "every worker serves the newest version" if status["converged"] else "not converged"
    lines = [f"{name}: {converged}", "", *_agent_lines(status["agent"]), ""]
    lines += aligned([_HEADINGS, *(_worker_row(worker) for worker in status["workers"])])
    lines += [line for worker in status["workers"] for line in _trouble(worker)]
    if len(status["workers"]) < status["expected_workers"]:
        lines.append(f"{status['expected_workers']} workers are expected")
    if traffic := traffic_rows(status):
        lines += ["", *aligned(traffic)]
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
        worker["digest"][:_DIGEST_DIGITS],
        f"{worker['applied_at'][:_SECONDS_OF_ISO]}Z" if worker["applied_at"] else "-",
        worker["rebuild_kind"],
        short_time(worker["rebuild_duration_ms"]),
        short_time(worker["rebuild_held_ms"]),
        short_time(worker["jitter_ms"]),
        short_time(worker["staleness_ms"]),
        short_time(worker["worst_staleness_ms"]),
        str(worker["problems"]),
    )


def _trouble(worker: Mapping[str, Any]) -> list[str]:
    """What should never be and is 0 in health, so it has no column."""
    counts = {"digest mismatches": worker["digest_mismatches"], "failures to take up a version": worker["failures"]}
    told = [f"{count} {what}" for what, count in counts.items() if count]
    return [f"worker {worker['pid']} since it started: {', '.join(told)}; see its log"] if told else []


def _look(settings: Settings) -> dict[str, Any]:
    space, names = segment_space(settings)
    clock = SystemClock()
    report = asyncio.run(_agent_report(settings))
    with closing(SnapshotReader(space, names, clock)) as reader:
        status = observed_convergence(reader, space, names, clock, report)
    add_traffic(status, read_traffic(space, names))
    return status


async def _agent_report(settings: Settings) -> Mapping[str, Any] | None:
    client = AgentClient(settings.socket_path, timeout_s=AGENT_TIMEOUT_S)
    try:
        answer = await client.call(Status())
    except AgentUnavailable:
        return None
    finally:
        await client.close()
    return answer.status
