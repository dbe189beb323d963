"""Requests for routes that are always there: each must be answered, rightly, but for one thing."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from tests.support.gateway import Gateway
from tests.support.soak.book import Book, Work

# How a request for each may look: (host, path). What stands behind them is changed all the time.
STEADY_HOST: Final = "steady.example"
STEADY: Final = [
    *((STEADY_HOST, f"/steady/{name}") for name in ("own", "upstream", "service", "lodger", "prefix/deep/er")),
    *(("a.other.example", "/steady/own"), ("a.other.example", "/steady/upstream")),
]
# Between two requests of one client: the machine has other things to do.
PAUSE_S: Final = 0.004
# Longer than any worker is stopped.
PATIENCE_S: Final = 20.0


class Asker:
    """One client. A connection that breaks is reported with its port and opened anew."""

    def __init__(self, port: int, book: Book) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._book = book

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes] | None:
        """Status and body; None when the connection broke, which is then in the book."""
        port = None
        try:
            is_new = self._connection.sock is None
            if is_new:
                self._connection.connect()
            port = self._connection.sock.getsockname()[1]
            if is_new:
                self._book.opened(port)
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self._book.lost(port, f"{method} {path} from port {port}: {error!r}")
            return None
        return answer

    def close(self) -> None:
        self._connection.close()


class Traffic(Work):
    """Asks for the steady routes in turn; `keep_alive` False: on a connection each."""

    def __init__(self, gateway: Gateway, book: Book, name: str, *, keep_alive: bool) -> None:
        super().__init__(book, name)
        self._asker = Asker(gateway.port, book)
        self._keep_alive = keep_alive

    def work(self) -> None:
        number = 0
        while not self.book.stopping.wait(PAUSE_S):
            number += 1
            host, path = STEADY[number % len(STEADY)]
            asked = f"{path}?{self.name}={number}"
            answer = self._asker.ask(asked, headers={"Host": host})
            if answer is not None:
                self._judge(host, asked, *answer)
            if not self._keep_alive:
                self._asker.close()
        self._asker.close()

    def _judge(self, host: str, asked: str, status: int, body: bytes) -> None:
        told: Any = json.loads(body) if status == 200 else None
        if told is None or told["path"] != asked:
            self.book.fail(f"{host}{asked} was answered {status}: {body[:300]!r}")
        else:
            self.book.count("requests")
