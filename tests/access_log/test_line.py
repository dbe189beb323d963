"""Lines of the access log: APISIX's format, nginx's escaping, and JSON that is JSON whatever a client sends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.access_log.line import LineFormat
from gw.pipeline.context import Context
from gw.pipeline.variable_table import NAMED
from gw.pipeline.variables import Getter, find_variable
from gw.settings.access_log import DEFAULT_FORMAT
from tests.support.finished import HEADERS, SteadyClock, attempt, finished, request

Pairs = list[tuple[bytes, bytes]]


def at_a_moment(name: str) -> Getter | None:
    return find_variable(name, SteadyClock())


def line(text: str, ctx: Context, escape: str = "default") -> str:
    formatted = LineFormat(text, escape, find=at_a_moment)(ctx)
    assert formatted.endswith("\n")
    return formatted[:-1]


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_default_format() -> None:
    assert line(DEFAULT_FORMAT, finished()) == (
        "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] Gateway.example:9080 "
        '"GET /a/../b%20c?x=1&y=a%20b&x=2 HTTP/1.1" 200 200 0.004 "http://a.example/x" "curl/8.5.0" '
        '10.0.0.1:80 200 0.003 "http://Gateway.example:9080"'
    )


def test_a_request_that_reached_no_upstream() -> None:
    ctx = finished(request([], method="POST"), status=404)
    ctx.attempts = ()
    assert line("$http_host $upstream_addr $upstream_status $upstream_response_time $status", ctx) == "- - - - 404"


def test_every_attempt_is_listed() -> None:
    ctx = finished(None, attempt("10.0.0.2:80", 502, connect_s=None, header_s=None), attempt())
    shown = line("$upstream_addr|$upstream_status|$upstream_response_time|$upstream_connect_time", ctx)
    assert shown == "10.0.0.2:80, 10.0.0.1:80|502, 200|0.003, 0.003|-, 0.001"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$status", "200"),
        ("${status}00", "20000"),
        ("$request_uri", "/a/../b%20c?x=1&y=a%20b&x=2"),
        ("$status$status", "200200"),
        ("100%s %", "100%s %"),
        ("$", "$"),
        ("$-${}", "$-${}"),
        ("$host.x", "gateway.example.x"),
        ("$nothing|$http_nothing|$http_no_thing", "-|-|-"),
    ],
)
def test_forms_of_a_format(text: str, expected: str) -> None:
    assert line(text, finished()) == expected


def test_unknown_names_are_told() -> None:
    assert LineFormat("$uri $ssl_curve ${nothing}").unknown == ("ssl_curve", "nothing")


@pytest.mark.parametrize(
    ("raw", "default", "as_json"),
    [
        (b"curl/8.5.0", "curl/8.5.0", "curl/8.5.0"),
        (b"", "", ""),
        (b'a"b', "a\\x22b", 'a\\"b'),
        (b"a\\b", "a\\x5Cb", "a\\\\b"),
        (b'\\", "x": "', "\\x5C\\x22, \\x22x\\x22: \\x22", '\\\\\\", \\"x\\": \\"'),
        (b"a\r\nb", "a\\x0D\\x0Ab", "a\\r\\nb"),
        (b"\t\b\f", "\\x09\\x08\\x0C", "\\t\\b\\f"),
        (b"\x00\x1b[2J\x1f", "\\x00\\x1B[2J\\x1F", "\\u0000\\u001B[2J\\u001F"),
        (b"\x7f", "\\x7F", "\x7f"),
        ("é日".encode(), "\\xC3\\xA9\\xE6\\x97\\xA5", "é日"),
        # nginx would copy it, and the line would be no JSON.
        (b"a\xffb\xc3", "a\\xFFb\\xC3", "a\ufffdb\ufffd"),
    ],
)
@pytest.mark.parametrize("twice", [False, True])
def test_values_of_a_client_stay_in_their_place(raw: bytes, default: str, as_json: str, twice: bool) -> None:
    headers: Pairs = [(b"user-agent", raw), *([(b"x", b"1"), (b"x", b"2")] if twice else [])]
    ctx = finished(request(headers))
    for _ in range(2):
        assert line('"$http_user_agent"', ctx) == f'"{default}"'
        assert line('"$http_user_agent"', ctx, "json") == f'"{as_json}"'


def test_paths_and_arguments_are_shown_by_their_bytes() -> None:
    ctx = finished(request(target="/é%22".encode().replace("é".encode(), b"%C3%A9"), query=b"a=%C3%A9%0A"))
    assert line("$uri $arg_a", ctx) == "/\\xC3\\xA9\\x22 \\xC3\\xA9\\x0A"
    assert line("$uri $arg_a", ctx, "json") == '/é\\" é\\n'


def test_a_refused_target_cannot_break_the_line() -> None:
    ctx = Context(request(target=b'/x"\r\n\xff y', query=b"", admitted=False), 0.0)
    assert line('"$request" $uri', ctx) == '"GET /x\\x22\\x0D\\x0A\\xFF y HTTP/1.1" -'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"s": $status, "t": $request_time}', {"s": 200, "t": 0.004}),
        ('{"s": "$status"}', {"s": "200"}),
        ('{"u": $upstream_status}', {"u": "502, 200"}),
        ('{"u": "$upstream_status"}', {"u": "502, 200"}),
        ('{"a": $http_x, "b": "$http_x"}', {"a": None, "b": ""}),
        ('{"a": $nothing, "b": "$nothing"}', {"a": None, "b": ""}),
        ('{"a": $http_user_agent}', {"a": "curl/8.5.0"}),
        ('{"q\\"$status": "$uri", "n": [$status, $arg_x]}', {'q"200': "/b c", "n": [200, 1]}),
        ('["$remote_addr:$remote_port"]', ["192.0.2.1:51000"]),
    ],
)
def test_json_formats(text: str, expected: Any) -> None:
    ctx = finished(None, attempt(status=502), attempt())
    assert json.loads(line(text, ctx, "json")) == expected


def test_a_status_of_none_is_no_json_number() -> None:
    ctx = finished(status=0)
    assert json.loads(line('{"s": $status}', ctx, "json")) == {"s": "000"}


def test_what_is_no_json_is_as_in_nginx() -> None:
    assert line('s=$status x=$http_x q="$http_x"', finished(), "json") == 's=200 x= q=""'


JSON_FORMAT = (
    '{"r": "$request", "u": "$uri", "h": "$http_x_a", "b": $http_x_a, "c": "$cookie_s", "d": $cookie_s, '
    '"q": "$arg_a", "p": $arg_a, "user": "$remote_user", "e": "$sent_http_x"}'
)
HEADER_VALUES = st.binary(max_size=12)


@given(HEADER_VALUES, HEADER_VALUES, HEADER_VALUES, st.binary(max_size=8), st.booleans())
def test_no_client_forges_a_line(agent: bytes, cookie: bytes, extra: bytes, query: bytes, twice: bool) -> None:
    headers: Pairs = [(b"x-a", agent), (b"cookie", b"s=" + cookie), (b"authorization", b"Basic " + extra)]
    ctx = finished(request([*headers, *([(b"x-a", extra)] if twice else [])], query=b"a=" + query, admitted=False))
    ctx.response_headers.append((b"x", extra))
    written = line(JSON_FORMAT, ctx, "json")
    assert isinstance(json.loads(written), dict)
    assert not any(character < " " for character in written)
    quoted = line('"$request" "$http_x_a" "$cookie_s" "$arg_a" "$remote_user" "$sent_http_x"', ctx)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert quoted.count('"') == 12


@given(
    st.lists(
        st.tuples(st.sampled_from([b"host", b"x-a", b"x_a", b"referer", b"cookie", b"authorization"]), HEADER_VALUES),
        max_size=6,
    ),
    st.sampled_from(["default", "json"]),
)
def test_the_short_way_agrees(headers: Pairs, escape: str) -> None:
    text = '{"a": "$http_x_a", "b": $http_x_a, "h": "$http_host", "r": "$http_referer", "c": "$cookie_s$remote_user"}'
    ctx = finished(request(headers, admitted=False))
    compiled = LineFormat(text, escape, find=at_a_moment)
    assert compiled(ctx) == compiled.spelled_out(ctx)
    assert compiled(ctx) == compiled.spelled_out(ctx)


def shapes() -> list[Context]:
    """Requests in whatever state they may end."""
    refused = attempt("10.0.0.2:80", 502, connect_s=None, header_s=None, response_s=0.0)
    silent = attempt("[2001:db8::1]:443", 0, header_s=None, response_s=None, tls=True)
    made = [
        finished(),
        finished(None, refused),
        finished(None, silent),
        finished(None, refused, attempt(response_s=1.5)),
        finished(None, attempt(response_s=0.9999), status=0),
    ]
    refused_itself = Context(request([], target=b"/%00", admitted=False), 100.0)
    untried = finished(status=404)
    untried.attempts, untried.route = (), None
    rewritten = finished()
    rewritten.upstream_host, rewritten.upstream_uri = 'o"ther', b"/new"
    unending = finished()
    unending.ended_s = 0.0
    slow = finished()
    slow.ended_s += 100
    return [*made, refused_itself, untried, rewritten, unending, slow]


NAMES = sorted({*NAMED, "request_time", "msec", "time_local", "http_host", "http_user_agent", "arg_x", "sent_http_a"})


@pytest.mark.parametrize("escape", ["default", "json"])
@pytest.mark.parametrize("ctx", shapes())
def test_the_short_way_agrees_in_every_state(ctx: Context, escape: str) -> None:
    fields = ", ".join(f'"{name}": "${name}", "bare_{name}": ${name}' for name in NAMES)
    compiled = LineFormat(f"{{{fields}}}", escape, find=at_a_moment)
    assert compiled(ctx) == compiled.spelled_out(ctx)
    if escape == "json":
        assert json.loads(compiled(ctx)).keys() == {*NAMES, *(f"bare_{name}" for name in NAMES)}


def test_clients_cannot_grow_what_is_remembered() -> None:
    compiled = LineFormat("$http_user_agent")
    for number in range(3000):
        assert compiled(finished(request([(b"user-agent", b"%d" % number)]))) == f"{number}\n"
    assert compiled(finished(request([(b"user-agent", b"x" * 8000)]))) == "x" * 8000 + "\n"
    assert len(compiled._remembered) <= 1024
    assert sum(map(len, compiled._remembered)) <= 1024 * 256


def test_secrets_of_a_request_are_not_in_the_default_line() -> None:
    secrets = [(b"authorization", b"Basic amFjazpzZWNyZXQ="), (b"cookie", b"session=secret"), (b"x-api-key", b"secret")]
    shown = line(DEFAULT_FORMAT, finished(request([*HEADERS, *secrets])))
    assert "secret" not in shown
    assert "amFjazpzZWNyZXQ" not in shown
    assert shown.startswith("192.0.2.1 - jack [")
