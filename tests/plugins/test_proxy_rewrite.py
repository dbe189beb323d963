"""proxy-rewrite through both edges; cases of apisix's t/plugin/proxy-rewrite.t, 2.t and 3.t."""

from __future__ import annotations

from typing import Any

import pytest

from gw.plugins.proxy_rewrite import ProxyRewrite
from tests.support.edge import OK, Answer, fields_of, get, replying, run
from tests.support.plugin_edge import checked, instance, phases, plugin_edge

pytestmark = pytest.mark.usefixtures("each_edge")


def head(conf: dict[str, Any], path: str = "/", headers: str = "", method: str = "GET", **upstream: Any) -> bytes:
    """What the upstream gets."""
    heads: list[bytes] = []

    async def main() -> None:
        async with plugin_edge(phases(instance(ProxyRewrite, conf)), **upstream) as (running, server):
            client = await running.connect()
            client.send(get(path, headers=headers, method=method))
            wire = await server.accept()
            heads.append(await wire.head())
            wire.send(OK)
            assert (await client.answer(to_head=method == "HEAD")).status == 200

    run(main())
    return heads[0]


def request_line(conf: dict[str, Any], path: str = "/", method: str = "GET") -> str:
    line, *_ = head(conf, path, method=method).decode("latin-1").split("\r\n")
    method, uri, version = line.split(" ")
    assert version == "HTTP/1.1"
    return uri if method == "GET" else f"{method} {uri}"


def values(conf: dict[str, Any], name: str, path: str = "/", headers: str = "") -> list[str]:
    return [value for each, value in fields_of(head(conf, path, headers)) if each == name]


def refused(conf: dict[str, Any], path: str = "/", headers: str = "") -> Answer:
    """The answer to what must not leave, and did not."""
    answers: list[Answer] = []

    async def main() -> None:
        async with plugin_edge(phases(instance(ProxyRewrite, conf)), replying(OK)) as (running, upstream):
            answers.append(await running.ask(get(path, headers=headers)))
            assert upstream.connections == 0

    run(main())
    return answers[0]


@pytest.mark.parametrize(
    ("uri", "path", "expected"),
    [
        ("/plugin_proxy_rewrite", "/hello", "/plugin_proxy_rewrite"),
        ("/plugin_proxy_rewrite_args", "/hello?q=apisix&a=iresty", "/plugin_proxy_rewrite_args?q=apisix&a=iresty"),
        ("/new?q=1", "/hello", "/new?q=1"),
        ("/new?q=1", "/hello?a=b%20c", "/new?q=1&a=b%20c"),
        ("/new?", "/hello?a=b", "/new?a=b"),
        ("/new?", "/hello", "/new"),
        ("/new?q=1&", "/hello?a=b", "/new?q=1&a=b"),
        ("/test/$arg_uri", "/hello?uri=x", "/test/x?uri=x"),
        ("/test/${arg_uri ?? none}", "/hello", "/test/none"),
        ("/${arg_a ?? x?y}", "/hello?z", "/x?y&z"),
        ("/files/$http_f", "/", "/files/"),
        ("/$uri/remain", "/hello%3f0z=700%26a=c%20HTTP/1.1", "/hello%3F0z=700&a=c%20HTTP/1.1/remain"),
        ("/$uri", "/a%2Fb%25c", "/a%2Fb%25c"),
        ("/$uri", "/caf%C3%A9/%FF", "/caf%C3%A9/%FF"),
        ("/x/$arg_a", "/?a=%3Fb=1", "/x/%3Fb=1?a=%3Fb=1"),
        ("/x/$arg_a", "/?a=%23", "/x/%23?a=%23"),
        ("/x/$arg_a", "/?a=a%20b", "/x/a%20b?a=a%20b"),
        ("/x/$arg_a", "/?a=a%252Fb", "/x/a%252Fb?a=a%252Fb"),
        ("/x?y=$arg_a", "/?a=1%26z=2%2B%25", "/x?y=1%26z%3D2%2B%25&a=1%26z=2%2B%25"),
        ("/x?y=$uri", "/a%2Fb&c", "/x?y=/a%2Fb%26c"),
        ("/x?y=1&$args", "/?a=b%20c", "/x?y=1&a=b%20c&a=b%20c"),
        ("/x$request_uri", "/a%20b?c=d", "/x/a%20b%3Fc=d?c=d"),
        ("/x$request_uri", "/a/%2e%2e//b%2Fc", "/x/b%2Fc"),
        ("/x?y=$request_uri", "/a%3F%23b/../c%20d", "/x?y=/c%20d"),
        ("/x/$http_x_none", "/", "/x/"),
        ("/ä b#c", "/", "/%C3%A4%20b%23c"),
        ("/a%20b%zz", "/", "/a%20b%25zz"),
        ("/a//b", "/", "/a/b"),
        ("/files/$arg_f", "/?f=%252e%252e/x", "/files/%252e%252e/x?f=%252e%252e/x"),
    ],
)
def test_the_uri(uri: str, path: str, expected: str | int):
    if isinstance(expected, int):
        assert refused({"uri": uri}, path).status == expected
    else:
        assert request_line({"uri": uri}, path) == expected


