"""What a route asks of a request beyond path, host and method, in a worker's state: in order, changed in place."""

from __future__ import annotations

from typing import Any

import pytest

from gw.model.keys import ResourceKey
from gw.model.merge import Missing
from gw.pipeline.context import Context
from gw.pipeline.path import UnsafeRequest
from gw.rebuild.state import CONDITIONS_AHEAD, ConfigState
from gw.router import MODES
from tests.rebuild.conftest import Memory
from tests.rebuild.test_state import Held, route
from tests.support.finished import HEADERS, STARTED_S, request

HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stage": {"headers": [*HEADERS, (b"x-stage", b"canary")]},
    "inside": {"peer": "10.1.2.3"},
    "v6": {"peer": "2001:db8::7"},
    "query": {"query": b"weight=12&name=jo"},
    "accented": {"headers": [*HEADERS, (b"x-name", "Jos\u00e9".encode())], "query": b"name=Jos%C3%A9"},
    "twice": {"headers": [*HEADERS, (b"x-role", b"user"), (b"x-role", b"admin")]},
    "crowded": {"query": b"&".join(b"p%d=1" % number for number in range(150)) + b"&arg=1"},
}


class Asked(Held):
    """What requests with these heads find."""

    def __init__(self, memory: Memory, mode: str = MODES[0], *, allow_code: bool = False) -> None:
        self.memory = memory
        self.state = ConfigState(mode, allow_code=allow_code)
        self.load()

    def found(self, head: str = "plain", path: str = "/x") -> str | None:
        fields = dict(HEADS[head])
        ctx = Context(request(fields.pop("headers", HEADERS), **fields), STARTED_S)
        handle = self.state.find(path, "a.com", "GET", ctx)
        if handle is None:
            return None
        compiled = handle.resolve()
        upstream = compiled.upstream
        return f"{compiled.id}: {upstream.status}" if isinstance(upstream, Missing) else compiled.id

    def meeting(self) -> set[str]:
        return {head for head in HEADS if self.found(head) == "asks"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("conditions", "meet"),
    [
        ({"remote_addr": "10.0.0.0/8"}, {"inside"}),
        ({"remote_addr": "10.1.2.3"}, {"inside"}),
        ({"remote_addrs": ["10.0.0.0/8", "2001:db8::/32"]}, {"inside", "v6"}),
        ({"remote_addrs": ["2001:db8::7"]}, {"v6"}),
        ({"vars": [["http_x_stage", "==", "canary"]]}, {"stage"}),
        ({"vars": [["http_x_stage", "~=", "canary"]]}, {*HEADS} - {"stage"}),
        ({"vars": [["arg_weight", ">", 10], ["arg_name", "in", ["jo", "jack"]]]}, {"query"}),
        ({"vars": ["OR", ["arg_weight", ">", 10], ["http_x_stage", "~~", "^can"]]}, {"query", "stage"}),
        ({"vars": [["remote_addr", "ipmatch", ["10.0.0.0/8"]]]}, {"inside"}),
        ({"vars": [["http_x_name", "==", "José"]]}, {"accented"}),
        ({"vars": [["arg_name", "~~", "^Jos.{2}$"]]}, {"accented"}),
        ({"vars": [["http_x_role", "==", "user, admin"]]}, {"twice"}),
        ({"vars": [["arg_arg", "==", "1"]]}, {"crowded"}),
        ({"vars": [["uri", "~~", "^/b"]], "remote_addr": "10.0.0.0/8"}, {"inside"}),
        ({"vars": [["request_uri", "~~", r"^/b c\?weight=12&"]]}, {"query"}),
        ({"vars": [["real_request_uri", "~~", r"^/a/\.\./b%20c\?weight"]]}, {"query"}),
        ({"vars": [["request_method", "GET"], ["host", "gateway.example"], ["scheme", "http"]]}, {*HEADS}),
        ({"filter_func": "lambda vars: vars['arg_weight'] == '12'"}, {"query"}),
        ({"filter_func": "def f(vars):\n    return vars.get('http_x_stage')"}, {"stage"}),
        ({"vars": [], "priority": 1}, {*HEADS}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",  # a set has no order to be named by
)
def test_who_meets_it_finds_it_and_nobody_else(memory: Memory, mode: str, conditions: dict[str, Any], meet: set[str]):
    memory.publish({"routes/asks": route("/x", **{"priority": 9, **conditions}), "routes/else": route("/x")})
    held = Asked(memory, mode, allow_code=True)
    assert held.meeting() == meet
    assert {held.found(head) for head in HEADS} <= {"asks", "else"}
    assert held.state.problems == {}


def test_the_order_is_that_of_all_routes(memory: Memory):
    stage = [["http_x_stage", "==", "canary"]]
    memory.publish(
        {
            "routes/exact": route("/x", vars=stage),
            "routes/plain": route("/x", priority=-1),
            "routes/high": route("/x*", vars=stage, priority=9),
            "routes/off": route("/x", vars=stage, priority=99, status=0),
        }
    )
    held = Asked(memory)
    assert [held.found("stage"), held.found(), held.found("stage", "/xy"), held.found("plain", "/xy")] == [
        *("exact", "plain", "high", None)
    ]


def test_it_changes_in_place(memory: Memory):
    memory.publish({"routes/1": route("/x", vars=[["arg_weight", ">", 10]]), "routes/2": route("/x")})
    held = Asked(memory)
    assert [held.found("query"), held.found("stage")] == ["1", "2"]
    memory.publish({"routes/1": route("/x", vars=[["http_x_stage", "canary"]])})
    held.update()
    assert [held.found("query"), held.found("stage")] == ["2", "1"]
    memory.publish({"routes/1": route("/x", remote_addr="10.0.0.0/8")})
    held.update()
    assert [held.found("query"), held.found("inside")] == ["2", "1"]
    memory.publish({"routes/1": route("/x")})
    held.update()
    assert [held.found("query"), held.found("stage")] == ["1", "1"]
    memory.publish({"routes/1": None})
    held.update()
    assert held.found() == "2"


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"vars": [["no_such_variable", "==", "1"]]}, "vars: there is no variable 'no_such_variable' (at [0])"),
        ({"vars": [["post_arg.a[", "==", "1"]]}, "vars: there is no variable 'post_arg.a['"),
        ({"filter_func": "lambda vars: True"}, "filter_func: code in the configuration runs only where gw.allow_code"),
    ],
)
def test_what_cannot_be_asked_answers_500_to_those_who_meet_the_rest(
    memory: Memory, conditions: dict[str, Any], reason: str
):
    asks = route("/x", remote_addr="10.0.0.0/8", priority=9, **conditions)
    memory.publish({"routes/asks": asks, "routes/else": route("/x")})
    held = Asked(memory)
    assert [held.found("inside"), held.found()] == ["asks: 500", "else"]
    assert reason in held.state.problems[ResourceKey("routes", "asks")]


