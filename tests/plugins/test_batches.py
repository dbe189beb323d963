"""Batches: when they are due, what is in them, what waits, and what becomes of them when their place is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from gw.plugins.api import Environment
from gw.plugins.shared import batches as module
from gw.plugins.shared.batches import MAX_BATCH_BYTES, MAX_SENDING, Batches, BatchSettings, Gathering, Room
from tests.support.edge import eventually, run
from tests.support.lent import environment


def settings(
    max_entries: int = 3, *, inactive_s: float = 60, oldest_s: float = 60, retries: int = 0, retry_delay_s: float = 0
) -> BatchSettings:
    return BatchSettings(max_entries, inactive_s, oldest_s, retries, retry_delay_s)


class Place:
    """Where batches go. It fails as often as it is told to, and waits while it is not open."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.took: list[list[bytes]] = []
        self.tried = 0
        self.now = self.most = 0
        self.open = asyncio.Event()
        self.open.set()

    def __str__(self) -> str:
        return "the place"

    async def send(self, entries: Sequence[bytes]) -> None:
        self.tried += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
        finally:
            self.now -= 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("nobody is there")
        self.took.append(list(entries))


def batches_to(
    place: Place, env: Environment, how: BatchSettings, *, most: int = 100, room: Room | None = None
) -> Batches:
    return Batches("test of routes/1", how, place, env, room or Room(), lambda: most)


class TestGathering:
    @pytest.mark.parametrize(
        ("at_s", "due_s"),
        [
            ([10], 15),  # five seconds after the only one
            ([10, 12], 17),  # after the last one
            ([10, 14, 18, 22, 26], 30),  # but no later than twenty after the first
            ([10, 29], 30),
        ],
    )
    def test_is_due_when_nothing_comes_or_the_oldest_is_old(self, at_s: list[float], due_s: float) -> None:
        gathering = Gathering(settings(100, inactive_s=5, oldest_s=20))
        assert gathering.due_s is None
        for now_s in at_s:
            assert not gathering.add(b"x", now_s)
        assert gathering.due_s == due_s
        assert gathering.take() == [b"x"] * len(at_s)
        assert gathering.due_s is None

    def test_is_full_by_number_or_by_size(self) -> None:
        gathering = Gathering(settings(3))
        assert [gathering.add(b"%d" % number, 0) for number in range(3)] == [False, False, True]
        assert gathering.take() == [b"0", b"1", b"2"]
        assert not gathering.add(b"3", 0)
        assert gathering.add(bytes(MAX_BATCH_BYTES), 0)
        gathering.take()
        assert not gathering.add(b"4", 0)


class TestSending:
    def test_full_batches_leave_at_once_and_the_rest_when_closed(self) -> None:
        async def main() -> None:
            async with environment() as env:
                place = Place()
                batches = batches_to(place, env, settings(3))
                for number in range(8):
                    assert batches.add(b"%d" % number)
                await eventually(lambda: len(place.took) == 2)
                batches.close()
                await eventually(lambda: len(place.took) == 3)
                assert place.took == [[b"0", b"1", b"2"], [b"3", b"4", b"5"], [b"6", b"7"]]
                assert batches.add(b"late")  # of a request that began before
                await eventually(lambda: place.took[3:] == [[b"late"]])
                assert (batches.dropped, batches.lost) == (0, 0)

        run(main())

    @pytest.mark.parametrize("which", ["inactive_s", "oldest_s"])
    def test_what_waits_leaves_in_time(self, which: str) -> None:
        async def main() -> None:
            async with environment() as env:
                place = Place()
                batches = batches_to(place, env, settings(100, **{which: 0.05}))  # type: ignore[arg-type]
                for _ in range(2):
                    batches.add(b"a")
                    batches.add(b"b")
                    await eventually(lambda: bool(place.took))
                    assert place.took.pop() == [b"a", b"b"]

        run(main())

    def test_a_place_that_is_slow_gets_several_at_once_and_not_too_many(self) -> None:
        async def main() -> None:
            async with environment() as env:
                place, room = Place(), Room()
                place.open.clear()
                batches = batches_to(place, env, settings(1), room=room)
                for number in range(50):
                    batches.add(b"%d" % number)
                await eventually(lambda: place.tried == MAX_SENDING)
                assert room.entries == 50
                place.open.set()
                await eventually(lambda: len(place.took) == 50)
                assert place.most == MAX_SENDING
                assert sorted(int(entries[0]) for entries in place.took) == list(range(50))
                await eventually(lambda: (room.entries, room.bytes) == (0, 0))

        run(main())


