"""response-rewrite through both edges; cases of apisix's t/plugin/response-rewrite.t, 2.t and 3.t."""

from __future__ import annotations

import asyncio
import base64
import gzip
import logging
import os
from typing import Any

import brotli
import pytest

from gw.plugins.response_rewrite import ResponseRewrite
from tests.support.edge import Answer, fields_of, get, replying, run
from tests.support.plugin_edge import checked, instance, phases, plugin_edge

pytestmark = pytest.mark.usefixtures("each_edge")


def upstream_answer(body: bytes = b"hello world", headers: str = "", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1")
    return head + body


def answered(
    conf: dict[str, Any], raw: bytes = upstream_answer(), request: bytes = get(), attr: dict[str, Any] | None = None
) -> Answer:
    """What the client gets; and that the connection goes on afterwards, where it can."""
    answers: list[Answer] = []

    async def main() -> None:
        made = instance(ResponseRewrite, conf, attr=lambda name: (attr or {}) if name == "response-rewrite" else {})
        async with plugin_edge(phases(made), replying(raw, close=b"\r\nconnection: close" in raw.lower())) as (edge, _):
            client = await edge.connect()
            is_head = request.startswith(b"HEAD ")
            client.send(request)
            try:
                answers.append(await client.answer(to_head=is_head))
            except asyncio.IncompleteReadError:  # gunicorn's edge sends the head with the first of a body
                answers.append(Answer(0, [], complete=False))
            if answers[0].complete:
                client.send(request)
                second = await client.answer(to_head=is_head)
                assert (second.status, second.body) == (answers[0].status, answers[0].body)

    run(main())
    return answers[0]


def test_status_and_body_and_headers():
    conf = {"status_code": 201, "body": "new body\n", "headers": {"X-Server-id": 3, "X-Server-status": "on"}}
    answer = answered(conf, upstream_answer(headers="X-Server-status: off\r\n"))
    assert (answer.status, answer.body) == (201, b"new body\n")
    assert answer.header("x-server-id") == "3"
    assert answer.header("x-server-status") == "on"
    assert answer.reason == "Created"


def test_without_work_on_the_body_it_keeps_its_length():
    async def main() -> None:
        settled = phases(instance(ResponseRewrite, {"status_code": 202, "headers": {"X-A": "b"}}))
        assert settled.body_filter == ()

    run(main())
    answer = answered({"status_code": 202, "headers": {"X-A": "b"}})
    assert (answer.status, answer.header("content-length"), answer.body) == (202, "11", b"hello world")


@pytest.mark.parametrize(
    ("conf", "sent", "expected"),
    [
        ({"X-A": "$status $remote_addr"}, "", ["200 127.0.0.1"]),
        ({"X-A": ""}, "X-A: b\r\n", []),
        ({"set": {"X-A": "1"}}, "X-A: b\r\nX-A: c\r\n", ["1"]),
        ({"add": ["X-A: $sent_http_x_b", "X-A:2: 3"]}, "X-A: b\r\nX-B: 1\r\n", ["b", "1", "2: 3"]),
        ({"remove": ["x-a"]}, "X-A: b\r\n", []),
        ({"add": ["X-A: 1"], "set": {"X-A": "2"}}, "X-A: b\r\n", ["2"]),
        ({"add": ["X-A: 1"], "remove": ["X-A"]}, "X-A: b\r\n", []),
    ],
)
def test_headers(conf: dict[str, Any], sent: str, expected: list[str]):
    answer = answered({"headers": conf}, upstream_answer(headers=sent))
    assert [value for name, value in answer.headers if name == "x-a"] == expected


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive"])
@pytest.mark.parametrize("action", ["add", "set", "remove"])
def test_framing_stays(name: str, action: str):
    value: Any = {"add": [f"{name}: 5"], "set": {name: "5"}, "remove": [name]}[action]
    answer = answered({"headers": {action: value}})
    assert (answer.status, answer.body) == (200, b"hello world")


def test_a_status_in_a_header_is_the_new_one():
    assert answered({"status_code": 418, "headers": {"X-Status": "$status"}}).header("x-status") == "418"


@pytest.mark.parametrize(
    ("variables", "applies"),
    [
        ([], True),
        ([["status", "==", 200]], True),
        ([["status", "==", "404"]], False),
        ([["sent_http_x_a", "b"], ["request_method", "in", ["GET"]]], True),
        ([["OR", ["status", 500], ["upstream_http_x_a", "~~", "^B$"]]], False),
    ],
)
@pytest.mark.parametrize("work", [{"body": "new"}, {"filters": [{"regex": "hello world", "replace": "new"}]}, {}])
def test_vars(variables: list[Any], applies: bool, work: dict[str, Any]):
    answer = answered({"vars": variables, "status_code": 203, **work}, upstream_answer(headers="X-A: b\r\n"))
    assert answer.status == (203 if applies else 200)
    assert answer.body == (b"new" if applies and work else b"hello world")


@pytest.mark.parametrize("work", [{"body": "new"}, {"filters": [{"regex": "hello world", "replace": "new"}]}, {}])
@pytest.mark.parametrize(("value", "status"), [("200", 203), ("404", 200)])
def test_meta_filter(value: str, status: int, work: dict[str, Any]):
    answer = answered({"status_code": 203, **work, "_meta": {"filter": [["status", "==", value]]}})
    assert answer.status == status
    assert answer.body == (b"new" if work and status == 203 else b"hello world")


EXPLODES = ["arg_x", "~~", r"(a+)+\1$"]


@pytest.mark.parametrize("conf", [{"_meta": {"filter": [EXPLODES]}}, {"vars": [EXPLODES]}])
@pytest.mark.parametrize("work", [{"status_code": 203}, {"filters": [{"regex": "hello", "replace": "x"}]}])
def test_a_request_that_makes_a_condition_explode_is_refused(
    conf: dict[str, Any], work: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    answer = answered(conf | work, request=get("/?x=" + "a" * 3000 + "!"))
    assert (answer.status, answer.body) == (400, b'{"error_msg":"400 Bad Request"}\n')
    assert "takes too long on 3001 bytes" in caplog.text
    assert answered(conf | work, request=get("/?x=b")).status == 200


@pytest.mark.parametrize(
    ("filters", "body", "expected"),
    [
        ([{"regex": "hello", "replace": "test"}], b"hello hello", b"test hello"),
        ([{"regex": "hello", "scope": "global", "replace": "test"}], b"hello hello", b"test test"),
        ([{"regex": "HELLO", "replace": "x", "options": "i"}], b"hello", b"x"),
        ([{"regex": "(l+)(o)", "replace": "$2$1$$$0${2}$9"}], b"hello", b"heoll$lloo"),
        ([{"regex": "a", "replace": "b"}, {"regex": "b", "replace": "c"}], b"a", b"c"),
        ([{"regex": "none", "replace": "x"}], b"\x00\xff", b"\x00\xff"),
        ([{"regex": "^b", "replace": "x", "options": "jom"}], b"a\nb", b"a\nx"),
        ([{"regex": "\u00e9", "replace": "e\u0301", "scope": "global"}], "é-é".encode(), "e\u0301-e\u0301".encode()),
        ([{"regex": "h.l", "replace": "$0", "options": "u"}], b"h\xc3\xa9l\xff", b"h\xc3\xa9l\xff"),
        ([{"regex": "^.$", "replace": "x", "options": "u"}], "é".encode(), b"x"),
        ([{"regex": "^$", "replace": "x"}], b"", b"x"),
    ],
)
def test_filters(filters: list[dict[str, Any]], body: bytes, expected: bytes):
    assert answered({"filters": filters}, upstream_answer(body)).body == expected


STALE = "ETag: \"1\"\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n"
GONE = ("content-length", "content-encoding", "etag", "last-modified")
HELLO = [{"regex": "hello", "replace": "test"}]


@pytest.mark.parametrize("work", [{"body": "new"}, {"filters": HELLO}, {"filters": [{"regex": "none", "replace": ""}]}])
def test_what_described_the_old_body_goes(work: dict[str, Any]):
    packed = gzip.compress(b"hello world", mtime=0)
    answer = answered(work, upstream_answer(packed, STALE + "Content-Encoding: gzip\r\n"))
    assert [answer.header(name) for name in GONE] == [None] * 4


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"hello world", mtime=0)),
        ("GZIP", gzip.compress(b"hello world", mtime=0)),
        ("x-gzip", gzip.compress(b"hello ", mtime=0) + gzip.compress(b"world", mtime=0) + b"\0\0"),
        ("br", brotli.compress(b"hello world")),
        ("identity", b"hello world"),
    ],
)
def test_filters_look_into_an_encoding(encoding: str, packed: bytes):
    answer = answered({"filters": HELLO}, upstream_answer(packed, f"Content-Encoding: {encoding}\r\n"))
    assert (answer.body, answer.header("content-encoding")) == (b"test world", None)


