"""HTTP/1.1 to the letter, as one client connection sees it: persistence, limits, expectations, trailers, framing."""

from __future__ import annotations

import asyncio

import pytest

from gw.server.h1.request_head import HeadLimits
from tests.support.edge import LIMITS, OK, Wire, eventually, fields_of, get, proxy, replying, run

OK_LINE = b"HTTP/1.1 200 OK\r\n"
HOST = "Host: a\r\n"


@pytest.mark.parametrize(
    ("version", "fields", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "CONNECTION: CLOSE\r\n", False),
        ("1.1", "connection:Close\r\n", False),
        ("1.1", "Connection: keep-alive, close\r\n", False),
        ("1.1", "Connection: close, keep-alive\r\n", False),
        ("1.1", "Connection: x,\t close ,y\r\n", False),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", False),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", False),
        ("1.1", "Connection: , ,close\r\n", False),
        ("1.1", "Connection:\r\n", True),
        ("1.1", "Connection: closed\r\n", True),
        ("1.1", "Connection: not-close\r\n", True),
        ("1.1", "Connection: keep-alive\r\n", True),
        ("1.1", "Proxy-Connection: close\r\n", True),
        ("1.1", "Keep-Alive: timeout=1\r\n", True),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
        ("1.0", "Connection: Keep-Alive\r\n", True),
        ("1.0", "Connection: x, KEEP-ALIVE\r\n", True),
        ("1.0", "Connection: keep-alive, close\r\n", False),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", False),
        ("1.0", "Proxy-Connection: keep-alive\r\n", False),
        ("1.0", "Connection: keep-aliv\r\n", False),
    ],
)
def test_whether_the_connection_goes_on(version: str, fields: str, stays: bool) -> None:
    async def main() -> None:
        async with proxy(replying(OK)) as (running, _):
            client = await running.connect()
            client.send(get(version=version, headers=fields))
            answer = await client.answer()
            told = {(True, "1.1"): None, (True, "1.0"): "keep-alive"}.get((stays, version), "close")
            assert (answer.status, answer.header("connection")) == (200, told)
            if stays:
                client.send(get())
                assert (await client.answer()).status == 200
            else:
                assert await client.rest() == b""

    run(main())


SMALL = HeadLimits(line_bytes=100, fields=5, field_bytes=60, head_bytes=300)


def line_of(size: int) -> bytes:
    """A request whose line has so many bytes, without its end."""
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (size - len("GET / HTTP/1.1")))


def field_of(size: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * (size - len("X: ")))


