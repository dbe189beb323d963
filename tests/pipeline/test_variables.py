"""Variables by nginx's and APISIX's names, and templates with them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from gw.pipeline.context import Context
from gw.pipeline.request_body import KeptBody
from gw.pipeline.variable_table import RESPONSE_BODY, wire_encoding
from gw.pipeline.variables import Getter, compile_template, find_variable
from tests.support.finished import HEADERS, SteadyClock, attempt, finished, request


@pytest.fixture
def far_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone 5 hours and a half behind."""
    monkeypatch.setenv("TZ", "XYZ+05:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def value(name: str, ctx: Context | None = None) -> str | None:
    getter = find_variable(name, SteadyClock())
    assert getter is not None, name
    return getter(finished() if ctx is None else ctx)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("uri", "/b c"),
        ("document_uri", "/b c"),
        ("request_uri", "/b c?x=1&y=a%20b&x=2"),
        ("real_request_uri", "/a/../b%20c?x=1&y=a%20b&x=2"),
        ("https", ""),
        ("request", "GET /a/../b%20c?x=1&y=a%20b&x=2 HTTP/1.1"),
        ("request_line", "GET /a/../b%20c?x=1&y=a%20b&x=2 HTTP/1.1"),
        ("request_method", "GET"),
        ("method", "GET"),
        ("args", "x=1&y=a%20b&x=2"),
        ("query_string", "x=1&y=a%20b&x=2"),
        ("is_args", "?"),
        ("arg_x", "1"),
        ("arg_y", "a b"),
        ("arg_z", None),
        ("arg_X", None),
        ("host", "gateway.example"),
        ("http_host", "Gateway.example:9080"),
        ("http_user_agent", "curl/8.5.0"),
        ("http_User-Agent", "curl/8.5.0"),
        ("http_none", None),
        ("hostname", socket.gethostname()),
        pytest.param("pid", str(os.getpid()), id="pid"),  # the same name in every process that runs tests
        ("scheme", "http"),
        ("server_protocol", "HTTP/1.1"),
        ("server_name", "_"),
        ("server_addr", "192.0.2.254"),
        ("server_port", "9080"),
        ("remote_addr", "192.0.2.1"),
        ("remote_port", "51000"),
        ("realip_remote_addr", "192.0.2.1"),
        ("realip_remote_port", "51000"),
        ("remote_user", None),
        ("request_length", "120"),
        ("request_time", "0.004"),
        ("msec", "1700000000.250"),
        ("status", "200"),
        ("bytes_sent", "350"),
        ("body_bytes_sent", "200"),
        ("content_length", None),
        ("content_type", None),
        ("connection_requests", "3"),
        ("pipe", "."),
        ("sent_http_content_type", "text/plain"),
        ("sent_http_set_cookie", "a=1, b=2"),
        ("sent_http_none", None),
        ("upstream_http_content_type", "text/plain"),
        ("upstream_addr", "10.0.0.1:80"),
        ("upstream_status", "200"),
        ("upstream_connect_time", "0.001"),
        ("upstream_header_time", "0.002"),
        ("upstream_response_time", "0.003"),
        ("apisix_upstream_response_time", "0.003"),
        ("upstream_scheme", "http"),
        ("upstream_host", "Gateway.example:9080"),
        ("upstream_uri", ""),
        ("balancer_ip", "10.0.0.1"),
        ("balancer_port", "80"),
        ("route_id", "r1"),
        ("route_name", "orders"),
        ("service_id", "s1"),
        ("service_name", "shop"),
        ("consumer_name", None),
        ("uri_param_name", None),
        ("request_type", "traditional_http"),
        ("llm_model", ""),
        ("llm_prompt_tokens", "0"),
    ],
)
def test_of_a_finished_request(name: str, expected: str | None) -> None:
    assert value(name) == expected


@pytest.mark.parametrize(
    "name", ["", "nothing", "http_", "arg_", "graphql_name", "post_arg_x", "$uri", "URI", "matched_uri"]
)
def test_unknown_names(name: str) -> None:
    assert find_variable(name) is None


def test_one_request_has_one_id() -> None:
    ctx = finished()
    first = value("request_id", ctx)
    assert first == value("request_id", ctx) == value("apisix_request_id", ctx)
    assert first is not None
    assert len(first) == 32


