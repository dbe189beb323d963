"""CPU time per proxied request, beside nginx's `proxy_pass` in the same run.

One worker each, keep-alive on both sides, the same backend; rounds alternate, so that a noisy neighbour hits both. The
figure is user + system time of the worker process divided by the requests it served, which a busy machine changes less
than it changes requests per second. Needs nginx and wrk.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.processes import cpu_s, pin, running_nginx
from bench.report import progress, save
from tests.support.gateway import running_gateway

PROXY_CORE, LOAD_CORE = 0, 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description=__doc__)
    parser.add_argument("--seconds", type=int, default=6, help="length of a round (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each, in turn (default 3)")
    parser.add_argument("--connections", type=int, default=32, help="keep-alive connections (default 32)")
    parser.add_argument("--body-bytes", type=int, default=1024, help="size of the response (default 1024)")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk: apt-get install wrk")

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        with (
            running_nginx(base / "nginx", arguments.body_bytes) as (backend, nginx),
            running_gateway(base / "h1", workers=1) as h1,
            running_gateway(base / "asgi", {"gw": {"edge": "asgi"}}, workers=1) as asgi,
        ):
            for gateway in (h1, asgi):
                gateway.put_route("bench", "/*", backend.port)
                gateway.wait_served("/bench")
            contestants: dict[str, tuple[int, Callable[[], list[int]]]] = {
                "nginx": (nginx.port, lambda: nginx.worker_pids),
                "jitterway": (h1.port, h1.worker_pids),
                "jitterway (asgi edge)": (asgi.port, asgi.worker_pids),
            }
            measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
            pin(backend.worker_pids, LOAD_CORE)
            for number in range(arguments.rounds):
                for name, (port, pids_of) in contestants.items():
                    progress(f"round {number + 1} of {arguments.rounds}: {name}")
                    measured[name].append(_round(port, pids_of(), arguments.connections, arguments.seconds))
    reference = statistics.median(us for us, _ in measured["nginx"])
    rows = [
        {
            "server": name,
            "cpu_us_per_request": statistics.median(us for us, _ in rounds),
            "times_nginx": statistics.median(us for us, _ in rounds) / reference,
            "requests_per_s": statistics.median(rate for _, rate in rounds),
        }
        for name, rounds in measured.items()
    ]
    save("proxy", rows, connections=arguments.connections, body_bytes=arguments.body_bytes)


def _round(port: int, pids: list[int], connections: int, seconds: int) -> tuple[float, float]:
    """CPU microseconds per request, and requests per second."""
    pin(pids, PROXY_CORE)
    url = f"http://127.0.0.1:{port}/bench"
    _wrk(url, connections, 1)
    before_s = cpu_s(pids)
    requests, rate = _wrk(url, connections, seconds)
    return (cpu_s(pids) - before_s) / requests * 1e6, rate


def _wrk(url: str, connections: int, seconds: int) -> tuple[int, float]:
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in shown or "Socket errors" in shown:
        raise SystemExit(f"requests failed, so nothing was measured:\n{shown}")
    requests = re.search(r"(\d+) requests in", shown)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    assert requests is not None, shown
    assert rate is not None, shown
    return int(requests[1]), float(rate[1])


if __name__ == "__main__":
    main()
