"""Another program that writes to the store: fills it, then changes routes at a steady rate, in open loop.

It does without our own stores, so that what it costs and how it locks is what a client of the store does.
"""

from __future__ import annotations

import base64
import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from bench.routeset import routes

# Puts under way at once: etcd answers each after its next fsync, which takes some ms.
ETCD_WRITERS = 16
# etcd takes at most 128 operations in a transaction.
FILL_AT_ONCE = 100


class Write(NamedTuple):
    """One change, as the store acknowledged it."""

    number: int
    revision: int
    done_s: float  # CLOCK_MONOTONIC: the same for all processes of the host


class Target(Protocol):
    """Where is written to."""

    writers: int

    def fill(self, items: Iterable[tuple[str, str]]) -> None: ...

    def put(self, key: str, value: str) -> int:
        """The revision of the write."""
        ...


class SqliteTarget:
    """The database that the agent made; written to through its view, as a shell does."""

    writers = 1

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        # No fsync per write: 1,000 a second are to be measured, and not this machine's disk.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def fill(self, items: Iterable[tuple[str, str]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO config (key, value) VALUES (?, ?)", items)
        self._connection.execute("COMMIT")

    def put(self, key: str, value: str) -> int:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("INSERT INTO config (key, value) VALUES (?, ?)", (key, value))
        newest = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        self._connection.execute("COMMIT")
        return int(newest[0])


class EtcdTarget:
    """etcd's HTTP gateway: JSON, which costs this process less than gRPC messages in pure Python."""

    writers = ETCD_WRITERS

    def __init__(self, endpoint: str) -> None:
        self._address = urlsplit(endpoint).netloc
        self._local = threading.local()

    def fill(self, items: Iterable[tuple[str, str]]) -> None:
        some: list[dict[str, Any]] = []
        for key, value in items:
            some.append({"requestPut": _put(key, value)})
            if len(some) == FILL_AT_ONCE:
                self._post("/v3/kv/txn", {"success": some})
                some = []
        if some:
            self._post("/v3/kv/txn", {"success": some})

    def put(self, key: str, value: str) -> int:
        return int(self._post("/v3/kv/put", _put(key, value))["header"]["revision"])

    def _post(self, path: str, body: Any) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(self._address, timeout=30)
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"etcd answered {answer.status}: {content.decode()[:200]}")
        return json.loads(content)


def open_target(where: Path | str) -> Target:
    """A database file, or the URL of an etcd."""
    return SqliteTarget(where) if isinstance(where, Path) else EtcdTarget(where)


def fill(where: Path | str, count: int) -> None:
    """Put the first `count` routes of the benchmarks."""
    open_target(where).fill((f"routes/{route['id']}", json.dumps(route)) for route in routes(count))


def change(where: Path | str, count: int, rate: float, duration_s: float, results: Connection) -> None:
    """Change one route after the other, `rate` a second, whatever the store takes for it. Sends a list of Write."""
    target, bodies = open_target(where), list(routes(count))
    began_s = time.monotonic()

    def write(number: int) -> Write:
        wait_s = began_s + number / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        route = changed(bodies, number)
        revision = target.put(f"routes/{route['id']}", json.dumps(route))
        return Write(number, revision, time.monotonic())

    with ThreadPoolExecutor(target.writers) as pool:
        results.send(list(pool.map(write, range(int(rate * duration_s)))))


def changed(bodies: Sequence[dict[str, Any]], number: int) -> dict[str, Any]:
    """What change `number` writes: a route with another text and priority. Neighbours in time are none in the store."""
    route = bodies[number * 7919 % len(bodies)]  # a prime, so that all have their turn
    return {**route, "desc": f"change {number}", "priority": number % 100}


def _put(key: str, value: str) -> dict[str, str]:
    return {
        "key": base64.b64encode(f"/apisix/{key}".encode()).decode(),
        "value": base64.b64encode(value.encode()).decode(),
    }