class TestTryingAgain:
    def test_delivers_what_failed_before(self) -> None:
        async def main() -> None:
            async with environment() as env:
                place, room = Place(failures=2), Room()
                batches = batches_to(place, env, settings(2, retries=2), room=room)
                batches.add(b"a")
                batches.add(b"b")
                await eventually(lambda: place.took == [[b"a", b"b"]])
                await eventually(lambda: room.entries == 0)
                assert (place.tried, batches.lost) == (3, 0)

        run(main())

    def test_ends(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with environment() as env:
                place, room = Place(failures=1000), Room()
                batches = batches_to(place, env, settings(2, retries=2), room=room)
                for _ in range(20):
                    batches.add(b"a")
                await eventually(lambda: batches.lost == 20)
                assert (place.tried, room.entries, room.bytes) == (30, 0, 0)
                # Not a line for each.
                assert caplog.text.count("entries lost (3 tries): nobody is there") == 1

        with caplog.at_level(logging.ERROR):
            run(main())


class TestRoom:
    def test_is_bounded_in_entries(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with environment() as env:
                place = Place()
                place.open.clear()
                batches = batches_to(place, env, settings(1), most=30)
                assert [batches.add(b"x") for _ in range(1000)].count(True) == 30
                assert batches.dropped == 970
                place.open.set()
                await eventually(lambda: len(place.took) == 30)
                assert batches.add(b"again")
                await eventually(lambda: len(place.took) == 31)
                assert caplog.text.count("entries dropped") == 1

        with caplog.at_level(logging.ERROR):
            run(main())

    def test_is_bounded_in_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_PENDING_BYTES", 100)

        async def main() -> None:
            async with environment() as env:
                place = Place()
                place.open.clear()
                batches = batches_to(place, env, settings(1))
                assert [batches.add(bytes(30)) for _ in range(5)] == [True, True, True, False, False]
                place.open.set()

        run(main())

    def test_is_shared(self) -> None:
        async def main() -> None:
            async with environment() as env:
                room = Room()
                one, other = (batches_to(Place(), env, settings(100), most=3, room=room) for _ in range(2))
                assert [one.add(b"x"), one.add(b"x"), other.add(b"x"), other.add(b"x")] == [True, True, True, False]
                one.close()
                await eventually(lambda: room.entries == 1)
                assert other.add(b"x")
                other.close()
                await eventually(lambda: room.entries == 0)

        run(main())


class TestAWorkerThatStops:
    def test_waits_for_what_is_on_its_way(self) -> None:
        async def main() -> None:
            place, room = Place(failures=1), Room()
            async with environment() as env:
                batches = batches_to(place, env, settings(100, retries=1, retry_delay_s=0.05), room=room)
                batches.add(b"last words")
                batches.close()
            assert place.took == [[b"last words"]]
            assert room.entries == 0

        run(main())

    def test_but_not_for_ever(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setattr(module, "PATIENCE_S", 0.1)

        async def main() -> None:
            place, room = Place(), Room()
            place.open.clear()
            async with environment() as env:
                batches = batches_to(place, env, settings(1), room=room)
                for _ in range(40):
                    batches.add(b"x")
                await eventually(lambda: place.tried == MAX_SENDING)
                batches.close()
            assert (batches.lost, room.entries) == (40, 0)
            assert "the worker stops" in caplog.text

        with caplog.at_level(logging.ERROR):
            run(main())