def test_before_anything_happened() -> None:
    ctx = Context(request([], query=b""), 100.0)
    for name in ("args", "host", "http_host", "upstream_addr", "upstream_status", "upstream_response_time"):
        assert value(name, ctx) is None, name
    for name in ("balancer_ip", "route_id", "route_name", "service_name", "sent_http_x", "upstream_http_x"):
        assert value(name, ctx) is None, name
    assert value("is_args", ctx) == ""
    assert value("status", ctx) == "000"
    assert value("request_time", ctx) == "0.500"


def test_a_refused_request_has_no_canonical_form() -> None:
    ctx = Context(request(target=b"/%00", admitted=False), 100.0)
    assert (value("uri", ctx), value("host", ctx)) == (None, None)
    assert value("request", ctx) == "GET /%00?x=1&y=a%20b&x=2 HTTP/1.1"


@pytest.mark.parametrize(("version", "shown"), [("1.0", "HTTP/1.0"), ("2", "HTTP/2.0"), ("3", "HTTP/3.0")])
def test_protocols(version: str, shown: str) -> None:
    assert value("server_protocol", finished(request(http_version=version))) == shown


def test_attempts_are_separated_as_nginx_does() -> None:
    refused = attempt("10.0.0.2:80", 502, connect_s=None, header_s=None, response_s=0.0)
    silent = attempt("[2001:db8::1]:443", 0, header_s=None, response_s=None, tls=True)
    ctx = finished(None, refused, attempt(), silent)
    assert value("upstream_addr", ctx) == "10.0.0.2:80, 10.0.0.1:80, [2001:db8::1]:443"
    assert value("upstream_status", ctx) == "502, 200, -"
    assert value("upstream_connect_time", ctx) == "-, 0.001, 0.001"
    assert value("upstream_header_time", ctx) == "-, 0.002, -"
    assert value("upstream_response_time", ctx) == "0.000, 0.003, -"
    assert (value("balancer_ip", ctx), value("balancer_port", ctx)) == ("2001:db8::1", "443")
    assert value("upstream_scheme", ctx) == "https"


def test_what_a_plugin_set_for_the_upstream() -> None:
    ctx = finished()
    ctx.upstream_host, ctx.upstream_uri = "other", b"/new?x=%20"
    assert (value("upstream_host", ctx), value("upstream_uri", ctx)) == ("other", "/new?x=%20")


