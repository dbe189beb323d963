"""`_meta.filter` about the body, through both edges: plugins of the request, of the response alone, and of both."""

from __future__ import annotations

from typing import Any

import pytest

from gw.pipeline.request_body import TO_MATCH_BYTES
from gw.plugins.proxy_rewrite import ProxyRewrite
from gw.plugins.response_rewrite import ResponseRewrite
from tests.support.edge import Answer, Wire, fields_of, run
from tests.support.plugin_edge import instance, phases, plugin_edge

pytestmark = pytest.mark.usefixtures("each_edge")

FORM = "application/x-www-form-urlencoded"
OF_FORM = [["post_arg_key", "==", "abc"]]
OF_JSON = [["post_arg.model", "==", "large"]]
NEW = {"headers": {"set": {"X-Seen": "yes"}}}


async def echo(wire: Wire) -> None:
    """Answer with what reached the upstream: whether a plugin changed the head, and the body."""
    head = await wire.head()
    body = await wire.exactly(int(dict(fields_of(head)).get("content-length", "0")))
    seen = b"%d " % (b"x-seen" in head) + body
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(seen) + seen)


def answered(*instances: Any, body: bytes = b"", kind: str = FORM) -> Answer:
    """What a POST is answered on a route with these plugins."""
    answers: list[Answer] = []

    async def main() -> None:
        settled = phases(*(instance(plugin, conf) for plugin, conf in instances))
        async with plugin_edge(settled, echo) as (running, _):
            head = f"POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            answers.append(await running.ask(f"{head}\r\n".encode() + body))

    run(main())
    return answers[0]


@pytest.mark.parametrize(
    ("expression", "body", "kind", "holds"),
    [
        (OF_FORM, b"key=abc&other=1", FORM, True),
        (OF_FORM, b"key=abd", FORM, False),
        (OF_FORM, b"key=abc", "text/plain", False),
        (OF_FORM, b"", FORM, False),
        (OF_JSON, b'{"model": "large"}', "application/json", True),
        (OF_JSON, b'{"model": ', "application/json", False),
    ],
)
def test_who_takes_part(expression: list[Any], body: bytes, kind: str, holds: bool) -> None:
    meta = {"_meta": {"filter": expression}}
    answer = answered((ProxyRewrite, NEW | meta), body=body, kind=kind)
    assert (answer.status, answer.body) == (200, b"%d " % holds + body)
    # Plugins that have something to do only when the body has long left.
    for conf in ({"status_code": 203}, {"status_code": 203, "filters": [{"regex": "^0", "replace": "0"}]}):
        answer = answered((ResponseRewrite, conf | meta), body=body, kind=kind)
        assert (answer.status, answer.body) == (203 if holds else 200, b"0 " + body)


def test_two_plugins_ask_of_one_body() -> None:
    other = {"status_code": 203, "_meta": {"filter": [["post_arg_other", "==", "1"]]}}
    both = ((ProxyRewrite, NEW | {"_meta": {"filter": OF_FORM}}), (ResponseRewrite, other))
    assert answered(*both, body=b"key=abc&other=1").status == 203
    assert answered(*both, body=b"key=abc&other=2").body == b"1 key=abc&other=2"


@pytest.mark.parametrize(
    ("body", "status"), [(b"key=" + b"a" * TO_MATCH_BYTES, 413), (b"&".join([b"a=b"] * 20_000), 400)]
)
def test_a_body_that_is_too_much_to_look_at_is_refused(body: bytes, status: int) -> None:
    assert answered((ProxyRewrite, NEW | {"_meta": {"filter": OF_FORM}}), body=body).status == status
