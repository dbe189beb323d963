"""Latency under change: a constant load over many routes, in blocks without and with changes.

A real gateway holds the routes; requests come at a constant rate, spread over all of them, and count from the moment at
which each was due (see bench.openloop). Idle and changing blocks take turns; what is compared is p99, pair by pair,
beside what pairs of idle blocks differ by themselves. The worker has core 0; load, backend, agent and changes have core
1, load and backend at a raised priority where that is permitted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.applied import AppliedLog
from bench.block import Block
from bench.blocks import blocks_in, details, in_turn, latency_rows, verdict
from bench.changer import Changer, Made
from bench.changes import changeable, resources
from bench.fill import fill_store
from bench.gateway_changes import FULL, WAYS, Target, gateway_changes
from bench.latency_plot import draw_latencies
from bench.load_options import add_load_options, duration_text, ending_cleanly
from bench.openloop import OpenLoop, request_bytes
from bench.processes import pin, raise_priority, running_backend
from bench.report import progress, save, table
from bench.routeset import request_for, routes
from tests.support.gateway import Gateway
from tests.support.waiting import wait_until

WORKER_CORE, LOAD_CORE = 0, 1
MODE: Final = "radixtree_host_uri"
# Starting with 100,000 routes takes 6 s from the store on an idle machine; this is for one that is not.
_START_DEADLINE_S: Final = 180
# Filling, starting, and each route once: before the first block of a jitter setting, for 100,000 routes.
_SETUP_S: Final = 45
# The gateway's defaults, which its test support shortens.
_DEFAULT_JITTER: Final = {"full_jitter_ms": [0, 500], "update_jitter_ms": [0, 20]}
# Within this time of a change the agent has published it: a heartbeat, for one that only a heartbeat notices.
_PUBLISH_S: Final = 0.7
# More than one gateway is changed, so that the next one on the same store is not changed to what stands there.
_CHANGES_APART: Final = 1_000_003


def main() -> None:
    arguments = _arguments()
    ending_cleanly()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="churn-")))
        backend = stack.enter_context(running_backend(directory / "backend", arguments.body_bytes))
        pin(backend.worker_pids, LOAD_CORE)
        raise_priority(backend.worker_pids)
        nodes = {f"127.0.0.1:{backend.port}": 1}
        progress(f"filling the store with {arguments.routes} routes")
        fill_store(directory / "gateway" / "data", resources(arguments.routes, nodes))
        bench = _Churn(arguments, directory / "gateway", nodes)
        for number, jitter in enumerate(arguments.jitter_ms):
            bench.measure(jitter, number * _CHANGES_APART)
    if not bench.rows:
        raise SystemExit("nothing was measured")
    for rows in (bench.rows, bench.work, bench.workers):
        print(table(rows), end="\n\n")
    save(
        arguments.save_as,
        bench.verdicts,
        measured_with={name: value for name, value in vars(arguments).items() if name != "save_as"},
        latencies=bench.rows,
        work=bench.work,
        workers=bench.workers,
        conditions=bench.conditions,
    )


class _Churn:
    """The conditions measured so far. One gateway after the other runs on the same store."""

    def __init__(self, arguments: argparse.Namespace, directory: Path, nodes: dict[str, int]) -> None:
        self._arguments = arguments
        self._directory = directory
        self._nodes = nodes
        self._requests = [request_bytes(*request_for(route, MODE)) for route in routes(arguments.routes)]
        self._changeable = changeable(arguments.routes, nodes)
        self.rows: list[dict[str, Any]] = []
        self.work: list[dict[str, Any]] = []
        self.workers: list[dict[str, Any]] = []
        self.verdicts: list[dict[str, Any]] = []
        self.conditions: list[dict[str, Any]] = []

    def measure(self, jitter: str, first_change: int) -> None:
        """All paces of change with one setting of the jitter."""
        arguments = self._arguments
        with contextlib.ExitStack() as stack:
            progress(f"jitter {jitter}: starting the gateway")
            gateway = stack.enter_context(_gateway(self._directory, jitter, arguments.workers))
            load = stack.enter_context(
                OpenLoop(gateway.port, self._requests, core=LOAD_CORE, late_limit_ms=arguments.late_ms)
            )
            if not load.has_priority:
                progress("no permission to raise priorities: the agent's work may make the generator late")
            way = FULL if arguments.full else arguments.through
            target = Target(gateway.config_path, gateway.admin_port, way, self._changeable, self._nodes, first_change)
            changer = stack.enter_context(Changer(partial(gateway_changes, target), LOAD_CORE))
            progress(f"jitter {jitter}: each route once")
            load.warm_up()
            workers = gateway.worker_pids()
            for every_ms in arguments.every_ms:
                self._measure_pace(gateway, load, changer, jitter, every_ms)
            self.workers += [_worker_row(jitter, worker) for worker in gateway.convergence()["workers"]]
            if gateway.worker_pids() != workers:
                raise SystemExit(f"a worker ended while it was measured:\n{gateway.output()}")

    def _measure_pace(self, gateway: Gateway, load: OpenLoop, changer: Changer, jitter: str, every_ms: float) -> None:
        arguments, made = self._arguments, Made()
        log = AppliedLog(gateway.name)

        def run(changing: bool) -> Block:
            if not changing:
                return load.run(arguments.rate, arguments.block_s, meanwhile=log.poll)
            changer.start(every_ms / 1e3)
            try:
                return load.run(arguments.rate, arguments.block_s, meanwhile=log.poll)
            finally:
                made.add(changer.stop())
                _settle(gateway, jitter)
                log.poll()

        kind = "full rebuild" if arguments.full else "change"
        label = f"jitter {jitter}, a {kind} every {every_ms:g} ms"
        turns = in_turn(run, arguments.pairs, label)
        counted = log.counted()
        log.close()
        about = {"jitter": jitter, "every_ms": every_ms}
        self.rows += latency_rows(turns, **about)
        self.verdicts.append({**about, **verdict(turns)})
        self.work.append({**about, **made.figures(), **_applied_row(log, counted)})
        self.conditions.append({**about, **details(turns), "counted": counted, "problems": made.problems[:20]})
        for problem in made.problems[:3]:
            progress(f"a change failed: {problem}")
        title = f"{arguments.routes} routes, {arguments.rate:g} requests/s, {label}"
        marks = [(applied.at_ns, applied.kind) for applied in log.applied]
        draw_latencies(f"{arguments.save_as}-{jitter}-{every_ms:g}ms", title, turns, marks)


@contextlib.contextmanager
def _gateway(directory: Path, jitter: str, workers: int) -> Iterator[Gateway]:
    """A gateway over what the directory holds, its processes on their cores; nothing of it is left at the end.

    As `running_gateway`, with the patience that many routes need.
    """
    rebuild = _DEFAULT_JITTER if jitter == "default" else {name: [0, int(jitter)] for name in _DEFAULT_JITTER}
    gateway = Gateway(directory, {"gw": {"rebuild": rebuild}}, workers=workers)
    try:
        gateway.start(ready=False)
        gateway.wait_ready(_START_DEADLINE_S)
        pin([*gateway.pids(), os.getpid()], LOAD_CORE)
        pin(gateway.worker_pids(), WORKER_CORE)
        yield gateway
        gateway.stop()
        assert not gateway.segments(), gateway.segments()
    finally:
        gateway.kill()


def _settle(gateway: Gateway, jitter: str) -> None:
    """What was changed last is applied before the idle block begins: it is published, noticed, waited for and done."""
    longest_ms = max(_DEFAULT_JITTER["full_jitter_ms"]) if jitter == "default" else int(jitter)
    time.sleep(longest_ms / 1e3 + _PUBLISH_S)
    wait_until(lambda: gateway.convergence()["converged"], what="the last change to be served", deadline_s=60)


def _worker_row(jitter: str, worker: dict[str, Any]) -> dict[str, Any]:
    """What a worker says of itself, since it started: its first load is in it."""
    told = ("updates", "full_rebuilds", "digest_mismatches", "failures", "worst_held_ms", "worst_staleness_ms")
    return {"jitter": jitter, "worker": worker["cell"], **{name: worker[name] for name in told}}


def _applied_row(log: AppliedLog, counted: dict[str, int]) -> dict[str, Any]:
    return {
        "updates": counted["updates"],
        "fulls": counted["fulls"],
        "mismatches": counted["mismatches"],
        "worst_held_ms": max((applied.held_ms for applied in log.applied), default=0.0),
        "longest_apply_ms": max((applied.took_ms for applied in log.applied), default=0.0),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.churn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_load_options(parser)
    parser.add_argument("--every-ms", type=float, nargs="+", help="intervals of change (default 1000 100 10)")
    parser.add_argument(
        "--jitter-ms",
        nargs="+",
        type=_jitter,
        default=None,
        help="upper ends of both jitters, or `default` (default 0 default 1000)",
    )
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1, help="all of them on one core (default 1)")
    parser.add_argument(
        "--through", choices=WAYS, default="agent",
        help="how changes are written: the agent's socket, the Admin API (its HTTP runs in the measured worker), or "
        "the store (SQLite is asked every 10 ms) (default agent)",
    )  # fmt: skip
    parser.add_argument("--full", action="store_true", help="force full rebuilds instead, every 3000 ms by default")
    parser.epilog = f"Defaults take {duration_text(_duration_s(_completed(parser.parse_args([]))))}; --quick takes "
    parser.epilog += f"{duration_text(_duration_s(_completed(parser.parse_args(['--quick']))))}."
    arguments = _completed(parser.parse_args())
    arguments.save_as = "churn-full" if arguments.full else "churn"
    progress(f"this takes {duration_text(_duration_s(arguments))}")
    return arguments


def _jitter(text: str) -> str:
    if text != "default" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither `default` nor a number of milliseconds")
    return text


def _completed(arguments: argparse.Namespace) -> argparse.Namespace:
    quick = arguments.quick
    arguments.every_ms = arguments.every_ms or ([3000] if arguments.full else [1000, 10] if quick else [1000, 100, 10])
    arguments.jitter_ms = arguments.jitter_ms or (["default"] if quick or arguments.full else ["0", "default", "1000"])
    return arguments


def _duration_s(arguments: argparse.Namespace) -> float:
    conditions: Sequence[Any] = [(jitter, pace) for jitter in arguments.jitter_ms for pace in arguments.every_ms]
    block_s = arguments.block_s + 1
    return len(conditions) * blocks_in(arguments.pairs) * block_s + len(arguments.jitter_ms) * (
        5 + _SETUP_S * arguments.routes / 100_000
    )


if __name__ == "__main__":
    main()
