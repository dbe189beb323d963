"""Conditions about the body of a request, and about what a filter_func sees."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gw.model.route import Route
from gw.pipeline.body_variables import NeedsWait
from gw.pipeline.context import Context
from gw.pipeline.filter_func import FilterFuncError, compile_filter_func
from gw.pipeline.json_path import compile_json_path
from gw.pipeline.path import UnsafeRequest
from gw.pipeline.request_body import TO_MATCH_BYTES, BodyTooLarge
from gw.pipeline.route_condition import RouteCondition, compile_route_condition
from gw.settings import load_settings
from gw.settings.matching import body_limits
from tests.support.finished import HEADERS, STARTED_S, request

FORM, JSON = "application/x-www-form-urlencoded", "application/json; charset=utf-8"
MULTIPART = "Multipart/Form-Data; boundary=Xx"
FIELD = b'--Xx\r\nContent-Disposition: form-data; name="name"\r\n\r\njo\r\n--Xx--\r\n'


class Uploading(Context):
    """A request whose body comes when it is waited for. `reads` counts how often."""

    def __init__(self, body: bytes, content_type: str = "", **facts: Any) -> None:
        headers = [*HEADERS, (b"content-type", content_type.encode())]
        headers += [(b"content-length", b"%d" % len(body))] if body else []
        super().__init__(request(headers, **{"method": "POST", "query": b"", **facts}), STARTED_S)
        self._whole = body
        self.reads = 0

    async def read_body(self, limit_bytes: int) -> bytes:
        self.reads += 1
        if len(self._whole) > limit_bytes:
            raise BodyTooLarge
        return self._whole


def condition(**fields: Any) -> RouteCondition:
    route = Route.from_dict("1", {"uri": "/x", "priority": 0, "status": 1, **fields})
    made = compile_route_condition(route, allow_code=True)
    assert made.broken is None
    return made


def holds(made: RouteCondition, ctx: Context) -> bool:
    """As an exchange asks: until nothing has to be awaited."""
    for _ in range(4):
        try:
            return made(ctx)
        except NeedsWait as wait:
            asyncio.run(wait.prepare(ctx))
    raise AssertionError("it waits for ever")


MESSAGES = {
    "model": "large",
    "stream": True,
    "n": 3,
    "user": {"name": "Ann"},
    "messages": [{"role": "user", "content": [{"type": "text"}, {"type": "image_url"}]}, {"role": "system"}],
}


@pytest.mark.parametrize(
    ("rule", "content_type", "body", "expected"),
    [
        (["post_arg_name", "==", "jo"], FORM, b"a=1&name=jo&name=else", True),
        (["post_arg_name", "==", "jo"], FORM, b"name=j%6F", True),
        (["post_arg_name", "==", "jos\u00e9"], FORM, b"name=jos%C3%A9", True),
        (["post_arg_name", "==", "jo"], FORM, b"", False),
        (["post_arg_name", "==", "jo"], "text/plain", b"name=jo", False),
        (["post_arg_name", "==", "jo"], JSON, b'{"name": "jo"}', False),
        (["post_arg.name", "==", "jo"], FORM, b"name=jo", True),
        (["post_arg.name", "==", "jo"], JSON, b'{"name": "jo"}', True),
        (["post_arg.name", "==", "jo"], "text/plain", b'{"name": "jo"}', False),
        (["post_arg.name", "==", "jo"], JSON, b"{", False),
        (["post_arg.name", "==", "jo"], JSON, b'{"name": "jo", "latin": "\xe9"}', True),
        (["post_arg.name", "==", "jo"], JSON, b'\xef\xbb\xbf{"name": "jo"}', True),
        (["post_arg.name", "==", "jo"], JSON, b'{"name": "jo", "n": ' + b"9" * 5000 + b"}", True),
        (["post_arg.n", ">", 2], JSON, b'{"n": ' + b"9" * 400 + b"}", True),
        (["post_arg.n", "<", 2], JSON, b'{"n": -' + b"9" * 400 + b"}", True),
        (["post_arg.n", "~~", "inf"], JSON, b'{"n": ' + b"9" * 400 + b"}", True),
        (["post_arg.n", "in", [10**400]], JSON, b'{"n": ' + b"9" * 400 + b"}", True),
        (["post_arg.n", "==", 10**400], JSON, b'{"n": 1}', False),
        (["post_arg.name", "~~", "jo"], JSON, b'{"name": "\\ud800 jo"}', True),
        (["post_arg.name", "~~", "(?=j)jo"], JSON, b'{"name": "\\ud800 jo"}', True),
        (["post_arg.name", "ipmatch", "10.0.0.1"], JSON, b'{"name": "\\ud800"}', False),
        (["post_arg.name", "==", "jo"], JSON, b"\xff", False),
        (["post_arg.user.name", "==", "Ann"], JSON, json.dumps(MESSAGES).encode(), True),
        (["post_arg.stream", "==", True], JSON, json.dumps(MESSAGES).encode(), True),
        (["post_arg.n", "==", True], JSON, b'{"n": 1}', False),
        (["post_arg.n", ">", 2], JSON, json.dumps(MESSAGES).encode(), True),
        (["post_arg.n", "~~", "^3$"], JSON, json.dumps(MESSAGES).encode(), True),
        (["post_arg.user", "in", ["x"]], JSON, json.dumps(MESSAGES).encode(), False),
        (["post_arg.messages[*].content[*].type", "has", "image_url"], JSON, json.dumps(MESSAGES).encode(), True),
        (["post_arg.messages[*].content[*].type", "has", "audio"], JSON, json.dumps(MESSAGES).encode(), False),
        (["post_arg.name", "==", "jo"], MULTIPART, FIELD, True),
        (["post_arg.name", "==", "jo"], MULTIPART.lower(), FIELD, False),
        (["post_arg.name", "==", "jo"], MULTIPART, b"", False),
        (["post_arg_name", "==", "jo"], MULTIPART, FIELD, False),
        (["graphql_name", "==", "repo"], "", b"query repo { owner { name } }", True),
        (["graphql_name", "==", ""], "", b"{ owner { name } }", True),
        (["graphql_operation", "==", "mutation"], "", b"mutation m($e: E!) { create(e: $e) { id } }", True),
        (["graphql_operation", "==", "mutation"], "", b"mutation m { a }\nquery q { b }", True),
        (["graphql_root_fields", "has", "owner"], "", b"query { repo { a } owner { b } }", True),
        (["graphql_root_fields", "has", "name"], "", b"query { owner { name } }", False),
        (["graphql_root_fields", "has", "owner"], JSON, b'{"query": "query q { owner { b } }"}', True),
        (["graphql_root_fields", "has", "owner"], JSON, b'{"query": 1}', False),
        (["graphql_operation", "==", "query"], "", b"AA", False),
        (["graphql_operation", "==", "query"], "", b"", False),
        (["graphql_operation", "==", "query"], "", b"{" * 100_000, False),
        (["graphql_operation", "==", None], "", b"fragment F on T { ...F } query { ...F }", True),
    ],
    ids=lambda value: str(value)[:40],
)
def test_rules_about_the_body(rule: list[Any], content_type: str, body: bytes, expected: bool):
    ctx = Uploading(body, content_type)
    assert holds(condition(vars=[rule]), ctx) is expected
    assert ctx.reads <= 1


def test_graphql_of_a_query():
    made = condition(vars=[["graphql_root_fields", "has", "owner"]])
    assert holds(made, Uploading(b"", method="GET", query=b"query=%7Bowner%7Bname%7D%7D"))
    assert not holds(made, Uploading(b"", method="GET"))
    assert not holds(made, Uploading(b"{owner{name}}", method="PUT"))


def test_a_body_is_awaited_once_for_all_conditions_and_only_when_one_is_reached():
    ctx = Uploading(b"name=jo", FORM)
    elsewhere = condition(vars=[["http_x_stage", "==", "canary"], ["post_arg_name", "==", "jo"]])
    assert elsewhere(ctx) is False
    assert ctx.reads == 0
    assert holds(condition(vars=[["post_arg_name", "==", "jo"]]), ctx)
    assert holds(condition(vars=[["post_arg.name", "==", "jo"]]), ctx)
    assert ctx.reads == 1


def test_a_body_that_is_too_large_is_refused():
    with pytest.raises(BodyTooLarge):
        holds(condition(vars=[["post_arg_name", "==", "jo"]]), Uploading(b"a" * (TO_MATCH_BYTES + 1), FORM))


def test_graphql_has_a_limit_of_its_own() -> None:
    class Narrow(Uploading):
        max_graphql_bytes = 15

    made = condition(vars=[["graphql_root_fields", "has", "owner"]])
    assert holds(made, Narrow(b"{owner{name}}"))
    with pytest.raises(BodyTooLarge):
        holds(made, Narrow(b"{owner{name    }}"))


@pytest.mark.parametrize(
    ("post_args", "graphql", "expected"),
    [("1", "1m", (1 << 20, 1 << 20)), ("0", "5", (0, 5)), ("1", "2m", (2 << 20, 2 << 20)), ("64", "5", (64 << 20, 5))],
)
def test_one_read_has_room_for_both(tmp_path: Path, post_args: str, graphql: str, expected: tuple[int, int]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"apisix: {{max_post_args_readable_size: {post_args}}}\ngraphql: {{max_size: {graphql}}}\n")
    settings = load_settings(path)
    assert settings.warnings == ()
    assert body_limits(settings.apisix, settings.graphql) == expected


def test_a_form_of_too_many_fields_is_refused():
    with pytest.raises(UnsafeRequest, match="fields"):
        holds(condition(vars=[["post_arg_name", "==", "jo"]]), Uploading(b"a=1&" * 100_000 + b"name=jo", FORM))
    with pytest.raises(UnsafeRequest, match="fields"):
        holds(condition(vars=[["post_arg.name", "==", "jo"]]), Uploading(b"--Xx\r\n" * 100_000 + FIELD, MULTIPART))


@pytest.mark.parametrize(
    ("variable", "content_type", "body"),
    [
        ("post_arg.name", JSON, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("post_arg.a[*]", JSON, json.dumps({"a": [0] * 20_000}).encode()),
        ("post_arg...a", JSON, json.dumps({"a": [0] * 200_000}).encode()),
        ("post_arg...a..b", JSON, b'{"a":' * 500 + json.dumps([0] * 10_000).encode() + b"}" * 500),
        ("graphql_operation", "", b"{a" * 40_000),
        ("graphql_operation", "", b"{" + b"a " * 100_000 + b"}"),
        ("graphql_operation", "", b"{a" * 1_500 + b"}" * 1_500),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_takes_too_much_to_look_at_is_refused(variable: str, content_type: str, body: bytes):
    """It must not be for the client to choose that a condition does not hold."""
    for rule in ([variable, "has", "x"], [variable, "!", "has", "x"]):
        with pytest.raises(UnsafeRequest):
            holds(condition(vars=[rule]), Uploading(body, content_type))


def test_a_filter_func_may_look_at_the_body():
    swallowing = """
    def f(vars):
        try:
            return vars["post_arg_name"] == "jo"
        except Exception:
            return False
    """
    for source in ("lambda vars: vars['post_arg_name'] == 'jo'", swallowing):
        made = condition(filter_func=source)
        assert holds(made, Uploading(b"name=jo", FORM))
        assert not holds(made, Uploading(b"name=ann", FORM))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model", "large"),
        ("user.name", "Ann"),
        ("user.none", None),
        ("model.name", None),
        ("messages.0", None),
        ("messages[0].role", ["user"]),
        ("messages[-1].role", ["system"]),
        ("messages[9].role", None),
        ("messages[*].role", ["user", "system"]),
        ("messages.*.role", ["user", "system"]),
        ("$.messages[*].role", ["user", "system"]),
        ("['model']", ["large"]),
        ("messages..type", ["text", "image_url"]),
        ("..role", ["user", "system"]),
        ("messages[*].content[1]['type']", ["image_url"]),
    ],
)
def test_paths_into_json(path: str, expected: Any):
    follow = compile_json_path(path)
    assert follow is not None
    assert follow(MESSAGES) == expected


@pytest.mark.parametrize("path", ["", ".", "a[", "a]b[", "a[?(@.x)]", "a[1:2]"])
def test_what_is_no_path(path: str):
    assert compile_json_path(path) is None


def test_a_path_gathers_within_bounds():
    follow = compile_json_path("..[*]..[*]")
    assert follow is not None
    with pytest.raises(UnsafeRequest, match="more values"):
        follow([[0] * 200] * 200)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("function(vars) return true end", "is no Python"),
        ("vars['arg_x'] == '1'", "must be one function"),
        ("x = 1\ndef f(vars): return True", "must be one function"),
        ("async def f(vars): return True", "must be one function"),
        ("", "must be one function"),
        ("def f(): return True", "must take one argument"),
        ("def f(vars, other): return True", "must take one argument"),
        ("lambda vars, *, other: True", "must take one argument"),
        ("import nothing_of_that_name\ndef f(vars): return True", "cannot be prepared"),
        ("lambda vars: \0", "is no Python"),
    ],
)
def test_what_is_no_filter_func(source: str, reason: str):
    with pytest.raises(FilterFuncError, match=reason):
        compile_filter_func(source)


@pytest.mark.parametrize(
    "source",
    [
        "lambda vars: True",
        "  lambda vars, more=(): not more",
        "lambda *all: len(all) == 1",
        "import re\nfrom os import path\n\ndef f(vars):\n    return re.match('a', 'a') and path",
        "    def f(vars):\n        return True",
    ],
)
def test_what_is_one(source: str):
    assert compile_filter_func(source)({})


def test_a_name_that_is_no_variable_is_a_key_error_and_one_without_value_is_none():
    ctx = Uploading(b"")
    assert condition(filter_func="lambda vars: vars['arg_none'] is None and 'uri' in vars")(ctx)
    assert condition(filter_func="lambda vars: len(vars) == len([*vars])")(ctx)
    assert condition(filter_func="lambda vars: vars.get('nobody', 7) == 7")(ctx)
