"""What the resolver remembers and when it asks again. The lookup is the test's, and so is time: the loop's is moved."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from gw.upstream.resolve import (
    GONE_KEPT_S,
    IDLE_S,
    MAX_TTL_S,
    MIN_TTL_S,
    NEGATIVE_S,
    RETRY_S,
    Found,
    NoSuchName,
    Resolver,
    bounded_ttl_s,
    refresh_after_s,
    retry_after_s,
)


class Loop(asyncio.SelectorEventLoop):
    """asyncio's own loop, whose time goes on only when somebody sets it."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()

    def time(self) -> float:
        return self.now


class World:
    """What each name means now, how often it was asked for, and what was said to have moved."""

    def __init__(self, loop: Loop, **options: Any) -> None:
        self.loop = loop
        self.means: dict[str, Found | Exception] = {}
        self.asked: list[str] = []
        self.moved: list[tuple[str, frozenset[str]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0
        self.resolver = Resolver(
            loop, self.look_up, on_moved=lambda *moved: self.moved.append(moved), chance=random.Random(1), **options
        )

    async def look_up(self, name: str) -> Found:
        self.asked.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        await self.gate.wait()
        self.at_once -= 1
        meaning = self.means.get(name) or NoSuchName("no such name")
        if isinstance(meaning, Exception):
            raise meaning
        return meaning

    async def pass_time(self, seconds: float) -> None:
        """Let time go by, in small steps, and what is due happen."""
        end = self.loop.now + seconds
        while self.loop.now < end:
            self.loop.now = min(end, self.loop.now + max(0.25, seconds / 400))
            await self.settle()

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)

    async def get(self, name: str = "a") -> tuple[str, ...]:
        return await self.resolver.addresses(name)


def run(test: Any, **options: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        world = World(loop, **options)
        await test(world)
        await world.resolver.close()

    work: Coroutine[Any, Any, None] = main()
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


@pytest.mark.parametrize(("ttl_s", "used_s"), [(0, MIN_TTL_S), (30, 30), (86400, MAX_TTL_S)])
def test_ttl_has_a_floor_and_a_cap(ttl_s: float, used_s: float) -> None:
    assert bounded_ttl_s(ttl_s) == used_s


def test_refreshes_come_in_time_and_retries_ever_later() -> None:
    for chance in (0.0, 0.5, 1.0):
        assert 0 < refresh_after_s(10, chance) < 10
        waits = [retry_after_s(failures, chance) for failures in range(1, 2000)]
        assert waits == sorted(waits)
        assert RETRY_S[0] / 2 <= waits[0] <= waits[-1] <= RETRY_S[1]


def test_lookups_at_the_same_time_are_one_and_the_answer_is_remembered() -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1", "10.0.0.2"), 60)
        assert await asyncio.gather(*(world.get() for _ in range(5))) == [("10.0.0.1", "10.0.0.2")] * 5
        await world.get()
        assert world.asked == ["a"]

    run(test)


def test_a_name_in_use_is_refreshed_and_nobody_waits_for_it() -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1",), 20)
        await world.get()
        world.means["a"] = Found(("10.0.0.2",), 20)
        await world.pass_time(20)
        world.gate.clear()  # whoever asked now would wait for ever
        assert await world.get() == ("10.0.0.2",)
        assert world.moved == [("a", frozenset(("10.0.0.1",)))]
        await world.pass_time(60)
        assert await world.get() == ("10.0.0.2",), "though its time is over: the answer is under way"
        world.gate.set()

    run(test)


def test_a_name_that_nobody_uses_sleeps_and_is_woken() -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1",), 20)
        await world.get()
        await world.pass_time(IDLE_S + 40)
        asked = len(world.asked)
        await world.pass_time(10 * IDLE_S)
        assert len(world.asked) == asked
        world.means["a"] = Found(("10.0.0.2",), 20)
        assert await world.get() == ("10.0.0.2",), "the addresses of an hour ago are not used unasked"
        await world.pass_time(20)
        assert len(world.asked) > asked + 1, "and it is refreshed again"

    run(test)


def test_a_name_that_slept_serves_its_old_addresses_when_nobody_answers() -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1",), 20)
        await world.get()
        await world.pass_time(2 * IDLE_S)
        world.gate.clear()
        waiting = asyncio.ensure_future(world.get())
        await world.settle()
        assert not waiting.done()
        await world.pass_time(2)
        assert await waiting == ("10.0.0.1",)
        world.gate.set()

    run(test)


def test_the_last_addresses_outlive_a_failure_which_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1",), 20)
        await world.get()
        world.means["a"] = TimeoutError("no answer")
        await world.pass_time(500)
        assert await world.get() == ("10.0.0.1",)
        assert 5 < len(world.asked) < 25, "ever more slowly"
        world.means["a"] = Found(("10.0.0.1",), 20)
        await world.pass_time(60)
        assert world.moved == []

    with caplog.at_level(logging.INFO, "gw.upstream.resolve"):
        run(test)
    assert [record.getMessage() for record in caplog.records] == [
        "a cannot be resolved: no answer; its last addresses serve on",
        "a is resolved again: 10.0.0.1",
    ]


def test_a_name_that_is_gone_serves_for_a_while_only() -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1",), 20)
        await world.get()
        del world.means["a"]
        await world.pass_time(GONE_KEPT_S - 10)
        assert await world.get() == ("10.0.0.1",)
        await world.pass_time(100)
        with pytest.raises(OSError, match="no such name"):
            await world.get()
        assert world.moved == [("a", frozenset(("10.0.0.1",)))]
        world.means["a"] = Found(("10.0.0.2",), 20)
        await world.pass_time(NEGATIVE_S)
        assert await world.get() == ("10.0.0.2",)

    run(test)


def test_a_failure_is_remembered_briefly() -> None:
    async def test(world: World) -> None:
        for _ in range(3):
            with pytest.raises(OSError, match="no such name"):
                await world.get()
        assert world.asked == ["a"]
        await world.pass_time(NEGATIVE_S)
        world.means["a"] = Found(("10.0.0.1",), 20)
        assert await world.get() == ("10.0.0.1",)

    run(test)


def test_one_that_gives_up_does_not_take_the_answer_from_the_others() -> None:
    async def test(world: World) -> None:
        world.means["a"] = Found(("10.0.0.1",), 60)
        hasty, patient = asyncio.ensure_future(world.get()), asyncio.ensure_future(world.get())
        await asyncio.sleep(0)
        hasty.cancel()
        assert await patient == ("10.0.0.1",)
        assert world.asked == ["a"]

    run(test)


def test_thousands_of_names_in_bounded_memory_and_few_at_once() -> None:
    async def test(world: World) -> None:
        for number in range(3000):
            world.means[f"n{number}"] = Found((f"10.0.{number // 250}.{number % 250}",), 30)
            await world.get(f"n{number}")
        assert len(world.resolver) == 1000
        world.asked.clear()
        world.most_at_once = 0
        await world.pass_time(30)
        assert set(world.asked) == {f"n{number}" for number in range(2000, 3000)}
        assert 0 < world.most_at_once <= 16

    run(test, max_names=1000)


def test_what_nobody_foresaw_in_a_lookup_is_a_failure_like_others(caplog: pytest.LogCaptureFixture) -> None:
    async def test(world: World) -> None:
        world.means["a"] = RuntimeError("a bug")
        with pytest.raises(OSError, match="internal error"):
            await world.get()

    run(test)
    assert "looking up a" in caplog.text
