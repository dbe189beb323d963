"""Every kind of resource from each store into shared memory: read back, kept when its new value is bad, replaced, gone.

The agent's inside runs on real shared memory; others write to the store behind its back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.model.digest import content_hash, decode_resource, digest_of
from gw.model.keys import KINDS, ResourceKey, parse_store_key
from gw.schema import validate
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace, unlink_all
from gw.shm.writer import Publisher
from sync_agent.intake import Intake
from sync_agent.last_good import LastGood
from sync_agent.machine import Machine
from sync_agent.outlet import Outlet
from sync_agent.runner import Runner
from tests.support.asynchronous import asynchronous
from tests.support.samples import SAMPLES
from tests.support.shm import unique_name
from tests.support.stores import Backend

Resources = dict[ResourceKey, dict[str, Any]]


def key_of(store_key: str) -> ResourceKey:
    key = parse_store_key(store_key)
    assert key is not None
    return key


def expected(which: str, but: dict[str, Any] | None = None) -> Resources:
    """What is served when the store has all samples: their `good` value, or the `other` one."""
    values = {name: getattr(sample, which) for name, sample in SAMPLES.items()} | (but or {})
    return {key_of(name): validate(*key_of(name), value) for name, value in values.items()}


class Agent:
    def __init__(self, publisher: Publisher, intake: Intake, space: PosixSpace, names: SegmentNames) -> None:
        self._publisher = publisher
        self._intake = intake
        self._space = space
        self._names = names

    def served(self) -> Resources:
        return {key: decode_resource(entry.blob) for key, entry in self._publisher.entries.items()}

    def refused(self) -> set[ResourceKey]:
        return set(self._intake.rejections)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Bounded by the test's own deadline."""
        while not condition():
            await asyncio.sleep(0.005)

    def read_by_a_worker(self) -> Resources:
        """What a worker reads that starts now, checked against the digest."""
        with contextlib.closing(SnapshotReader(self._space, self._names, SystemClock())) as reader:
            loaded = reader.load()
            entries = loaded.read()
        assert digest_of(content_hash(key, entry.blob) for key, entry in entries.items()) == loaded.slot.digest
        return {key: decode_resource(entry.blob) for key, entry in entries.items()}

    def judged_from_disk(self, path: Path) -> Resources:
        """What the last good file gives to an agent that believes nothing of it but what it judges itself."""
        LastGood(path).save(self._publisher.entries, 1, 1, is_judged=False)
        kept = LastGood(path).load()
        assert kept is not None
        return {key: decode_resource(entry.blob) for key, entry in kept.entries.items()}


@contextlib.asynccontextmanager
async def agent(backend: Backend, directory: Path, names: SegmentNames) -> AsyncIterator[Agent]:
    space = PosixSpace()
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(backend.opened())
        publisher = Publisher.attach(space, names, log_size_bytes=256 * 1024, clock=SystemClock())
        stack.callback(publisher.close)
        outlet = Outlet(publisher, set, LastGood(directory / "good"), SystemClock(), unjudged=publisher.entries)
        stack.push_async_callback(outlet.close)
        intake = Intake(publisher.entries, 100_000)
        runner = Runner(Machine(random.Random(1)), store, intake, outlet)
        tasks = [asyncio.create_task(work) for work in (runner.run(), outlet.run())]
        try:
            yield Agent(publisher, intake, space, names)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@pytest.fixture
def names():
    names = SegmentNames(unique_name())
    yield names
    unlink_all(PosixSpace(), names)


def put(backend: Backend, which: str, keys: list[str] | None = None) -> None:
    for name in keys or SAMPLES:
        backend.put(name, json.dumps(getattr(SAMPLES[name], which)))


async def make(backend: Backend) -> None:
    """A store is made when it is first used."""
    async with backend.opened() as store:
        await store.head()


def test_there_is_a_sample_of_each_kind() -> None:
    assert {key_of(name).kind for name in SAMPLES} == set(KINDS)


@asynchronous
async def test_a_bad_value_of_any_kind_keeps_the_last_good_one(
    backend: Backend, tmp_path: Path, names: SegmentNames
) -> None:
    await make(backend)
    async with agent(backend, tmp_path, names) as following:
        put(backend, "good")
        await following.until(lambda: following.served() == expected("good"))

        put(backend, "bad")
        everything = set(expected("good"))
        await following.until(lambda: following.refused() == everything)
        assert following.served() == expected("good")

        # One that mends is served, whatever the others are.
        put(backend, "other", ["routes/1"])
        mended = expected("good", {"routes/1": SAMPLES["routes/1"].other})
        await following.until(lambda: following.served() == mended)
        assert following.refused() == everything - {key_of("routes/1")}

        put(backend, "other")
        await following.until(lambda: following.served() == expected("other"))
        assert following.refused() == set()

        for name in SAMPLES:
            backend.delete(name)
        await following.until(lambda: following.served() == {})


@asynchronous
async def test_a_start_takes_in_every_kind_and_bad_ones_harm_nobody(
    backend: Backend, tmp_path: Path, names: SegmentNames
) -> None:
    await make(backend)
    put(backend, "good", list(SAMPLES)[::2])
    put(backend, "bad", list(SAMPLES)[1::2])
    async with agent(backend, tmp_path, names) as following:
        good = {key: value for key, value in expected("good").items() if key in {*map(key_of, list(SAMPLES)[::2])}}
        await following.until(lambda: following.served() == good and len(following.refused()) == len(SAMPLES) // 2)
        assert following.read_by_a_worker() == following.judged_from_disk(tmp_path / "last-good") == good


@asynchronous
async def test_the_newer_of_two_names_counts_for_as_long_as_it_is_there(
    backend: Backend, tmp_path: Path, names: SegmentNames
) -> None:
    key, sample = ResourceKey("ssls", "2"), SAMPLES["ssl/2"]
    old, newer = (validate(*key, value) for value in (sample.good, sample.other))
    await make(backend)
    backend.put("ssl/2", json.dumps(sample.good))
    async with agent(backend, tmp_path, names) as following:
        await following.until(lambda: following.served() == {key: old})
        backend.put("ssls/2", json.dumps(sample.other))
        await following.until(lambda: following.served() == {key: newer})
        # What lies under the old name is of no interest now, good or bad.
        backend.put("ssl/2", json.dumps(sample.bad))
        backend.put("ssl/2", json.dumps(sample.good))
        backend.put("routes/mark", json.dumps(SAMPLES["routes/1"].good))
        await following.until(lambda: ResourceKey("routes", "mark") in following.served())
        assert following.served()[key] == newer
        assert following.refused() == set()
        backend.delete("routes/mark")
    # A list shows both, in either order.
    async with agent(backend, tmp_path, names) as following:
        await following.until(lambda: following.served() == {key: newer})
        backend.delete("ssls/2")
        await following.until(lambda: following.served() == {key: old})
        backend.delete("ssl/2")
        await following.until(lambda: following.served() == {})