@pytest.mark.parametrize("encoding", ["deflate", "zstd", "gzip, br"])
def test_what_cannot_be_looked_into_passes_as_it_is(encoding: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "gw.plugins.response_rewrite"):
        raw = upstream_answer(b"packed hello", f"{STALE}Content-Encoding: {encoding}\r\n")
        answer = answered({"filters": HELLO}, raw)
    assert (answer.body, answer.header("content-encoding"), answer.header("etag")) == (b"packed hello", encoding, '"1"')
    assert len([record for record in caplog.records if encoding in record.getMessage()]) == 1


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([], []),
        (["gzip, deflate, br, zstd"], ["gzip, br"]),
        (["gzip;q=0.5", "zstd"], ["gzip;q=0.5"]),
        (["*"], ["identity"]),
        (["deflate"], ["identity"]),
        (["GZIP , identity;q=0"], ["GZIP, identity;q=0"]),
        (["gzip"], ["gzip"]),
        (["gzip", "br"], ["gzip, br"]),
        (["gzip", "zstd"], ["gzip"]),
    ],
)
def test_no_encoding_hides_a_body_from_filters(sent: list[str], expected: list[str]):
    async def main() -> None:
        async with plugin_edge(phases(instance(ResponseRewrite, {"filters": HELLO}))) as (running, upstream):
            client = await running.connect()
            client.send(get(headers="".join(f"Accept-Encoding: {value}\r\n" for value in sent)))
            wire = await upstream.accept()
            fields = fields_of(await wire.head())
            assert [value for name, value in fields if name == "accept-encoding"] == expected

    run(main())


