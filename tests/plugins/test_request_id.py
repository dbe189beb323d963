"""request-id through both edges; cases of apisix's t/plugin/request-id.t."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gw.pipeline.context import Context
from gw.pipeline.phases import Instance
from gw.plugins.api import Plugin
from gw.plugins.request_id import RequestId
from tests.support.edge import OK, fields_of, get, replying, run
from tests.support.plugin_edge import checked, instance, phases, plugin_edge

pytestmark = pytest.mark.usefixtures("each_edge")

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


class Seen(Plugin):
    """Remembers under which id a request goes into the log."""

    name = "seen"
    priority = 1

    def prepare(self) -> None:
        self.ids: list[str] = []

    def log(self, ctx: Context) -> None:
        self.ids.append(ctx.request_id)


class Failing(Plugin):
    name = "failing"
    priority = 2

    def access(self, ctx: Context) -> None:
        raise RuntimeError


def exchanged(conf: dict[str, Any], headers: str = "", answer: bytes = OK) -> tuple[list[str], list[str], str]:
    """The ids that the upstream got, those that the client got, and the one in the log."""
    name = conf.get("header_name", "X-Request-Id").lower()
    got: list[tuple[list[str], list[str], str]] = []

    async def main() -> None:
        seen = Seen({}, instance(RequestId, conf).plugin.env, "routes/1")
        walked = phases(instance(RequestId, conf), instance_of(seen))
        async with plugin_edge(walked) as (running, upstream):
            client = await running.connect()
            client.send(get(headers=headers))
            wire = await upstream.accept()
            sent = [value for key, value in fields_of(await wire.head()) if key == name]
            wire.send(answer)
            answered = await client.answer()
            got.append((sent, [value for key, value in answered.headers if key == name], seen.ids[0]))

    run(main())
    return got[0]


def instance_of(plugin: Plugin) -> Instance:
    return Instance(plugin, plugin.priority, "routes/1", {})


@pytest.mark.parametrize(
    ("conf", "pattern"),
    [
        ({}, UUID),
        ({"algorithm": "uuid", "header_name": "Custom-Header-Name"}, UUID),
        ({"algorithm": "nanoid"}, r"[A-Za-z0-9_-]{21}"),
        ({"algorithm": "ksuid"}, r"[0-9A-Za-z]{27}"),
        ({"algorithm": "range_id"}, r"[A-Za-z0-9]{16}"),
        ({"algorithm": "range_id", "range_id": {}}, r"[A-Za-z0-9]{16}"),
        ({"algorithm": "range_id", "range_id": {"char_set": "aaaaaa", "length": 10}}, "a{10}"),
    ],
)
def test_upstream_client_and_log_get_the_same_id(conf: dict[str, Any], pattern: str):
    sent, answered, logged = exchanged(conf)
    assert re.fullmatch(pattern, sent[0])
    assert sent == answered == [logged]


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [
        ("X-Request-ID: 123\r\n", True),
        (f"X-Request-ID: {'a' * 256}\r\n", True),
        ("X-Request-ID: some-custom-request-id/%&\r\n", True),
        ("X-Request-ID:\r\n", False),
        (f"X-Request-ID: {'a' * 257}\r\n", False),
        ("X-Request-ID: a b\r\n", False),
        ("X-Request-ID: \xe9\r\n", False),
        ("X-Request-ID: a\tb\r\n", False),
        ("X-Request-ID: 1\r\nX-Request-ID: 2\r\n", False),
    ],
)
def test_an_id_of_the_client_is_kept_if_it_is_one(headers: str, is_kept: bool):
    sent, answered, logged = exchanged({}, headers)
    assert sent == answered == [logged]
    assert (f"X-Request-ID: {sent[0]}\r\n" == headers) is is_kept


def test_the_client_is_not_told_where_it_is_not_to_be():
    sent, answered, logged = exchanged({"include_in_response": False})
    assert sent == [logged]
    assert answered == []


@pytest.mark.parametrize(("theirs", "is_kept"), [(b"of-upstream", True), (b"", False)])
def test_what_the_upstream_answers_stays(theirs: bytes, is_kept: bool):
    answer = b"HTTP/1.1 200 OK\r\nX-Request-Id: %b\r\nContent-Length: 0\r\n\r\n" % theirs
    sent, answered, _ = exchanged({}, answer=answer)
    assert answered == (["of-upstream"] if is_kept else sent)


def test_a_global_rule_and_a_route_give_an_id_each():
    async def main() -> None:
        rule = instance(RequestId, {"header_name": "Global-Request-ID"}, owner="global_rules/1")
        route = instance(RequestId, {"header_name": "Route-Request-ID"})
        async with plugin_edge(phases(route, rules=(rule,)), replying(OK)) as (running, _):
            answer = await running.ask(get())
            first, second = answer.header("global-request-id"), answer.header("route-request-id")
            assert None not in (first, second)
            assert first != second

    run(main())


def test_the_body_of_a_failure_names_the_id_of_the_client():
    async def main() -> None:
        made = instance(RequestId, {})
        failing = instance_of(Failing({}, made.plugin.env, "routes/1"))
        async with plugin_edge(phases(made, failing)) as (running, _):
            answer = await running.ask(get(headers="X-Request-Id: theirs\r\n"))
            assert answer.status == 500
            assert answer.header("x-request-id") == "theirs"
            assert b'"request_id":"theirs"' in answer.body

    run(main())


@pytest.mark.parametrize(
    "conf",
    [
        {"algorithm": "bad_algorithm"},
        {"algorithm": "range_id", "range_id": {"length": 5}},
        {"algorithm": "range_id", "range_id": {"length": 257}},
        {"algorithm": "range_id", "range_id": {"char_set": "abcde"}},
        {"algorithm": "range_id", "range_id": {"char_set": "abcdefé"}},
        {"header_name": ""},
        {"header_name": "X Request"},
        {"header_name": "X-Request\r\n"},
        {"include_in_response": "bad_type"},
    ],
)
def test_what_is_no_configuration_is_refused(conf: dict[str, Any]):
    with pytest.raises(ValueError):
        checked("request-id", conf)