def test_filter_func_is_no_lua(memory: Memory):
    memory.publish({"routes/asks": route("/x", filter_func="function(vars) return true end")})
    held = Asked(memory, allow_code=True)
    assert held.found() == "asks: 500"
    assert "filter_func is no Python" in held.state.problems[ResourceKey("routes", "asks")]


def test_a_filter_func_that_raises_does_not_match_and_is_reported(memory: Memory):
    source = "lambda vars: vars['arg_weight'] > 10"
    memory.publish({"routes/asks": route("/x", filter_func=source, priority=1), "routes/else": route("/x")})
    held = Asked(memory, allow_code=True)
    assert held.found("query") == "else"
    assert held.state.problems[ResourceKey("routes", "asks")] == "filter_func raised TypeError (line 1)"
    memory.publish({"routes/asks": route("/x", filter_func="lambda vars: vars['arg_weight'] == '12'", priority=1)})
    held.update()
    assert held.found("query") == "asks"
    assert held.state.problems == {}


def test_a_text_that_makes_a_pattern_explode_is_a_bad_request_and_falls_through_to_nobody(memory: Memory):
    asks = route("/x", vars=[["http_x_long", "~~", "(?=x)?(a+)+$"]], priority=1)
    memory.publish({"routes/asks": asks, "routes/else": route("/x")})
    held = Asked(memory)
    ctx = Context(request([*HEADERS, (b"x-long", b"a" * 5000 + b"!")]), STARTED_S)
    with pytest.raises(UnsafeRequest, match="takes too long"):
        held.state.find("/x", "a.com", "GET", ctx)
    assert held.found() == "else"


def test_a_service_that_moves_its_hosts_takes_conditions_along(memory: Memory):
    memory.publish(
        {
            "services/s": {"hosts": ["b.com"], "upstream": {"nodes": {"127.0.0.1:1": 1}}},
            "routes/1": {"uri": "/x", "service_id": "s", "vars": [["http_x_stage", "canary"]]},
        }
    )
    held = Asked(memory)
    assert held.found("stage") is None
    memory.publish({"services/s": {"hosts": ["a.com"], "upstream": {"nodes": {"127.0.0.1:1": 1}}}})
    held.update()
    assert [held.found("stage"), held.found()] == ["1", None]


@pytest.mark.parametrize("count", [3, CONDITIONS_AHEAD + 50])
def test_conditions_are_settled_ahead_of_requests_within_a_bound(memory: Memory, count: int):
    memory.attach(4 << 20)
    asking = {f"routes/{number}": route("/x", vars=[["arg_n", "==", f"{number}"]]) for number in range(count)}
    memory.publish({**asking, "routes/plain": route("/y")})
    held = Asked(memory)

    def settled() -> int:
        entries = (entry for batch in held.state._tables.kinds["routes"].batches() for entry in batch)
        return sum(getattr(entry, "condition", None) is not None for entry in entries)

    assert settled() == min(count, CONDITIONS_AHEAD)
    memory.publish({"routes/new": route("/z", remote_addr="10.0.0.1")})
    held.update()
    assert settled() == min(count, CONDITIONS_AHEAD) + 1


def test_what_was_read_of_a_body_is_let_go_of_when_the_route_is_found(memory: Memory):
    """A response may go on for hours, and a parsed body takes ten times its size."""
    memory.publish({"routes/asks": route("/x", vars=[["post_arg_name", "==", None]])})
    held = Asked(memory)
    form = (b"content-type", b"application/x-www-form-urlencoded")
    ctx = Context(request([*HEADERS, form], method="POST"), STARTED_S)
    assert held.state.find("/x", "a.com", "POST", ctx) is not None
    assert ctx.state == {}