def test_a_new_body_takes_the_place_of_any_encoding():
    answer = answered({"body": "new"}, upstream_answer(b"packed", "Content-Encoding: deflate\r\n"))
    assert (answer.body, answer.header("content-encoding")) == (b"new", None)


def test_headers_alone_leave_the_encoding():
    conf = {"headers": {"set": {"Content-Type": ""}}}
    answer = answered(conf, upstream_answer(b"packed", "Content-Type: a/b\r\nContent-Encoding: gzip\r\n"))
    assert (answer.body, answer.header("content-encoding"), answer.header("content-type")) == (b"packed", "gzip", None)


NOISE = os.urandom(1000)


@pytest.mark.parametrize(
    ("body", "encoding", "is_whole"),
    [
        (b"a" * 1000, "identity", True),
        (b"a" * 1001, "identity", False),
        (gzip.compress(b"a" * 1000, mtime=0), "gzip", True),
        (gzip.compress(b"a" * 1001, mtime=0), "gzip", False),
        (gzip.compress(b"a" * 10_000_000, mtime=0), "gzip", False),
        (gzip.compress(b"a" * 500, mtime=0) * 3, "gzip", False),
        (gzip.compress(b"", mtime=0) * 20, "gzip", True),
        (brotli.compress(b"a" * 1000), "br", True),
        (brotli.compress(b"a" * 10_000_000), "br", False),
        (gzip.compress(b"hello", mtime=0)[:-3], "gzip", False),
        (brotli.compress(NOISE[:100])[:-3], "br", False),
        (b"no gzip", "gzip", False),
        (b"\xff no brotli", "br", False),
        (b"", "gzip", True),
    ],
)
def test_what_cannot_be_filtered_breaks_off(
    body: bytes, encoding: str, is_whole: bool, caplog: pytest.LogCaptureFixture
):
    conf = {"filters": [{"regex": "none", "replace": ""}]}
    answer = answered(
        conf, upstream_answer(body, f"Content-Encoding: {encoding}\r\n"), attr={"max_body_bytes": 1000}
    )
    assert answer.complete is is_whole
    assert is_whole or answer.body == b""
    assert not [record for record in caplog.records if record.name.startswith("gw.upstream")]