def fields_number(count: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"


def head_of(size: int) -> bytes:
    """A head of so many bytes, its empty line included, within all other limits."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"Y: %b\r\n" % (b"y" * 55) * 3
    return start + b"X: %b\r\n\r\n" % (b"x" * (size - len(start) - len("X: \r\n\r\n")))


@pytest.mark.parametrize(
    ("make", "most", "status", "limits"),
    [
        (line_of, 100, 414, SMALL),
        (field_of, 60, 431, SMALL),
        (fields_number, 5, 431, SMALL),
        (head_of, 250, 431, SMALL._replace(head_bytes=250)),
        (line_of, LIMITS.line_bytes, 414, LIMITS),
        (field_of, LIMITS.field_bytes, 431, LIMITS),
        (fields_number, LIMITS.fields, 431, LIMITS),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1 << 20, 1])
def test_limits_to_the_byte(make, most: int, status: int, limits: HeadLimits, piece_bytes: int) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with proxy(replying(OK), limits=limits) as (running, upstream):
            for size, expected in ((most - 1, 200), (most, 200), (most + 1, status)):
                client = await running.connect()
                request = make(size)
                for at in range(0, len(request), piece_bytes):
                    client.send(request[at : at + piece_bytes])
                    if piece_bytes == 1:
                        await client.writer.drain()
                answer = await client.answer()
                assert (answer.status, size) == (expected, size)
                if expected != 200:
                    assert answer.header("connection") == "close"
                    assert await client.rest() == b""
            assert upstream.connections == 1

    run(main())


LINE_END = len(line_of(SMALL.line_bytes)) - len("\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("split", [LINE_END - 1, LINE_END, LINE_END + 1, LINE_END + 2])
def test_a_line_of_just_the_limit_that_comes_in_two(split: int) -> None:
    async def main() -> None:
        async with proxy(replying(OK), limits=SMALL) as (running, _):
            client = await running.connect()
            request = line_of(SMALL.line_bytes)
            client.send(request[:split])
            await eventually(lambda: all(not each.is_idle for each in running.connections._live))
            client.send(request[split:])
            assert (await client.answer()).status == 200

    run(main())


@pytest.mark.parametrize("endless", [b"x" * 1000, b"GET /" + b"x" * 1000])
def test_a_line_without_an_end_is_414_at_once(endless: bytes) -> None:
    async def main() -> None:
        async with proxy(replying(OK), limits=SMALL) as (running, _):
            assert (await running.ask(endless)).status == 414
            assert (await running.ask(line_of(20)[:-2] + b"X: y\r\n" * 100)).status == 431

    run(main())


BODY = b"abcde"
EXPECTING = f"POST / HTTP/1.1\r\n{HOST}Expect: 100-continue\r\n".encode()
LENGTH = b"Content-Length: 5\r\n\r\n"


async def _take(wire: Wire) -> None:
    """Answers a request with a body of five bytes, or none."""
    while True:
        head = await wire.head()
        assert b"expect" not in head.lower()
        if b"chunked" in head:
            await wire.chunked()
        elif b"content-length: 5" in head:
            assert await wire.exactly(5) == BODY
        wire.send(OK)


@pytest.mark.parametrize(
    ("head", "body", "interim"),
    [
        (EXPECTING + LENGTH, BODY, [100]),
        (EXPECTING.replace(b"100-continue", b"100-CONTINUE") + LENGTH, BODY, [100]),
        (EXPECTING + b"Expect: 100-continue\r\n" + LENGTH, BODY, [100]),
        (EXPECTING + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nabcde\r\n0\r\n\r\n", [100]),
        # No body: nothing is waited for.
        (EXPECTING + b"\r\n", b"", []),
        (EXPECTING + b"Content-Length: 0\r\n\r\n", b"", []),
        (EXPECTING.replace(b"100-continue", b"") + LENGTH, BODY, []),
        # HTTP/1.0 knows no interim responses (RFC 9110 section 10.1.1).
        (EXPECTING.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n" + LENGTH, BODY, []),
    ],
)
@pytest.mark.parametrize("waits", [True, False])
def test_expect(head: bytes, body: bytes, interim: list[int], waits: bool) -> None:
    async def main() -> None:
        async with proxy(_take) as (running, _):
            client = await running.connect()
            for _ in range(2):
                if waits and interim:
                    client.send(head)
                    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
                    client.send(body)
                    answer = await client.answer()
                    assert (answer.status, answer.interim) == (200, [])
                else:
                    # Whoever does not wait may be spared the 100, or not.
                    client.send(head + body)
                    answer = await client.answer()
                    assert answer.status == 200
                    assert answer.interim in ([], interim)

    run(main())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (EXPECTING.replace(b"Host: a", b"Host: a b") + LENGTH, 400),
        (EXPECTING.replace(b"100-continue", b"200-maybe") + LENGTH, 417),
        (EXPECTING + b"Content-Length: 11\r\n\r\n", 413),
        (EXPECTING.replace(b"POST", b"TRACE") + LENGTH, 405),
        (EXPECTING + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (EXPECTING + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (EXPECTING + b"Transfer-Encoding: brotli-1\r\n\r\n", 501),
    ],
)
def test_an_expectation_that_is_refused_gets_no_100(head: bytes, status: int) -> None:
    async def main() -> None:
        async with proxy(replying(OK), max_body_bytes=10) as (running, upstream):
            client = await running.connect()
            client.send(head)
            answer = await client.answer()
            assert (answer.status, answer.interim, answer.header("connection")) == (status, [], "close")
            assert await client.rest() == b""
            assert upstream.connections == 0

    run(main())


def test_trailers_of_a_request_pass_that_would_pass_as_headers() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            client.send(
                f"POST / HTTP/1.1\r\n{HOST}Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
                "3;ext=1\r\nabc\r\n0\r\n"
                "X-Sum: 6\r\nx-more:\t a b \t\r\nX-Empty:\r\n"
                "X-Real-IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nAuthorization: secret\r\nCookie: a=b\r\n"
                "Keep-Alive: 5\r\nTE: trailers\r\nContent-Type: a/b\r\nProxy-Authorization: x\r\n\r\n".encode()
            )
            wire = await upstream.accept()
            assert "trailer" not in dict(fields_of(await wire.head()))
            assert await wire.chunked() == (b"abc", [b"x-sum: 6", b"x-more: a b", b"x-empty: "])
            wire.send(OK)
            assert (await client.answer()).status == 200

    run(main())


@pytest.mark.parametrize(
    ("body", "length"),
    [(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "5"), (b"0\r\n\r\n", "0"), (b"5\r\nabcde\r\n0\r\nX-Sum: 1\r\n\r\n", None)],
)
def test_a_chunked_body_that_comes_with_its_head_leaves_with_its_length(body: bytes, length: str | None) -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            client.send(f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode() + body)
            wire = await upstream.accept()
            fields = dict(fields_of(await wire.head()))
            assert (fields.get("content-length"), "transfer-encoding" in fields) == (length, length is None)
            if length is not None:
                assert await wire.exactly(int(length)) == BODY[: int(length)]
            else:
                assert await wire.chunked() == (BODY, [b"x-sum: 1"])
            wire.send(OK)
            assert (await client.answer()).status == 200

    run(main())


@pytest.mark.parametrize(
    "trailer",
    [
        b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: b", b"Connection: close",
        b"X : y", b": y", b" X: y", b"X: a\x00b", b"X: a\rb", b"X", b"X: y\n\r\nZ: z", b"X: " + b"y" * 9000,
    ],
)  # fmt: skip
def test_trailers_that_are_refused(trailer: bytes) -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            head = f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode()
            client.send(head + b"1\r\na\r\n0\r\n" + trailer + b"\r\n\r\n" + get("/canary"))
            assert (await client.answer()).status == 400
            assert await client.rest() == b""
            assert upstream.connections == 0

    run(main())


@pytest.mark.parametrize(
    ("version", "method", "passes"), [("1.1", "GET", True), ("1.1", "HEAD", False), ("1.0", "GET", False)]
)
def test_trailers_of_an_answer(version: str, method: str, passes: bool) -> None:
    trailers = b"X-Sum: 6\r\nConnection: x\r\nKeep-Alive: 5\r\nSet-Cookie: a=b\r\nServer: s\r\n"
    raw = OK_LINE + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + (
        b"" if method == "HEAD" else b"3\r\nabc\r\n0\r\n" + trailers + b"\r\n"
    )

    async def main() -> None:
        async with proxy(replying(raw)) as (running, _):
            client = await running.connect()
            for _ in range(2):
                if client.reader.at_eof():
                    break
                client.send(get(version=version, method=method))
                answer = await client.answer(to_head=method == "HEAD")
                assert answer.trailers == ([("x-sum", "6")] if passes else [])
                assert answer.body == (b"" if method == "HEAD" else b"abc")
                if version == "1.0":
                    break

    run(main())


@pytest.mark.parametrize("body", [b"", b"3\r\nabc\r\n", b"1\r\na\r\n2\r\nbc\r\n"])
@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 6\r\n", b"Set-Cookie: a=b\r\n"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_answer_with_trailers_ends_once(body: bytes, trailers: bytes, in_pieces: bool) -> None:
    raw = OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"

    async def play(wire: Wire) -> None:
        while True:
            await wire.head()
            for at in range(0, len(raw), 1 if in_pieces else len(raw)):
                wire.send(raw[at : at + (1 if in_pieces else len(raw))])
                await asyncio.sleep(0)

    async def main() -> None:
        async with proxy(play) as (running, _):
            client = await running.connect()
            client.send(get() + get(headers="Connection: close\r\n"))
            for _ in range(2):
                answer = await client.answer()
                assert (answer.body, answer.complete) == (b"abc" if body else b"", True)
                assert answer.trailers == ([("x-sum", "6")] if b"X-Sum" in trailers else [])
            assert await client.rest() == b""

    run(main())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    ("raw", "interim"),
    [
        (b"HTTP/1.1 103 Hints\r\nLink: </a>\r\nKeep-Alive: 1\r\nContent-Length: 3\r\n\r\n" * 2 + OK, [103, 103]),
        (b"HTTP/1.1 102 Processing\r\n\r\n" + OK, [102]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, []),
        (b"HTTP/1.1 199 Odd\r\n\r\n" + OK, [199]),
    ],
)
def test_interim_responses_pass_to_who_knows_them(raw: bytes, interim: list[int], version: str) -> None:
    async def main() -> None:
        async with proxy(replying(raw)) as (running, _):
            client = await running.connect()
            client.send(get(version=version))
            for status in interim if version == "1.1" else []:
                head = await client.head()
                assert head.split(b" ")[1] == b"%d" % status
                assert not dict(fields_of(head)).keys() & {"content-length", "keep-alive"}
            answer = await client.answer()
            assert (answer.status, answer.body, answer.interim) == (200, b"ok", [])

    run(main())


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("200 Fine", "Fine"),
        ("200 ", "OK"),
        ("200", "OK"),
        ("404 Never heard of it", "Never heard of it"),
        ("299 ", ""),
        ("200 caf\xe9", "caf\xe9"),
        ("431 ", "Request Header Fields Too Large"),
    ],
)
def test_reason_phrases(line: str, phrase: str) -> None:
    raw = f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")

    async def main() -> None:
        async with proxy(replying(raw)) as (running, _):
            client = await running.connect()
            client.send(get())
            head = (await client.head()).decode("latin-1")
            assert head.partition("\r\n")[0] == f"HTTP/1.1 {line[:3]} {phrase}"

    run(main())


@pytest.mark.parametrize(
    ("method", "raw", "framing"),
    [
        ("HEAD", OK_LINE + b"Content-Length: 7\r\n\r\n", {"content-length": "7"}),
        ("HEAD", OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n", {}),
        ("HEAD", b"HTTP/1.1 404 N\r\nContent-Length: 7\r\n\r\n", {"content-length": "7"}),
        ("GET", b"HTTP/1.1 204 N\r\n\r\n", {}),
        ("GET", b"HTTP/1.1 304 N\r\nContent-Length: 7\r\nETag: x\r\n\r\n", {"content-length": "7"}),
        ("GET", b"HTTP/1.1 304 N\r\n\r\n", {}),
        ("GET", b"HTTP/1.1 205 R\r\nContent-Length: 0\r\n\r\n", {"content-length": "0"}),
        ("GET", b"HTTP/1.1 200 O\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {"transfer-encoding": "chunked"}),
    ],
)
def test_answers_without_a_body_leave_the_connection_in_step(method: str, raw: bytes, framing: dict[str, str]) -> None:
    async def play(wire: Wire) -> None:
        while True:
            wire.send(OK if b"/next" in await wire.head() else raw)

    async def main() -> None:
        async with proxy(play) as (running, upstream):
            client = await running.connect()
            for _ in range(2):
                client.send(get(method=method))
                answer = await client.answer(to_head=method == "HEAD")
                found = dict(pair for pair in answer.headers if pair[0] in ("content-length", "transfer-encoding"))
                assert (answer.body, found) == (b"", framing)
                client.send(get("/next"))
                assert (await client.answer()).body == b"ok"
            assert upstream.connections == 1

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "status", "host"),
    [
        (b"GET /a HTTP/1.0\r\n\r\n", 200, "127.0.0.1:{port}"),
        (b"GET /a HTTP/1.0\r\nHost: b\r\n\r\n", 200, "b"),
        (b"GET http://b/a HTTP/1.1\r\nHost: b\r\n\r\n", 200, "b"),
        (b"GET HTTP://b:80/a HTTP/1.1\r\nHost: b:80\r\n\r\n", 200, "b:80"),
        (b"GET http://b/a HTTP/1.0\r\n\r\n", 200, "b"),
        (b"GET http://b/a HTTP/1.1\r\n\r\n", 400, ""),
        (b"GET http://c/a HTTP/1.1\r\nHost: b\r\n\r\n", 400, ""),
        (b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", 400, ""),
        (b"GET /a HTTP/1.1\r\n\r\n", 400, ""),
        (b"GET /a HTTP/1.0\r\nHost: b\r\nHost: b\r\n\r\n", 400, ""),
        (b"GET /a HTTP/1.1\r\nHost: b, c\r\n\r\n", 400, ""),
    ],
)
def test_the_host_of_either_version_and_form(request_bytes: bytes, status: int, host: str) -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            client.send(request_bytes)
            if status == 200:
                wire = await upstream.accept()
                head = await wire.head()
                assert head.startswith(b"GET /a HTTP/1.1\r\n")
                assert dict(fields_of(head))["host"] == host.format(port=upstream.port)
                wire.send(OK)
            assert (await client.answer()).status == status

    run(main())