def test_header_lines_are_joined() -> None:
    ctx = finished(request([(b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2"), (b"cookie", b"b=2")]))
    assert value("http_x_a", ctx) == "1, 2"
    assert value("http_cookie", ctx) == "a=1; b=2"


# CVE-2026-54763: an alias must not add to, or stand before, what the gateway vouches for.
def test_underscores_count_only_where_there_is_no_dash() -> None:
    both = finished(request([(b"x_user_id", b"admin"), (b"x-user-id", b"jack")]))
    assert value("http_x_user_id", both) == "jack"
    assert value("http_x_user_id", finished(request([(b"x_user_id", b"admin")]))) == "admin"


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        ([b"a=1"], "1"),
        ([b"b=2; a=1"], "1"),
        ([b"b=2;a=1 "], "1"),
        ([b"a=1; a=2"], "2"),
        ([b"a=1", b"a=2"], "2"),
        ([b"a=b=c"], "b=c"),
        ([b"a="], ""),
        ([b"a"], None),
        ([b"A=1"], None),
        ([b"xa=1; aa=2"], None),
        ([], None),
    ],
)
def test_cookies(cookies: list[bytes], expected: str | None) -> None:
    assert value("cookie_a", finished(request([(b"cookie", cookie) for cookie in cookies]))) == expected


# CVE-2018-9230: the argument behind the hundredth was not seen, though the upstream saw it.
def test_every_argument_is_seen() -> None:
    query = b"&".join([b"a%d=1" % number for number in range(150)] + [b"admin=1"])
    assert value("arg_admin", finished(request(query=query))) == "1"


@pytest.mark.parametrize(
    ("credentials", "user"),
    [
        (b"Basic amFjazpzZWNyZXQ=", "jack"),
        (b"basic amFjazpzZWNyZXQ=", "jack"),
        (b"Basic  amFjazpzOmVjcmV0 ", "jack"),
        (b"Basic amFjaw==", None),
        (b"Basic ?", None),
        (b"Basic \xff", None),
        (b"Basic", None),
        (b"Bearer amFjazpzZWNyZXQ=", None),
    ],
)
def test_user_of_basic_credentials(credentials: bytes, user: str | None) -> None:
    assert value("remote_user", finished(request([(b"authorization", credentials)]))) == user


def test_parameters_of_the_path() -> None:
    ctx = finished()
    ctx.params = {"name": "x"}
    assert (value("uri_param_name", ctx), value("uri_param_other", ctx)) == ("x", None)


@pytest.mark.usefixtures("far_zone")
def test_local_time_has_its_offset_and_moves() -> None:
    clock = SteadyClock()
    local, iso = find_variable("time_local", clock), find_variable("time_iso8601", clock)
    assert local is not None
    assert iso is not None
    ctx = finished()
    assert (local(ctx), iso(ctx)) == ("14/Nov/2023:16:43:20 -0530", "2023-11-14T16:43:20-05:30")
    clock.wall_s += 0.5
    assert local(ctx) == "14/Nov/2023:16:43:20 -0530"
    clock.wall_s += 0.5
    assert (local(ctx), iso(ctx)) == ("14/Nov/2023:16:43:21 -0530", "2023-11-14T16:43:21-05:30")


@pytest.mark.parametrize("name", ["uri", "arg_y", "uri_param_x", "http_x", "request", "cookie_a", "args"])
def test_bytes_can_be_given_back(name: str) -> None:
    raw = "é日".encode()
    headers = [(b"host", b"a"), (b"x", raw), (b"cookie", b"a=" + raw)]
    escaped = "".join(f"%{octet:02X}" for octet in raw).encode()
    ctx = finished(request(headers, target=b"/" + escaped, query=b"y=" + escaped))
    ctx.params = {"x": "é日"}
    text = value(name, ctx)
    assert text is not None
    given_back = text.encode(wire_encoding(name), "surrogateescape")
    assert raw in given_back or escaped in given_back


@pytest.mark.parametrize(
    ("text", "expected", "resolved"),
    [
        ("plain", "plain", 0),
        ("", "", 0),
        ("$remote_addr", "192.0.2.1", 1),
        ("$remote_addr-$http_host or ${scheme}", "192.0.2.1-Gateway.example:9080 or http", 3),
        ("${ scheme }x", "httpx", 1),
        ("${schemex}x", "x", 0),
        ("$http_none|$unknown|", "||", 0),
        ("${http_none ?? there}", "there", 1),
        ("${unknown??there}", "there", 1),
        ("${scheme ?? there}", "http", 1),
        (r"\$scheme $scheme", r"\$scheme http", 1),
        ("100% of %s $scheme", "100% of %s http", 1),
        ("100% of %s", "100% of %s", 0),
        ("cost: $", "cost: $", 0),
        ("${scheme", "${scheme", 0),
        ("$$scheme", "$http", 1),
    ],
)
def test_templates(text: str, expected: str, resolved: int) -> None:
    template = compile_template(text)
    assert template(finished()) == expected
    assert template.resolve(finished()) == (expected, resolved)


def test_a_template_tells_what_is_in_it() -> None:
    template = compile_template("$uri $wrong ${arg_a ?? 1}")
    assert (template.names, template.unknown, template.is_constant) == (("uri", "wrong", "arg_a"), ("wrong",), False)
    assert compile_template("x").is_constant


def test_values_of_a_client_are_not_templates() -> None:
    ctx = finished(request([*HEADERS, (b"x", b"$scheme %s %(a)s")]))
    assert compile_template("$http_x$scheme")(ctx) == "$scheme %s %(a)shttp"


def test_escaping_and_names_of_ones_own() -> None:
    def find(name: str) -> Getter | None:
        return (lambda _: "a b") if name == "1" else find_variable(name)

    template = compile_template("$1/$scheme", find=find)
    assert template(finished()) == "a b/http"
    assert compile_template("$arg_y $scheme", escape=lambda text: text.replace(" ", "+"))(finished()) == "a+b http"


def test_a_body_that_a_logger_kept() -> None:
    get, ctx = find_variable("resp_body"), finished()
    assert get is not None
    assert get(ctx) is None
    kept = ctx.state[RESPONSE_BODY] = KeptBody(5)
    kept.add("é".encode())
    kept.add(b"1234")
    assert get(ctx) == "é123"
