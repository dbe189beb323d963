"""The order of plugins, settled once: phases, global rules before the route, priorities, names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gw.expr import SearchTooLong
from gw.pipeline.phases import NO_PHASES, PHASES, Instance, Phases, settle
from gw.pipeline.reply import plugin_reply
from tests.support.asynchronous import asynchronous

EVERY_PHASE = ("request", "before_proxy", "header_filter", "body_filter", "log")


class Recorder:
    """A plugin that takes part in the phases it is told."""

    def __init__(self, name: str, *phases: str) -> None:
        self.name = name
        for phase in phases:
            setattr(self, phase, lambda *arguments, phase=phase: (phase, *arguments))


def at(name: str, priority: int, *phases: str, owner: str = "routes/1", **meta: Any) -> Instance:
    return Instance(Recorder(name, *(phases or PHASES)), priority, owner, meta)


def names(phases: Phases, phase: str) -> list[str]:
    return [step.plugin for step in getattr(phases, phase)]


class State:
    """As much of a context as `_meta.filter` needs."""

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}


class TestOrder:
    def test_rewrite_of_all_plugins_comes_before_access_of_any(self) -> None:
        phases = settle([], [at("a", 1), at("b", 2)])
        assert [step.run(None) for step in phases.request] == [
            *(("rewrite", None), ("rewrite", None)),
            *(("access", None), ("access", None)),
        ]
        assert names(phases, "request") == ["b", "a", "b", "a"]

    def test_global_rules_are_through_before_the_route_begins(self) -> None:
        phases = settle([at("rule", -5, owner="global_rules/1")], [at("route", 9000)])
        assert names(phases, "request") == ["rule", "rule", "route", "route"]
        assert [step.run(None)[0] for step in phases.request] == ["rewrite", "access", "rewrite", "access"]
        for phase in EVERY_PHASE[1:]:
            assert names(phases, phase) == ["rule", "route"]

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([("a", 1), ("b", 3), ("c", 2)], ["b", "c", "a"]),
            ([("b", 1), ("a", 1), ("c", 1)], ["a", "b", "c"]),
            ([("low", -2001), ("none", 0), ("high", 23000)], ["high", "none", "low"]),
        ],
    )
    def test_priorities_then_names(self, given: list[tuple[str, int]], expected: list[str]) -> None:
        for order in (given, given[::-1]):
            assert names(settle([], [at(name, priority, "log") for name, priority in order]), "log") == expected

    def test_a_step_knows_whose_it_is(self) -> None:
        step = settle([at("a", 1, "log", owner="global_rules/7")], []).log[0]
        assert (step.plugin, step.owner, step.is_async) == ("a", "global_rules/7", False)


class TestWhatIsNotThere:
    @pytest.mark.parametrize("phase", PHASES)
    def test_other_phases_are_empty(self, phase: str) -> None:
        phases = settle([], [at("a", 1, phase)])
        held = "request" if phase in ("rewrite", "access") else phase
        assert {each for each in EVERY_PHASE if getattr(phases, each)} == {held}
        assert phases != NO_PHASES

    def test_no_plugins_are_no_phases(self) -> None:
        assert settle([], []) == NO_PHASES
        assert not any(getattr(NO_PHASES, each) for each in EVERY_PHASE)

    def test_an_instance_may_leave_a_phase_of_its_class(self) -> None:
        plugin = Recorder("a", "log", "body_filter")
        plugin.body_filter = None  # type: ignore[attr-defined]
        phases = settle([], [Instance(plugin, 1, "routes/1", {})])
        assert (phases.body_filter, len(phases.log)) == ((), 1)
        assert not phases.changes_body


class TestAwaiting:
    class Slow:
        name = "slow"

        async def access(self, ctx: object) -> None: ...

        async def header_filter(self, ctx: object) -> None: ...

        def log(self, ctx: object) -> None: ...

    def test_is_seen_when_settled(self) -> None:
        phases = settle([], [Instance(self.Slow(), 1, "routes/1", {})])
        steps = (phases.request[0], phases.header_filter[0], phases.log[0])
        assert [step.is_async for step in steps] == [True, True, False]
        assert phases.filters_await
        assert not settle([], [at("a", 1)]).filters_await


class TestReadingTheBody:
    class Reader:
        name = "reader"
        only_reads_body = True

        def body_filter(self, ctx: object, piece: bytes, is_last: bool) -> bytes:
            return b"something else"

    class SlowReader(Reader):
        async def body_filter(self, ctx: object, piece: bytes, is_last: bool) -> bytes:  # type: ignore[override]
            return b"something else"

    def test_who_only_reads_cannot_change_it(self) -> None:
        phases = settle([], [Instance(self.Reader(), 1, "routes/1", {})])
        assert not phases.changes_body
        assert phases.body_filter[0].run(None, b"the body", True) == b"the body"

    def test_nor_by_awaiting(self) -> None:
        phases = settle([], [Instance(self.SlowReader(), 1, "routes/1", {})])
        assert not phases.changes_body
        assert asyncio.run(phases.body_filter[0].run(None, b"the body", True)) == b"the body"

    def test_one_that_may_change_it_is_enough(self) -> None:
        instances = [Instance(self.Reader(), 1, "routes/1", {}), at("a", 1, "body_filter")]
        assert settle([], instances).changes_body


class TestMeta:
    def test_a_refusal_gets_the_configured_body_and_another_reply_keeps_its_own(self) -> None:
        replies = {"no": plugin_reply(403, "no"), "yes": plugin_reply(200, "yes")}
        for name, expected in (("no", b'{"m":1}\n'), ("yes", b"yes")):
            plugin = Recorder(name)
            plugin.access = lambda ctx, name=name: replies[name]  # type: ignore[attr-defined]
            step = settle([], [Instance(plugin, 1, "routes/1", {"error_response": {"m": 1}})]).request[0]
            reply = step.run(None)
            assert (reply.status, reply.body) == (replies[name].status, expected)

    def test_a_filter_is_asked_once_for_all_phases(self) -> None:
        asked: list[object] = []

        def compile_filter(expression: object) -> Any:
            def holds(ctx: object) -> bool:
                asked.append(ctx)
                return expression == "holds"

            return holds

        for expression, passed in (("holds", ("log", b"x")), ("does not", (None, b"piece"))):
            asked.clear()
            plugin = Recorder("a", "access", "log")
            plugin.body_filter = lambda ctx, piece, is_last: b"x"  # type: ignore[attr-defined]
            phases = settle([], [Instance(plugin, 1, "routes/1", {"filter": expression})], compile_filter)
            ctx = State()
            assert phases.request[0].run(ctx) == (("access", ctx) if passed[0] else None)
            assert phases.body_filter[0].run(ctx, b"piece", False) == passed[1]
            assert phases.log[0].run(ctx) == (("log", ctx) if passed[0] else None)
            assert asked == [ctx]


    def test_a_request_that_makes_a_filter_explode_is_refused(self) -> None:
        """A 400 for this request, and no failure of the plugin, which clients could cause as often as they like."""

        def explodes(ctx: object) -> bool:
            raise SearchTooLong("it takes too long")

        phases = settle([], [at("a", 1, "access", "header_filter", filter=True)], lambda _: explodes)
        ctx = State()
        assert phases.request[0].run(ctx).status == 400
        assert phases.header_filter[0].run(ctx) is None
        with pytest.raises(SearchTooLong):
            phases.header_filter[0].run(State())


@asynchronous
async def test_meta_holds_for_methods_that_await() -> None:
    class Slow:
        name = "slow"

        async def access(self, ctx: object) -> Any:
            return plugin_reply(401, "no")

        async def body_filter(self, ctx: object, piece: bytes, is_last: bool) -> bytes:
            return b"changed"

    meta = {"filter": True, "error_response": "configured"}
    for holds in (True, False):
        phases = settle([], [Instance(Slow(), 1, "routes/1", meta)], lambda _, holds=holds: lambda ctx: holds)
        assert phases.request[0].is_async
        reply = await phases.request[0].run(State())
        assert (reply.body if reply else None) == (b"configured" if holds else None)
        assert await phases.body_filter[0].run(State(), b"piece", True) == (b"changed" if holds else b"piece")
