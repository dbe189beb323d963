"""A worker holds resources of every kind: the same after any update as one that reads all of them anew."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

import pytest

from gw.model.keys import ResourceKey, parse_store_key
from gw.router import MODES
from tests.rebuild.world import Host, Worker
from tests.support.samples import SAMPLES

ROUNDS = 12


def changes(which: str) -> dict[ResourceKey, Mapping[str, Any] | None]:
    values: dict[ResourceKey, Mapping[str, Any] | None] = {}
    for name, sample in SAMPLES.items():
        key, value = parse_store_key(name), getattr(sample, which, None)
        assert key is not None
        values[key] = {"plugins": value} if isinstance(value, list) else value
    return values


@pytest.mark.parametrize("log_size_bytes", [2048, 64 * 1024])
def test_updates_of_every_kind_come_to_what_a_full_load_comes_to(log_size_bytes: int) -> None:
    host = Host(log_size_bytes)
    worker = Worker(host.space, host.clock, next(iter(MODES)))
    chance = random.Random(5)
    try:
        for turn, which in zip(range(ROUNDS), itertools.cycle(["good", "other", "gone"]), strict=False):
            of_all = changes(which)
            some = dict(of_all) if turn % 2 else dict(chance.sample(sorted(of_all.items(), key=str), len(of_all) // 2))
            host.publish(some)
            worker.bring_up_to_date()
            anew = Worker(host.space, host.clock, next(iter(MODES)))
            anew.bring_up_to_date()
            assert worker.digest == anew.digest == host.digest()
            for key in of_all:
                assert worker._state.resource(key) == anew._state.resource(key) == host.model.get(key)
            anew.close()
    finally:
        worker.close()
        host.close()