def test_a_configuration_s_own_limit_goes_before_that_of_all():
    conf = {"filters": [{"regex": "l", "replace": "L"}], "max_resp_body_size": 11}
    for body, is_whole in ((b"hello world", True), (b"hello world!", False)):
        assert answered(conf, upstream_answer(body), attr={"max_body_bytes": 1}).complete is is_whole


def test_a_body_that_makes_an_expression_explode_breaks_off(caplog: pytest.LogCaptureFixture):
    """Upstreams repeat what clients say; no client may hold a worker by it."""
    for options in ("jo", "jou"):
        conf = {"filters": [{"regex": "(a+)+$", "replace": "", "options": options}]}
        assert not answered(conf, upstream_answer(b"a" * 3000 + b"!")).complete
        assert "takes too long on 3001 characters" in caplog.text
        caplog.clear()


def test_pieces_are_put_together():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n8\r\nlo world\r\n0\r\n\r\n"
    assert answered({"filters": HELLO}, chunked).body == b"test world"
    assert answered({"body": "new"}, chunked).body == b"new"


@pytest.mark.parametrize("work", [{"body": "new"}, {"filters": HELLO}, {}])
def test_the_answer_to_head_has_no_body(work: dict[str, Any]):
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"
    answer = answered({"status_code": 202, **work}, raw, get(method="HEAD"))
    assert answer.status == 202


@pytest.mark.parametrize("work", [{"body": "new"}, {"filters": HELLO}, {}])
@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status: int, work: dict[str, Any]):
    assert answered({"status_code": status, **work}).status == status


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_body_for_an_answer_that_had_none(status: str):
    raw = f"HTTP/1.1 {status}\r\n\r\n".encode()
    answer = answered({"status_code": 200, "body": "new"}, raw)
    assert (answer.status, answer.body) == (200, b"new")


def test_an_answer_of_the_gateway_is_changed_too():
    async def main() -> None:
        made = instance(ResponseRewrite, {"vars": [["status", "==", 502]], "status_code": 503, "body": "later"})
        async with plugin_edge(phases(made), replying(b"no HTTP", close=True)) as (running, _):
            answer = await running.ask(get())
            assert (answer.status, answer.body) == (503, b"later")

    run(main())


def test_a_body_in_base64():
    conf = {"body": base64.b64encode(b"\x00\xffbinary").decode(), "body_base64": True}
    assert answered(conf).body == b"\x00\xffbinary"


def test_an_empty_body():
    assert answered({"body": ""}).body == b""


@pytest.mark.parametrize(
    ("conf", "attr", "reason"),
    [
        ({"body": "1", "body_base64": True}, {}, "invalid base64 content"),
        ({"body": "", "body_base64": True}, {}, "invalid base64 content"),
        ({"vars": ["status", "==", 200]}, {}, "wrapped inside brackets"),
        ({"filters": [{"regex": "(", "replace": ""}]}, {}, "is no regular expression"),
        ({"filters": [{"regex": "a", "replace": "", "options": "q"}]}, {}, "unknown flag \"q\""),
        ({"filters": [{"regex": "a", "replace": "$x"}]}, {}, "after \\$"),
        ({"body": "a"}, {"max_body_bytes": 0}, "max_body_bytes"),
    ],
)
def test_what_cannot_be_settled_says_why(conf: dict[str, Any], attr: dict[str, Any], reason: str):
    async def main() -> None:
        with pytest.raises(ValueError, match=reason):
            instance(ResponseRewrite, conf, attr=lambda name: attr)

    run(main())


@pytest.mark.parametrize(
    "conf",
    [
        {"status_code": 199},
        {"status_code": 599},
        {"status_code": "200"},
        {"body": 1},
        {"body": "a", "filters": [{"regex": "a", "replace": "b"}]},
        {"filters": []},
        {"filters": [{"regex": "a"}]},
        {"filters": [{"regex": "", "replace": "b"}]},
        {"filters": [{"regex": "a", "replace": "b", "scope": "two"}]},
        {"headers": {"add": ["X-A"]}},
        {"headers": {"set": {"X A": "b"}}},
        {"headers": {"X-A": "b\r\nc"}},
    ],
)
def test_what_is_no_configuration_is_refused(conf: dict[str, Any]):
    with pytest.raises(ValueError):
        checked("response-rewrite", conf)
