"""Changes without a pause: through the Admin API, on the store itself, and some that are waited for and then tested."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any, Final

from gw.clock import SystemClock
from gw.errors import StoreError
from gw.settings import load_agent_settings
from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from sync_agent.stores import open_store
from tests.support.gateway import ADMIN_KEY, Gateway
from tests.support.soak.book import Book, Work
from tests.support.soak.traffic import STEADY_HOST, Asker
from tests.support.waiting import wait_until

# Between two changes of one writer: two writers make some 70 a second.
PAUSE_S: Final = {"admin": 0.02, "store": 0.015}
ROUTES: Final = 60
WAIT_S: Final = 60.0


class Plan:
    """What may be written. The steady resources change in what no answer shows, or between two right answers."""

    def __init__(self, seed: int, ports: tuple[int, int]) -> None:
        self._random = random.Random(seed)
        self.ports = ports

    def steady(self) -> dict[str, dict[str, Any]]:
        """Everything that the traffic asks for, by key."""
        return {key: self._steady_resource(key) for key in _STEADY_KEYS}

    def change(self, letter: str) -> tuple[str, dict[str, Any] | None]:
        """A key and its resource, None to delete; `letter` tells the writers' routes apart."""
        chance = self._random.random()
        if chance < 0.15:
            key = self._random.choice(_STEADY_KEYS)
            return key, self._steady_resource(key)
        if chance < 0.25:
            return f"upstreams/{letter}", {**self._upstream(), **self._labels()}
        if chance < 0.35:
            hosts = [f"{self._random.randrange(9)}.{letter}.example"]
            return f"services/{letter}", {"upstream": self._upstream(), "hosts": hosts}
        key = f"routes/{letter}{self._random.randrange(ROUTES)}"
        return key, None if chance < 0.5 else self._route(letter)

    def _route(self, letter: str) -> dict[str, Any]:
        origin = self._random.choice([{"service_id": letter}, {"upstream_id": letter}, {"upstream": self._upstream()}])
        uri = f"/{letter}/{self._random.randrange(200)}" + self._random.choice(["", "/*", "/:id"])
        return {"uri": uri, **self._labels(), **origin}

    def _steady_resource(self, key: str) -> dict[str, Any]:
        some_host = f"{self._random.randrange(9)}.steady.example"
        return {
            "upstreams/steady": self._upstream,
            "services/steady": lambda: {"upstream": self._upstream(), "hosts": [STEADY_HOST, some_host]},
            "services/by-id": lambda: {"upstream_id": "steady", "hosts": [some_host, STEADY_HOST]},
            "routes/own": lambda: {"uri": "/steady/own", "upstream": self._upstream()},
            "routes/upstream": lambda: {"uri": "/steady/upstream", "upstream_id": "steady"},
            "routes/service": lambda: {"uri": "/steady/service", "service_id": "by-id"},
            "routes/lodger": lambda: {"uris": ["/steady/lodger", f"/{some_host}"], "service_id": "steady"},
            "routes/prefix": lambda: {"uri": "/steady/prefix/*", "service_id": "steady"},
        }[key]() | self._labels()

    def _upstream(self) -> dict[str, Any]:
        return {"nodes": {f"127.0.0.1:{self._random.choice(self.ports)}": 1}}

    def _labels(self) -> dict[str, Any]:
        return {"labels": {"n": str(self._random.randrange(10**9)), "pad": "x" * self._random.choice([10, 200])}}


# Those that others name come first.
_STEADY_KEYS: Final = [
    *("upstreams/steady", "services/steady", "services/by-id"),
    *(f"routes/{name}" for name in ("own", "upstream", "service", "lodger", "prefix")),
]


class AdminWriter(Work):
    """Through the Admin API, on one connection. 503 is an answer while the agent is away, and then only."""

    def __init__(self, gateway: Gateway, book: Book, plan: Plan) -> None:
        super().__init__(book, "admin-writer")
        self._client = AdminClient(gateway, book)
        self._plan = plan

    def work(self) -> None:
        while not self.book.ending.wait(PAUSE_S["admin"]):
            key, resource = self._plan.change("a")
            self._client.write(key, resource)
        self._client.close()


