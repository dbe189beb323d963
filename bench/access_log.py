"""What the access log costs a request, by the way its lines are made, and what settling a request's origin costs.

Lines, CPU of all threads and longest pause of the loop's thread, with 100,000 requests one after the other:

- `at once`: the line is made when a request ends, and written by a thread (what gw.access_log does);
- `at once, no thread`: the loop writes, too;
- `batches`: requests are kept, and 64 lines made at a time on the loop;
- `thread`: requests are kept, and the thread makes the lines, too.

The first of each is the loop without a log, for its longest pause: what other processes take. The
rest of the table has single calls, CPU, the best of many.
"""

from __future__ import annotations

import argparse
import ipaddress
import queue
import tempfile
import threading
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import save
from gw.access_log.file import LogFile
from gw.access_log.line import LineFormat
from gw.access_log.log import AccessLog
from gw.access_log.writer import LogWriter
from gw.clock import SystemClock
from gw.pipeline.client_address import RealIp
from gw.pipeline.context import Context
from gw.pipeline.forwarded import TrustedAddresses
from gw.pipeline.origin import Origin
from gw.settings.access_log import DEFAULT_FORMAT
from tests.support.finished import finished, request

JSON_FORMAT = (
    '{"time":"$time_iso8601","client":"$remote_addr","host":"$http_host","request":"$request","status":$status,'
    '"bytes":$body_bytes_sent,"seconds":$request_time,"agent":"$http_user_agent","referer":"$http_referer",'
    '"upstream":"$upstream_addr","upstream_status":"$upstream_status","upstream_seconds":"$upstream_response_time"}'
)
FORMATS = {"default": (DEFAULT_FORMAT, "default"), "json": (JSON_FORMAT, "json")}
BROWSER = [
    (b"host", b"shop.example:9080"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.9"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"referer", b"https://shop.example/catalogue"),
    (b"cookie", b"session=0123456789abcdef; theme=dark"),
    (b"cache-control", b"no-cache"),
    (b"connection", b"keep-alive"),
    (b"x-request-id", b"0123456789abcdef0123456789abcdef"),
]
DIFFERENT_REQUESTS = 64
AT_A_TIME = 64
BUFFER_BYTES = 16384


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.access_log", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5, help="the best of them counts (shared cores are noisy)")
    arguments = parser.parse_args()
    contexts = [finished(request(BROWSER, query=b"page=%d" % number)) for number in range(DIFFERENT_REQUESTS)]
    rows = []
    for name, (text, escape) in FORMATS.items():
        for way, run in WAYS.items():
            best: dict[str, Any] = {}
            for _ in range(arguments.rounds):
                measured = _measure(run, LineFormat(text, escape), contexts, arguments.requests)
                if not best or measured["us_per_request"] < best["us_per_request"]:
                    best = measured
            rows.append({"what": f"{name}: {way}", **best})
    rows += [{"what": what, "us_per_request": us, "longest_pause_ms": 0.0} for what, us in _single_calls(contexts)]
    save("access_log", rows, requests=arguments.requests)


def _measure(
    run: Callable[[LineFormat, Path], tuple[Callable[[Context], None], Callable[[], None]]],
    line: LineFormat,
    contexts: list[Context],
    requests: int,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        add, end = run(line, Path(directory) / "access.log")
        longest, cpu = 0.0, time.process_time()
        before = time.perf_counter()
        for number in range(requests):
            add(contexts[number % DIFFERENT_REQUESTS])
            now = time.perf_counter()
            longest = max(longest, now - before)
            before = now
        end()
        return {
            "us_per_request": (time.process_time() - cpu) / requests * 1e6,
            "longest_pause_ms": longest * 1e3,
        }


class _NoTimers:
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any:
        return self

    def cancel(self) -> None:
        """Nothing was started."""


def _nothing(line: LineFormat, path: Path) -> tuple[Callable[[Context], None], Callable[[], None]]:
    return lambda ctx: None, lambda: None


def _at_once(line: LineFormat, path: Path) -> tuple[Callable[[Context], None], Callable[[], None]]:
    writer = LogWriter(LogFile(path), SystemClock(), max_waiting_bytes=1 << 30)
    writer.start()
    log = AccessLog(line, writer, _NoTimers(), buffer_bytes=BUFFER_BYTES)
    return log.add, log.close


def _at_once_without_a_thread(line: LineFormat, path: Path) -> tuple[Callable[[Context], None], Callable[[], None]]:
    file = LogFile(path)
    file.open()
    lines: list[str] = []

    def flush() -> None:
        file.write("".join(lines).encode())
        lines.clear()

    def add(ctx: Context) -> None:
        lines.append(line(ctx))
        if len(lines) >= AT_A_TIME:
            flush()

    return add, flush


def _in_batches(line: LineFormat, path: Path) -> tuple[Callable[[Context], None], Callable[[], None]]:
    writer = LogWriter(LogFile(path), SystemClock(), max_waiting_bytes=1 << 30)
    writer.start()
    kept: list[Context] = []

    def flush() -> None:
        writer.put("".join(map(line, kept)).encode(), len(kept))
        kept.clear()

    def add(ctx: Context) -> None:
        kept.append(ctx)
        if len(kept) >= AT_A_TIME:
            flush()

    def end() -> None:
        flush()
        writer.stop(60)

    return add, end


def _by_the_thread(line: LineFormat, path: Path) -> tuple[Callable[[Context], None], Callable[[], None]]:
    file = LogFile(path)
    file.open()
    batches: queue.SimpleQueue[list[Context]] = queue.SimpleQueue()

    def work() -> None:
        while batch := batches.get():
            file.write("".join(map(line, batch)).encode())

    thread = threading.Thread(target=work)
    thread.start()
    kept: list[Context] = []

    def add(ctx: Context) -> None:
        nonlocal kept
        kept.append(ctx)
        if len(kept) >= AT_A_TIME:
            batches.put(kept)
            kept = []

    def end() -> None:
        batches.put([])
        thread.join()

    return add, end


WAYS = {
    "no log": _nothing,
    "at once": _at_once,
    "at once, no thread": _at_once_without_a_thread,
    "batches": _in_batches,
    "thread": _by_the_thread,
}


def _single_calls(contexts: list[Context]) -> list[tuple[str, float]]:
    default, as_json = (LineFormat(*form) for form in FORMATS.values())
    block = ipaddress.ip_network("10.0.0.0/8")
    plain = Origin(RealIp("X-Real-IP", (), is_recursive=False), TrustedAddresses(None))
    listed = Origin(RealIp("X-Forwarded-For", (block,), is_recursive=True), TrustedAddresses((block,)))
    ctx = contexts[0]
    direct = ctx.request
    proxied = request([*BROWSER, (b"x-forwarded-for", b"192.0.2.9, 10.0.0.2")], peer="10.0.0.1")
    calls: dict[str, Callable[[], object]] = {
        "a line, default": lambda: default(ctx),
        "a line, default, not compiled": lambda: default.spelled_out(ctx),
        "a line, json": lambda: as_json(ctx),
        "origin: nobody is trusted": lambda: plain(direct),
        "origin: another peer is": lambda: listed(direct),
        "origin: of a trusted proxy, two hops": lambda: listed(proxied),
    }
    return [
        (name, min(timeit.repeat(call, number=2000, repeat=50, timer=time.thread_time)) / 2000 * 1e6)
        for name, call in calls.items()
    ]


if __name__ == "__main__":
    main()
