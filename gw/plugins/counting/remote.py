"""Counts in Redis: one limit for all gateways that share it. A count is one script, so one round trip."""

from __future__ import annotations

from hashlib import sha1
from typing import Any, Final

from gw.clock import Clock
from gw.plugins.counting.clients import Lease, Spawn
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict, fixed_verdict
from gw.plugins.counting.scripts import FIXED, SLIDING
from gw.plugins.counting.sliding import judge, left_s, window_number

# As APISIX's keys begin.
KEY_PREFIX: Final = "plugin-limit-count"


class RemoteCounter:
    """Counts under keys of a Redis, a cluster, or a master that sentinels name. Raises CountingFailed."""

    __slots__ = ("_clock", "_is_sliding", "_lease")

    def __init__(self, lease: Lease, clock: Clock, *, is_sliding: bool) -> None:
        self._lease = lease
        self._clock = clock
        self._is_sliding = is_sliding

    async def count(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        return await (self._count_sliding if self._is_sliding else self._count_fixed)(key, quota, cost)

    def close(self, spawn: Spawn | None) -> None:
        """No more counts; connections that nobody else uses are closed."""
        self._lease.close(spawn)

    async def _count_fixed(self, key: str, quota: Quota, cost: int) -> Verdict:
        consumed, left_ms = await self._run(FIXED, [KEY_PREFIX + key], cost, quota.window_s * 1000)
        return fixed_verdict(quota, consumed, left_ms / 1000)

    async def _count_sliding(self, key: str, quota: Quota, cost: int) -> Verdict:
        # The hosts that share a Redis share no monotonic clock. Windows are long beside what their clocks differ by.
        now_s = self._clock.wall()
        number, rest_ms = window_number(quota, now_s), max(int(left_s(quota, now_s) * 1000), 0)
        # Braces: both keys lie in one slot of a cluster.
        keys = [f"{{{KEY_PREFIX}{key}}}.{each}" for each in (number, number - 1)]
        arguments = (cost, quota.limit, quota.window_s * 1000, rest_ms)
        current, previous, within = await self._run(SLIDING, keys, *arguments)
        return judge(quota, current, previous, rest_ms / 1000, is_within=bool(within), cost=cost)

    async def _run(self, script: str, keys: list[str], *arguments: int) -> list[int]:
        try:
            async with self._lease as client:
                return [int(number) for number in await _evaluated(client, script, keys, arguments)]
        # The library's own errors, OSError, time-outs and what a proxy in between may answer have no base in common.
        except Exception as error:
            raise CountingFailed(f"Redis does not count: {type(error).__name__}: {error}") from error


async def _evaluated(client: Any, script: str, keys: list[str], arguments: tuple[int, ...]) -> Any:
    try:
        return await client.evalsha(_SHA[script], len(keys), *keys, *arguments)
    except Exception as error:
        if "NoScript" not in type(error).__name__:
            raise
    return await client.eval(script, len(keys), *keys, *arguments)


_SHA: Final = {script: sha1(script.encode(), usedforsecurity=False).hexdigest() for script in (FIXED, SLIDING)}