class AdminClient:
    def __init__(self, gateway: Gateway, book: Book) -> None:
        self._asker = Asker(gateway.admin_port, book)
        self._book = book

    def write(self, key: str, resource: Mapping[str, Any] | None) -> bool:
        """Whether it was written for certain."""
        path, headers = f"/apisix/admin/{key}", {"X-API-KEY": ADMIN_KEY}
        if resource is None:
            answer = self._asker.ask(path, method="DELETE", headers=headers)
        else:
            answer = self._asker.ask(path, method="PUT", body=json.dumps(resource).encode(), headers=headers)
        if answer is None:
            return False
        status, body = answer
        if status in (200, 201) or (status == 404 and resource is None):
            self._book.count("changes")
            return True
        if status == 503 and self._book.agent_may_be_away:
            self._book.count("refused while the agent was away")
        elif b"failed to fetch" not in body:  # a parent that is not there yet: refused rightly
            self._book.fail(f"{key} was answered {status}: {body[:300]!r}")
        return False

    def close(self) -> None:
        self._asker.close()


class StoreWriter(Work):
    """As another program that has the store's credentials."""

    def __init__(self, gateway: Gateway, book: Book, plan: Plan) -> None:
        super().__init__(book, "store-writer")
        self._settings = load_agent_settings(gateway.config_path)
        self._plan = plan

    def work(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        store = open_store(self._settings, SystemClock())
        try:
            while not self.book.ending.is_set():
                key, resource = self._plan.change("s")
                try:
                    if resource is None:
                        await store.delete(key)
                    else:
                        await store.put(key, json.dumps(resource).encode())
                except StoreError as error:  # SQLite's lock was not to be had in time
                    self.book.count(f"store: {error}")
                else:
                    self.book.count("changes")
                await asyncio.sleep(PAUSE_S["store"])
        finally:
            await store.close()


class AwaitedChanges(Work):
    """Moves one route, waits until each worker says that it serves the move, and asks all of them."""

    def __init__(self, gateway: Gateway, book: Book, port: int) -> None:
        super().__init__(book, "awaited")
        self._gateway = gateway
        self._upstream = {"nodes": {f"127.0.0.1:{port}": 1}}
        self._client = AdminClient(gateway, book)
        self._table = WorkerTable.open(PosixSpace(), SegmentNames(gateway.name))

    def work(self) -> None:
        number = 0
        while not self.book.ending.wait(0.2):
            number += 1
            if not self._move(number):
                continue
            for wanted, uri in ((200, f"/awaited/{number}"), (404, f"/awaited/{number - 1}")):
                for _ in range(4):
                    self._expect(uri, wanted)
            self.book.count("awaited")
        self._client.close()
        self._table.close()

    def _move(self, number: int) -> bool:
        if not self._client.write("routes/awaited", {"uri": f"/awaited/{number}", "upstream": self._upstream}):
            return False
        revision = self._revision_of_store()
        wait_until(lambda: self._is_served(revision), what=f"revision {revision} to be served", deadline_s=WAIT_S)
        return True

    def _revision_of_store(self) -> int:
        """A revision that holds the write that was answered a moment ago."""

        async def head() -> int:
            store = open_store(load_agent_settings(self._gateway.config_path), SystemClock())
            try:
                return (await store.head()).revision
            finally:
                await store.close()

        return asyncio.run(head())

    def _is_served(self, revision: int) -> bool:
        cells = [cell for _, cell in self._table.live()]
        return len(cells) >= self._table.expected and all(cell.version and cell.revision >= revision for cell in cells)

    def _expect(self, uri: str, wanted: int) -> None:
        asker = Asker(self._gateway.port, self.book)
        answer = asker.ask(uri)
        asker.close()
        if answer is not None and answer[0] != wanted:
            self.book.fail(f"{uri} was answered {answer[0]} and not {wanted} after every worker served its change")
