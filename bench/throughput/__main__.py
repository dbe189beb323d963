"""CPU per proxied request and requests per second: nginx, haproxy, ours on both edges, and falcon with aiohttp.

All are started beside one another and measured in turn, round by round, in one run. The figure is user + system time
of the worker processes divided by the requests they served, which a busy machine changes less than requests per second;
`times_nginx` is the median of the rounds' ratios to nginx in the same round, with the lowest and the highest. wrk and
the server behind share the last core, what is measured has the others. What is missing is skipped, and named.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.load_options import duration_text, ending_cleanly
from bench.report import save, table
from bench.routeset import routes
from bench.throughput.draw import draw
from bench.throughput.groups import GROUPS, IDLE, NAMES, ONE_ROUTE, REFERENCE, SERVERS, Group
from bench.throughput.idle import SERVERS_HELD, measured_idle
from bench.throughput.origin import running_origin
from bench.throughput.ours import PLUGINS
from bench.throughput.rounds import Measured, Pace, measured_group, warm_up_of_all_s
from bench.throughput.scene import Scene

_QUICK: Final = {"seconds": 1.0, "rounds": 1, "routes": 2_000, "idle": 500}
# Starting and stopping one server; and reading 10,000 routes, filling the store included.
_START_S, _ROUTES_S = 4.0, 2.5


def main() -> None:
    arguments = _arguments()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk: apt-get install wrk")
    if shutil.which("nginx") is None:
        raise SystemExit("this benchmark needs nginx, as the server behind all others: apt-get install nginx")
    chosen = [group for group in GROUPS if group.name in arguments.only]
    servers = _present(arguments.servers)
    pace = Pace(arguments.seconds, arguments.rounds)
    print(f"this takes {duration_text(_expected_s(arguments, chosen, servers, pace))}", file=sys.stderr, flush=True)
    ending_cleanly()
    measured: list[Measured] = []
    for group in chosen:
        measured += _measure(group, servers, arguments.routes, pace)
    idle = _measure_idle(servers, arguments.idle, pace) if IDLE in arguments.only else []
    _report(arguments, measured, idle)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.throughput", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    abouts = "; ".join(f"{group.name}: {group.about}" for group in GROUPS)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="GROUP", help=f"{abouts}; idle")
    servers = tuple(name for name in SERVERS if not name.endswith(ONE_ROUTE))
    shown = f"of {', '.join(servers)}; nginx always"
    parser.add_argument("--servers", nargs="+", choices=servers, default=servers, metavar="SERVER", help=shown)
    parser.add_argument("--quick", action="store_true", help=f"to see that it works: {_QUICK}")
    parser.add_argument("--seconds", type=float, help="length of a round (default 5)")
    parser.add_argument("--rounds", type=int, help="rounds of each, in turn (default 5)")
    parser.add_argument("--routes", type=int, help="of the group routes (default 100000)")
    parser.add_argument("--idle", type=int, help="connections of the group idle (default 10000)")
    arguments = parser.parse_args()
    defaults = _QUICK if arguments.quick else {"seconds": 5.0, "rounds": 5, "routes": 100_000, "idle": 10_000}
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def _present(names: list[str]) -> list[str]:
    """Those that can be started here, nginx always first: the others are compared with it."""
    present = []
    wanted = [REFERENCE, *(each for name in names for each in (name, name + ONE_ROUTE) if each in SERVERS)]
    for name in dict.fromkeys(wanted):
        if missing := SERVERS[name].missing():
            print(f"skipped: {name}: {missing}", file=sys.stderr)
        else:
            present.append(name)
    return present


def _expected_s(arguments: argparse.Namespace, groups: list[Group], servers: list[str], pace: Pace) -> float:
    total_s = 0.0
    for group in groups:
        taking_part = [name for name in servers if name in group.servers]
        loads = len(group.loads) * len(taking_part) - (len(group.loads) - 1 if group.plugins else 0)
        total_s += len(taking_part) * _START_S + loads * pace.rounds * (pace.seconds + pace.warm_up_s)
        if group.many_routes:
            total_s += len(taking_part) * arguments.routes * _ROUTES_S / 10_000
            total_s += warm_up_of_all_s(arguments.routes) * sum(SERVERS[name].is_lazy for name in taking_part)
    if IDLE in arguments.only:
        held = [name for name in servers if name in SERVERS_HELD]
        total_s += len(held) * (_START_S + 2 * pace.warm_up_s + 2 * pace.seconds + arguments.idle / 2_000)
    return total_s


def _measure(group: Group, servers: list[str], routes_wanted: int, pace: Pace) -> list[Measured]:
    with tempfile.TemporaryDirectory() as directory, running_origin(Path(directory) / "origin") as origin:
        nodes = {f"127.0.0.1:{origin.port}": 1}
        scene = Scene(
            Path(directory),
            origin,
            workers=group.workers,
            routes=list(routes(routes_wanted, nodes=nodes)) if group.many_routes else [],
            plugins=PLUGINS if group.plugins else {},
            logs_access=group.logs_access,
        )
        return measured_group(group, scene, [name for name in servers if name in group.servers], pace)


def _measure_idle(servers: list[str], count: int, pace: Pace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory, running_origin(Path(directory) / "origin") as origin:
        scene = Scene(Path(directory), origin)
        return measured_idle(scene, [name for name in servers if name in SERVERS_HELD], count, pace)


def _report(arguments: argparse.Namespace, measured: list[Measured], idle: list[dict[str, Any]]) -> None:
    rows = [entry.row() for entry in measured if entry.rounds]
    if idle:
        print(table(idle))
    about = {name: getattr(arguments, name) for name in ("quick", "seconds", "routes")}
    save("throughput", rows, **about, idle=idle, rounds=[_in_full(entry) for entry in measured])
    if rows:
        draw("throughput", rows)
    if failed := [f"{entry.group}, {entry.load} on {entry.server}" for entry in measured if entry.failures]:
        raise SystemExit(f"requests failed, rounds are missing: {'; '.join(failed)}")


def _in_full(entry: Measured) -> dict[str, Any]:
    """Each round, for whoever doubts the median."""
    return {
        "group": entry.group,
        "load": entry.load,
        "server": entry.server,
        "rounds": {number + 1: each._asdict() for number, each in entry.rounds.items()},
        "failures": entry.failures,
    }


if __name__ == "__main__":
    main()
