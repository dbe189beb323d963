"""An upstream that believes nothing: a strict HTTP/1.1 parser that records every request, and a raw client before it.

The canary answers 200 with what it read, in JSON, unless a path is scripted: then it sends those bytes. Whatever is not
exactly one well-formed request after the other is recorded as garbage. So a request that was smuggled through shows as
one request too many, and one that was mangled as garbage.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_REQUEST_LINE = re.compile(rb"([A-Z]{3,20}) (/[\x21-\x22\x24-\x7e]*|\*) HTTP/1\.1").fullmatch
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
_PATIENCE_S = 30.0
_LONGEST_HEAD_BYTES = 1 << 20


@dataclass
class Seen:
    """One request as it arrived. `connection` counts the canary's connections from 1."""

    connection: int
    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.fields}


class _Malformed(Exception):
    pass


class _Gone(Exception):
    """The end of a connection: `clean` between two requests, else within one."""

    def __init__(self, clean: bool) -> None:
        super().__init__(clean)
        self.clean = clean


class Canary:
    """The running upstream. `scripts`: what is sent for a path, `early`: even before the body; `delays_s`: how late."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.garbage: list[str] = []
        self.begun = 0  # requests whose head is here
        self.played = 0  # scripts that were sent to the end
        self.cut = 0  # requests that began and did not become whole
        self.scripts: dict[str, list[bytes]] = {}
        self.delays_s: dict[str, float] = {}
        self.early: dict[str, bytes] = {}
        self.connections = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="canary")
        self._threads: list[threading.Thread] = []
        self._accepting.start()

    def count(self, target: str) -> int:
        """How many requests with this target arrived."""
        return sum(seen.target == target for seen in self.requests)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.settimeout(_PATIENCE_S)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.connections += 1
                self._open.add(accepted)
                number = self.connections
            thread = threading.Thread(target=self._serve, args=(accepted, number), name=f"canary-{number}")
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        connection = _Connection(sock, number, self)
        try:
            while True:
                connection.serve_one()
        except _Gone as gone:
            self.cut += not gone.clean
        except _Malformed as fault:
            self.garbage.append(f"{fault}: {bytes(connection.buffer[:300])!r}")
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
                sock.close()


class _Connection:
    def __init__(self, sock: socket.socket, number: int, canary: Canary) -> None:
        self.sock = sock
        self.number = number
        self.canary = canary
        self.buffer = bytearray()

    def serve_one(self) -> None:
        seen = self._head()
        self.canary.begun += 1
        path = seen.target.partition("?")[0]
        early = self.canary.early.get(path)
        if early is not None:
            self.sock.sendall(early)
        try:
            seen.body = self._body(seen)
        finally:
            if early is not None:
                self.canary.requests.append(seen)
        if early is not None:
            return
        self.canary.requests.append(seen)
        delay_s = self.canary.delays_s.get(path)
        if delay_s is not None:
            time.sleep(delay_s)  # an upstream that takes its time, which is what is tested
        script = self.canary.scripts.get(path)
        for piece in script or [_answer(seen)]:
            self.sock.sendall(piece)
        self.canary.played += script is not None

    def _head(self) -> Seen:
        request_line = _REQUEST_LINE(self._line(clean=True))
        if request_line is None:
            raise _Malformed("request line")
        seen = Seen(self.number, request_line[1].decode(), request_line[2].decode(), [])
        while line := self._line():
            if (parts := _FIELD(line)) is None:
                raise _Malformed(f"field {line[:200]!r}")
            seen.fields.append((parts[1].decode().lower(), parts[2].decode("latin-1").strip(" \t")))
        if len(seen.values("host")) != 1:
            raise _Malformed("hosts")
        return seen

    def _body(self, seen: Seen) -> bytes:
        codings, lengths = seen.values("transfer-encoding"), seen.values("content-length")
        if codings and (codings != ["chunked"] or lengths):
            raise _Malformed(f"framing {codings} {lengths}")
        if codings:
            return self._chunks()
        if lengths and (len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,15}", lengths[0])):
            raise _Malformed(f"lengths {lengths}")
        return self._exactly(int(lengths[0])) if lengths else b""

    def _chunks(self) -> bytes:
        body = b""
        while True:
            line = self._line()
            if not re.fullmatch(rb"[0-9a-f]{1,8}", line):
                raise _Malformed(f"chunk size {line[:100]!r}")
            if not int(line, 16):
                break
            body += self._exactly(int(line, 16))
            if self._line():
                raise _Malformed("chunk end")
        while trailer := self._line():
            if not _FIELD(trailer):
                raise _Malformed(f"trailer {trailer[:100]!r}")
        return body

    def _line(self, *, clean: bool = False) -> bytes:
        while (at := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > _LONGEST_HEAD_BYTES:
                raise _Malformed("line without end")
            self._more(clean=clean and not self.buffer)
        line = bytes(self.buffer[:at])
        del self.buffer[: at + 2]
        if b"\r" in line or b"\n" in line:
            raise _Malformed("bare CR or LF")
        return line

    def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more(clean=False)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def _more(self, *, clean: bool) -> None:
        try:
            data = self.sock.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            raise _Gone(clean)
        self.buffer += data


def _answer(seen: Seen) -> bytes:
    body = json.dumps(
        {"method": seen.method, "target": seen.target, "body": seen.body.decode("latin-1"), "fields": seen.fields}
    ).encode()
    sent = b"" if seen.method == "HEAD" else body
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + sent


@contextlib.contextmanager
def running_canary() -> Iterator[Canary]:
    canary = Canary()
    try:
        yield canary
    finally:
        canary.close()


# The client's side.


@dataclass
class Answer:
    """One response as it stood on the wire."""

    status: int
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True


class RawClient:
    """A TCP connection that says what it is told, and reads responses strictly."""

    def __init__(self, port: int, *, patience_s: float = 10.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send; a gateway that has closed meanwhile has said all it will say."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def answer(self, *, to_head: bool = False) -> Answer | None:
        """The next response; None at the end of the connection. Interim responses are skipped."""
        head = self._until(b"\r\n\r\n")
        if head is None:
            assert not self.buffer, f"the connection ends within {bytes(self.buffer[:300])!r}"
            return None
        lines = head.decode("latin-1").split("\r\n")[:-2]
        matched = re.fullmatch(r"HTTP/1\.[01] ([1-9][0-9][0-9]) [^\r\n]*", lines[0])
        assert matched, f"not a status line: {lines[0]!r}"
        status = int(matched[1])
        if status < 200:
            return self.answer(to_head=to_head)
        pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        answer = Answer(status, dict(pairs))
        assert len([name for name, _ in pairs if name in ("content-length", "transfer-encoding")]) < 2, pairs
        if not to_head and status not in (204, 304):
            self._read_body(answer)
        return answer

    def expect(self, status: int = 200, *, to_head: bool = False) -> Answer:
        """The next response, which must be there and have this status."""
        answer = self.answer(to_head=to_head)
        assert answer is not None, "the connection was closed without an answer"
        assert answer.status == status, answer
        return answer

    def answers(self) -> list[Answer]:
        """Every response to the end of the connection, which the gateway must bring about."""
        found = []
        while (answer := self.answer()) is not None:
            found.append(answer)
        return found

    def _read_body(self, answer: Answer) -> None:
        if "content-length" in answer.fields:
            answer.body, answer.whole = self._exactly(int(answer.fields["content-length"]))
        elif answer.fields.get("transfer-encoding") == "chunked":
            answer.whole = False
            while (line := self._until(b"\r\n")) is not None:
                size = int(line.strip(), 16)
                piece, whole = self._exactly(size + 2)
                answer.body += piece[:-2] if whole else piece
                if not whole or not size:
                    answer.whole = whole
                    return
        else:
            while self._more():
                pass
            answer.body = bytes(self.buffer)
            self.buffer.clear()

    def _until(self, mark: bytes) -> bytes | None:
        while (at := self.buffer.find(mark)) < 0:
            if not self._more():
                return None
        found = bytes(self.buffer[: at + len(mark)])
        del self.buffer[: at + len(mark)]
        return found

    def _exactly(self, count: int) -> tuple[bytes, bool]:
        while len(self.buffer) < count and self._more():
            pass
        found = bytes(self.buffer[:count])
        del self.buffer[:count]
        return found, len(found) == count

    def _more(self) -> bool:
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)


def ask(port: int, *pieces: bytes, to_head: bool = False) -> Answer:
    """The answer to one request on a connection of its own."""
    with RawClient(port) as client:
        for piece in pieces:
            client.send(piece)
        answer = client.answer(to_head=to_head)
        assert answer is not None, "the connection was closed without an answer"
        return answer