@pytest.mark.parametrize(
    ("pairs", "path", "expected"),
    [
        (["^/test/(.*)/(.*)/(.*)", "/$1_$2_$3"], "/test/plugin/proxy/rewrite", "/plugin_proxy_rewrite"),
        (["^/test/(.*)/(.*)/(.*)", "/$1_$2_$3"], "/test/a/b/c?x=y", "/a_b_c?x=y"),
        (["^/test/(.*)/(.*)/(.*)", "/$1_$2_$3?a=c"], "/test/plugin/proxy/rewrite", "/plugin_proxy_rewrite?a=c"),
        (["^/test/(.*)/(.*)/(.*)", "/$1_$2_$3?a=c"], "/test/a/b/c?x=y", "/a_b_c?a=c&x=y"),
        (["^/none/(.*)", "/$1"], "/test/a%20b?x=y", "/test/a%20b?x=y"),
        (["^/a/(.*)", "/first/$1", "^/(.*)", "/second/$1"], "/a/b", "/first/b"),
        (["^/a/(.*)", "/first/$1", "^/(.*)", "/second/$1"], "/b/c", "/second/b/c"),
        (["^/a/(.*)/hello", "/h/$1", "^/a/(.*)/world", "/w/$1"], "/a/x/world", "/w/x"),
        (["/b", "/x"], "/a/b/b", "/a/x/b"),
        (["^/api(.*)", "$1"], "/api", "/"),
        (["^/api/(.*)", "$1"], "/api/users", "/users"),
        (["^/api(/.*)?$", "$1"], "/api", "/"),
        (["^/(.*)", "/$0/${1}/$$1/$7"], "/a", "/a/a/$1/"),
        (["^/x/(.*)", "/y/$1"], "/x/a%20b%2Fc%25d%3Fe%23f", "/y/a%20b%2Fc%25d%3Fe%23f"),
        (["^/x/(.*)", "/y?q=$1"], "/x/a&b=c+%25", "/y?q=a%26b%3Dc%2B%25"),
        (["^/x/(.*)/", "/y?q=$1"], "/x/a/tail&b", "/y?q=atail%26b"),
        (["^/x/(.*)", "/y/$1"], "/x/caf%C3%A9%FF", "/y/caf%C3%A9%FF"),
        (["^/(?<all>.+)$", "/y/$1"], "/x", "/y/x"),
        (["^/x/(.*)", "/y/../$1"], "/x/a", 400),
        (["^/x/(.*)/(.*)", "/y/$1$2/"], "/x/./.", "/x/"),
        (["^/x/(.*)-(.*)", "/y/$1$2/z"], "/x/.-.", 400),
        (["^/x/(.*)-(.*)", "/y/$1$2/z"], "/x/.-", 400),
    ],
)
def test_the_uri_by_expression(pairs: list[str], path: str, expected: str | int):
    if isinstance(expected, int):
        assert refused({"regex_uri": pairs}, path).status == expected
    else:
        assert request_line({"regex_uri": pairs}, path) == expected


def test_a_path_that_makes_an_expression_explode_is_refused():
    """Without a bound neither would ever end."""
    for pattern in ("^/(a+)+$", "^/(?:a|aa)+$"):
        assert refused({"regex_uri": [pattern, "/x"]}, "/" + "a" * 2000 + "!").status == 400


def test_uri_goes_before_regex_uri():
    assert request_line({"uri": "/a", "regex_uri": ["^/(.*)", "/b"]}, "/x") == "/a"


