"""An upstream in a thread that plays raw bytes: what came is kept as it came, what is answered is chosen by path."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Seen:
    """One request. `head` is everything to the empty line, `body` what followed, chunks and all."""

    head: bytes
    body: bytes
    peer_port: int

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def fields(self) -> dict[str, str]:
        """Header fields, names in lower case; a name that came twice has its values joined by ` | `."""
        fields: dict[str, str] = {}
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            if line:
                name, _, value = line.partition(":")
                name, value = name.lower(), value.strip()
                fields[name] = f"{fields[name]} | {value}" if name in fields else value
        return fields


class RawUpstream:
    """`answers`: bytes by the path's last segment; `OK` where there is none. `b""` closes without an answer.

    The path's last segment `silent` is not answered before `close`.
    """

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self.answers = answers
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def last(self) -> Seen:
        return self.seen[-1]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        upstream = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 30

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while request := _read(self.rfile, self.client_address[1]):
                        upstream.seen.append(request)
                        path = request.line.split(" ")[1].partition("?")[0]
                        name = path.rpartition("/")[2]
                        if name == "silent":
                            upstream.closing.wait(30)
                            return
                        answer = upstream.answers.get(name, OK)
                        self.wfile.write(answer)
                        if not answer or b"onnection: close" in answer:
                            return

        return Handler


def _read(stream: IO[bytes], peer_port: int) -> Seen | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    seen = Seen(head, b"", peer_port)
    if seen.fields.get("transfer-encoding") == "chunked":
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += stream.readline()
    else:
        body = stream.read(int(seen.fields.get("content-length", "0")))
    return Seen(head, body, peer_port)


@contextlib.contextmanager
def raw_upstream(answers: Mapping[str, bytes]) -> Iterator[RawUpstream]:
    upstream = RawUpstream(answers)
    try:
        yield upstream
    finally:
        upstream.close()
