"""A follower on a running loop, and real shared memory that changes, is overrun, vanishes and lies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gw.rebuild.follower import Applied, Follower
from gw.rebuild.scheduler import RebuildScheduler, Work
from gw.rebuild.state import ConfigState
from gw.rebuild.turn import Turn
from gw.shm.log import Change
from gw.shm.reader import Changes, SnapshotReader
from tests.rebuild.conftest import Memory
from tests.rebuild.test_state import route
from tests.support.workers import change


class Following:
    def __init__(
        self, memory: Memory, reader: Any = None, *, turn: Turn | None = None, full_timeout_ms: int = 10_000
    ) -> None:
        self.state = ConfigState("radixtree_uri")
        self.applied: list[Applied] = []
        self._news = asyncio.Event()
        self.scheduler = RebuildScheduler(
            update_jitter_ms=(0, 2), full_jitter_ms=(0, 2), clock=memory.clock, chance=random.Random(1)
        )
        self.follower = Follower(
            reader=reader or memory.reader,
            state=self.state,
            scheduler=self.scheduler,
            clock=memory.clock,
            poll_interval_ms=1,
            slice_ms=1,
            turn=turn or Turn(()),
            full_timeout_ms=full_timeout_ms,
            on_applied=self._take,
        )

    def _take(self, applied: Applied) -> None:
        self.applied.append(applied)
        self._news.set()

    async def wait(self, condition: Callable[[Applied], bool]) -> Applied:
        """The newest application, once the condition holds for it."""
        async with asyncio.timeout(20):
            while not self.applied or not condition(self.applied[-1]):
                self._news.clear()
                await self._news.wait()
        return self.applied[-1]

    async def version(self, version: int) -> Applied:
        return await self.wait(lambda applied: applied.slot.version == version)

    def serves(self, path: str) -> bool:
        return self.state.find(path, "", "GET", None) is not None


@asynccontextmanager
async def following(memory: Memory, reader: Any = None, **more: Any) -> AsyncIterator[Following]:
    it = Following(memory, reader, **more)
    task = asyncio.create_task(it.follower.run(), name="follow")
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_it_waits_for_shared_memory_to_appear_and_then_follows(memory: Memory):
    async def test() -> None:
        async with following(memory) as it:
            await asyncio.sleep(0)
            assert it.follower.applied is None
            memory.attach()
            version = memory.publish({"routes/1": route("/1")})
            applied = await it.version(version)
            assert (applied.work, applied.jitter_ms) == (Work.FULL, 0), "the first one has nothing to wait for"
            version = memory.publish({"routes/2": route("/2")})
            applied = await it.version(version)
            assert applied.work is Work.UPDATE
            assert applied.digest == applied.slot.digest
            assert it.serves("/1")
            assert it.serves("/2")
            assert it.follower.revision == 2

    run(test)


def test_an_agent_that_starts_anew_changes_nothing(memory: Memory):
    async def test() -> None:
        version = memory.publish({"routes/1": route("/1")})
        async with following(memory) as it:
            await it.version(version)
            memory.attach()
            version = memory.publish({"routes/2": route("/2")})
            assert (await it.version(version)).work is Work.UPDATE
            assert len(it.applied) == 2

    run(test)


def test_segments_that_vanish_and_come_back_in_another_epoch(memory: Memory):
    async def test() -> None:
        memory.publish({"routes/1": route("/1")})
        async with following(memory) as it:
            before = await it.wait(lambda applied: True)
            memory.unlink()
            assert it.serves("/1")
            assert memory.publisher is not None
            memory.publisher.close()
            memory.publisher = None
            memory.publish({"routes/2": route("/2")})
            applied = await it.wait(lambda applied: applied.slot.epoch != before.slot.epoch)
            assert applied.work is Work.FULL
            assert not it.serves("/1")
            assert it.serves("/2")

    run(test)


def test_an_overrun_is_answered_by_a_full_rebuild(memory: Memory):
    async def test() -> None:
        memory.attach(log_size_bytes=4 << 10)
        memory.publish({"routes/1": route("/1")})
        async with following(memory) as it:
            await it.wait(lambda applied: True)
            # All of it before the loop, hence the follower, runs again.
            for n in range(200):
                version = memory.publish({"routes/x": route(f"/x{n}")})
            applied = await it.version(version)
            assert applied.work is Work.FULL
            assert it.serves("/x199")
            assert not it.serves("/x198")

    run(test)


def test_a_newer_base_is_taken_up_when_nothing_else_is_due(memory: Memory):
    async def test() -> None:
        memory.attach(log_size_bytes=16 << 10)
        memory.publish({f"routes/{n}": route(f"/{n}") for n in range(50)})
        async with following(memory) as it:
            before = (await it.wait(lambda applied: True)).slot.snapshot_number
            publisher = memory.publisher
            assert publisher is not None
            while publisher.slot.snapshot_number == before:
                version = memory.publish({"routes/x": route(f"/x{publisher.version}")})
                while publisher.renew_step():
                    pass
            await it.version(version)
            number = 0
            async with asyncio.timeout(20):
                while it.state.snapshot != publisher.slot.snapshot_number:
                    # Changes that never stop must not keep it from moving.
                    memory.publish({"routes/y": route(f"/y{(number := number + 1)}")})
                    await asyncio.sleep(0.001)
            assert publisher.sweep({it.state.snapshot}) == [before]
            assert all(it.serves(f"/{n}") for n in range(50)), "read from the newer base from now on"
            assert [applied.work for applied in it.applied].count(Work.FULL) == 1
            assert it.follower.counts.failures == 0

    run(test)


class LyingReader:
    """Gives the first changes on their way another content, as a bug would: `lie` says which."""

    def __init__(self, reader: SnapshotReader, lie: Callable[[Sequence[Change]], Sequence[Change]]) -> None:
        self._reader = reader
        self.peek, self.load_steps, self.open_base = reader.peek, reader.load_steps, reader.open_base
        self._lie = lie
        self._has_lied = False

    def changes_steps(self, cursor: Any) -> Generator[None, None, Changes | None]:
        changes = yield from self._reader.changes_steps(cursor)
        if changes is None or self._has_lied or not changes.changes:
            return changes
        self._has_lied = True
        return replace(changes, changes=self._lie(changes.changes))


def forget(changes: Sequence[Change]) -> Sequence[Change]:
    return ()


def say_that_it_was_deleted(changes: Sequence[Change]) -> Sequence[Change]:
    return [each._replace(blob=None, hash=0, routing=None) for each in changes]


def put_another(changes: Sequence[Change]) -> Sequence[Change]:
    return [change("routes", each.key.id, route("/corrupt")) for each in changes]


@pytest.mark.parametrize("lie", [forget, say_that_it_was_deleted, put_another])
def test_drift_is_seen_at_once_said_counted_and_healed_by_one_rebuild(
    memory: Memory, caplog: pytest.LogCaptureFixture, lie: Any
):
    async def test() -> None:
        memory.publish({"routes/1": route("/1"), "routes/2": route("/2")})
        async with following(memory, LyingReader(memory.reader, lie)) as it:
            await it.wait(lambda applied: True)
            version = memory.publish({"routes/2": route("/two")})
            healed = await it.wait(lambda applied: applied.slot.version == version and applied.work is Work.FULL)
            assert [it.serves(path) for path in ("/1", "/2", "/two", "/corrupt")] == [True, False, True, False]
            assert healed.digest == healed.slot.digest
            drifted = it.applied[1]
            assert drifted.work is Work.UPDATE
            assert drifted.digest != drifted.slot.digest
            assert f"{drifted.slot.digest:016x}" in caplog.text
            assert f"{drifted.digest:016x}" in caplog.text
            assert it.follower.counts.mismatches == 1
            # The next change is an update again: nothing was left to heal.
            await it.version(memory.publish({"routes/3": route("/3")}))
            assert [applied.work for applied in it.applied] == [Work.FULL, Work.UPDATE, Work.FULL, Work.UPDATE]
            assert it.follower.counts.mismatches == 1
            assert it.scheduler.work is None

    run(test)


def test_a_base_that_is_gone_keeps_what_is_served_until_there_is_another(memory: Memory):
    async def test() -> None:
        version = memory.publish({"routes/1": route("/1")})
        async with following(memory) as it:
            await it.version(version)
            it.scheduler.changed(Work.FULL)
            assert memory.publisher is not None
            memory.space.unlink(memory.names.snapshot(memory.publisher.slot.snapshot_number))
            async with asyncio.timeout(20):
                while it.scheduler.staleness_s < 0.05:
                    await asyncio.sleep(0.005)
            assert it.serves("/1")
            assert len(it.applied) == 1
            memory.publisher.touch(memory.publisher.slot.state)
            await it.wait(lambda applied: applied.work is Work.FULL and applied is not it.applied[0])
            assert it.serves("/1")

    run(test)


def test_other_work_goes_on_between_the_slices_of_a_rebuild(memory: Memory):
    async def test() -> None:
        memory.attach(log_size_bytes=8 << 20)
        memory.publish({f"routes/{n}": route(f"/{n}") for n in range(3000)})
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count(), name="count")
        async with following(memory) as it:
            applied = await it.wait(lambda applied: True)
        counting.cancel()
        # 3,000 routes take several slices of 1 ms on any machine; the other task ran between each two.
        assert turns > 3
        assert len(it.state) == 3000
        assert applied.digest == applied.slot.digest

    run(test)


def test_a_full_rebuild_waits_for_its_turn_and_the_first_one_does_not(memory: Memory, tmp_path: Path):
    async def test() -> None:
        version = memory.publish({"routes/1": route("/1")})
        path = tmp_path / "t.full.0.lock"
        theirs, ours = Turn([path]), Turn([path])
        assert theirs.take()
        async with following(memory, turn=ours) as it:
            await it.version(version)
            # An update needs no turn, and takes up what is new also while a rebuild waits.
            version = memory.publish({"routes/2": route("/2")})
            assert (await it.version(version)).work is Work.UPDATE
            it.scheduler.changed(Work.FULL)
            async with asyncio.timeout(20):
                while it.scheduler.staleness_s < 0.05:
                    await asyncio.sleep(0)
            assert len(it.applied) == 2
            theirs.release()
            await it.wait(lambda applied: applied.work is Work.FULL and applied.slot.version == version)
            assert theirs.take(), "given back after use"
        ours.close()
        theirs.close()

    run(test)


def test_a_rebuild_that_takes_too_long_gives_up_its_turn_and_goes_on(
    memory: Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async def test() -> None:
        memory.attach(log_size_bytes=8 << 20)
        memory.publish({f"routes/{n}": route(f"/{n}") for n in range(3000)})
        path = tmp_path / "t.full.0.lock"
        theirs, ours = Turn([path]), Turn([path])
        async with following(memory, turn=ours, full_timeout_ms=2) as it:
            async with asyncio.timeout(20):
                while "giving up its turn" not in caplog.text:
                    await asyncio.sleep(0)
            assert not it.applied
            assert theirs.take()
            await it.wait(lambda applied: True)
            assert len(it.state) == 3000
        ours.close()
        theirs.close()

    run(test)