@pytest.mark.parametrize(
    ("conf", "path", "expected"),
    [
        ({}, "/print%5Furi%5fdetailed?a=%5F", "/print%5Furi%5fdetailed?a=%5F"),
        ({}, "/a/../b//c", "/a/../b//c"),
        ({}, "http://example.com/a%5F", "/a%5F"),
        ({"regex_uri": ["/hello/(.+)", "/hello?v=$1"]}, "/hello/%ED%85%8C", "/hello?v=%ED%85%8C"),
        ({"regex_uri": ["^/x", "/y"]}, "/a%5F?b=c", "/a%5F?b=c"),
        ({"regex_uri": ["b=c$", "b=d"]}, "/a%5F?b=c", "/a%5F?b=d"),
        ({"uri": "/new"}, "/a?b=c", "/new"),
    ],
)
def test_the_real_uri_leaves_as_it_came(conf: dict[str, Any], path: str, expected: str):
    assert request_line({**conf, "use_real_request_uri_unsafe": True}, path) == expected


@pytest.mark.parametrize(
    ("conf", "path", "headers"),
    [
        ({"uri": "/files/$arg_f"}, "/?f=../../etc/passwd", ""),
        ({"uri": "/files/$arg_f"}, "/?f=..", ""),
        ({"uri": "/files/$http_f"}, "/", "F: a/./b\r\n"),
        ({"uri": "/files$real_request_uri"}, "/a/%2e%2e/b", ""),
        ({"uri": "/files/$arg_f"}, "/?f=..;x/y", ""),
        ({"uri": "/files/$arg_f"}, "/?f=a%0d%0aHost:%20b", ""),
        ({"uri": "/files/$arg_f"}, "/?f=a%00", ""),
        ({"regex_uri": ["^/", "/a b"], "use_real_request_uri_unsafe": True}, "/", ""),
        ({"regex_uri": ["^/", "/a#b"], "use_real_request_uri_unsafe": True}, "/", ""),
        ({"regex_uri": ["^/", "/ä"], "use_real_request_uri_unsafe": True}, "/", ""),
        ({"regex_uri": ["^/", ""], "use_real_request_uri_unsafe": True}, "/a", ""),
        ({"headers": {"set": {"X-A": "$arg_a"}}}, "/?a=b%0d%0aX-B:%20c", ""),
        ({"headers": {"add": {"X-A": "$arg_a"}}}, "/?a=b%00", ""),
    ],
)
def test_nothing_unsafe_leaves(conf: dict[str, Any], path: str, headers: str):
    assert refused(conf, path, headers).status == 400


def test_method_and_host():
    lines = head({"method": "POST", "host": "apisix.iresty.com:81"}).split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert [line for line in lines if line.startswith(b"host:")] == [b"host: apisix.iresty.com:81"]


@pytest.mark.parametrize(
    ("conf", "sent", "expected"),
    [
        ({"X-Api": "v2"}, "X-Api: v1\r\n", ["v2"]),
        ({"X-Api": "v2"}, "", ["v2"]),
        ({"X-Api": 3}, "", ["3"]),
        ({"X-Api": 1.5}, "", ["1.5"]),
        ({"X-Api": 3.0}, "", ["3"]),
        ({"X-Api": ""}, "X-Api: v1\r\n", []),
        ({"X-Api": "$http_none"}, "X-Api: v1\r\n", []),
        ({"X-Api": "$remote_addr:$http_x_api"}, "X-Api: v1\r\n", ["127.0.0.1:v1"]),
        ({"set": {"x-api": "2233"}}, "X-Api: a\r\nX-API: b\r\n", ["2233"]),
        ({"add": {"x-api": "123"}}, "X-Api: a\r\nX-API: b\r\n", ["a", "b", "123"]),
        ({"add": {"x-api": "123"}}, "", ["123"]),
        ({"add": {"x-api": ""}}, "", []),
        ({"add": {"x-api": ["b", "$http_x_api", 3, ""]}}, "X-Api: a\r\n", ["a", "b", "a", "3"]),
        ({"set": {"X-Api": ["v1", "v2"]}}, "X-Api: a\r\n", ["v1", "v2"]),
        ({"set": {"x-api": ["v1", "v2"], "X-Api": "v3"}}, "", ["v3"]),
        ({"remove": ["X-Api"]}, "X-Api: a\r\nX-API: b\r\n", []),
        ({"add": {"X-Api": "in_add"}, "set": {"X-Api": "in_set"}}, "X-Api: a\r\n", ["in_set"]),
        ({"add": {"X-Api": "in_add"}, "remove": ["x-api"]}, "X-Api: a\r\n", []),
        ({"set": {"X-Api": "in_set"}, "remove": ["x-api"]}, "", []),
        ({"set": {"X-Api": "$arg_a"}}, "", ["\u20ac".encode().decode("latin-1")]),
    ],
)
def test_headers(conf: dict[str, Any], sent: str, expected: list[str]):
    assert values({"headers": conf}, "x-api", "/?a=%E2%82%AC", sent) == expected


@pytest.mark.parametrize(
    ("pairs", "text", "path", "expected"),
    [
        (["^/test/(.*)/(.*)/(.*)", "/echo"], "$1/$2/$3", "/test/plugin/proxy/rewrite", ["plugin/proxy/rewrite"]),
        (["^/test/(.*)/(.*)/(.*)", "/echo"], "$1/$2/$3", "/echo", ["//"]),
        (["^/test/(not_matched)?.*", "/echo"], "test1/$1/$2/test2", "/test/plugin", ["test1///test2"]),
        (["^/test/(.*)", "/echo"], "${1 ?? none}-$request_method", "/echo", ["none-GET"]),
        # What a client sent is a value, and never a template.
        (["^/test/(.*)", "/echo"], "$1", "/test/$remote_addr", ["$remote_addr"]),
    ],
)
def test_headers_of_captures(pairs: list[str], text: str, path: str, expected: list[str]):
    assert values({"regex_uri": pairs, "headers": {"add": {"X-Captured": text}}}, "x-captured", path) == expected


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Connection", "Host", "Upgrade"])
@pytest.mark.parametrize("action", ["add", "set", "remove"])
def test_framing_and_host_stay(name: str, action: str):
    edits = {action: [name] if action == "remove" else {name: "7"}, "X-Other": "a"}
    edits.pop("X-Other")
    body = "Content-Length: 3\r\nConnection: keep-alive\r\n\r\nabc"

    async def main() -> None:
        async with plugin_edge(phases(instance(ProxyRewrite, {"headers": edits}))) as (running, upstream):
            client = await running.connect()
            client.send(f"POST / HTTP/1.1\r\nHost: example.com\r\n{body}".encode())
            wire = await upstream.accept()
            fields = fields_of(await wire.head())
            assert [value for key, value in fields if key in ("content-length", "host")] == ["example.com", "3"]
            assert not {key for key, _ in fields} & {"transfer-encoding", "connection", "upgrade"}
            assert await wire.exactly(3) == b"abc"
            wire.send(OK)
            assert (await client.answer()).status == 200

    run(main())


@pytest.mark.parametrize(("method", "rewritten"), [("HEAD", "GET"), ("GET", "HEAD")])
def test_a_method_with_another_framing_of_answers(method: str, rewritten: str):
    """The connection stays in step on both sides: the second request of the client gets its own answer."""
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + (b"" if rewritten == "HEAD" else b"hello")

    async def main() -> None:
        async with plugin_edge(phases(instance(ProxyRewrite, {"method": rewritten}))) as (running, upstream):
            client = await running.connect()
            client.send(get(method=method))
            wire = await upstream.accept()
            assert (await wire.head()).startswith(rewritten.encode())
            wire.send(first)
            answer = await client.answer(to_head=method == "HEAD")
            assert (answer.status, answer.body) == (200, b"")
            client.close()

    run(main())


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ({"regex_uri": ["^/a", "/b", "^/c"]}, "even number"),
        ({"regex_uri": ["^/a(", "/b"]}, "is no regular expression"),
        ({"regex_uri": ["^/a", "/$x"]}, "after \\$"),
        ({"regex_uri": ["^/a", "/$"]}, "after \\$"),
        ({"uri": "/a/../b"}, "dot segment"),
    ],
)
def test_what_cannot_be_settled_says_why(conf: dict[str, Any], reason: str):
    async def main() -> None:
        with pytest.raises(ValueError, match=reason):
            instance(ProxyRewrite, conf)

    run(main())


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"uri": "home"},
        {"uri": "/" + "a" * 4096},
        {"uri": "/a\r\nb"},
        {"method": "GET1"},
        {"scheme": "tcp"},
        {"host": "a b"},
        {"host": "example.com\n"},
        {"regex_uri": ["^/a"]},
        {"headers": {}},
        {"headers": {"set": {}}},
        {"headers": {"X A": "b"}},
        {"headers": {"X-A": "b\r\nc"}},
        {"headers": {"X-A": ["b"]}},
        {"headers": {"set": {"X-A": []}}},
        {"headers": {"add": {"X-A": ["b\r\nc"]}}},
        {"headers": {"remove": ["a:b"]}},
    ],
)
def test_what_is_no_configuration_is_refused(conf: dict[str, Any]):
    with pytest.raises(ValueError):
        checked("proxy-rewrite", conf)
