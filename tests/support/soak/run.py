"""The soak itself: start, warm up, let everything happen at once, look at what is left."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gw.clock import SystemClock
from gw.model.digest import content_hash, digest_of, encode_resource
from gw.model.keys import ResourceKey
from gw.schema import validate
from gw.settings import load_agent_settings
from sync_agent.stores import open_store
from tests.support.gateway import Gateway, running_gateway
from tests.support.soak.book import Book, Work
from tests.support.soak.census import Holdings, holdings
from tests.support.soak.changes import AdminClient, AdminWriter, AwaitedChanges, Plan, StoreWriter
from tests.support.soak.chaos import Chaos, agent_pid
from tests.support.soak.traffic import Traffic
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until

# Small, so that bases are renewed and stopped workers are overrun.
CONFIG: Final = {"gw": {"shm": {"log_size": "64k"}}}
REPORT_EVERY_S: Final = 5.0
# Of the whole, until memory is looked at for the first time; the agent is killed only before its own warming up.
WARM_UP_SHARE: Final = 0.4
WARM_UP_CHANGES: Final = 1500
SPARE_AGENT_SHARE: Final = 0.35
AGENT_WARM_UP_SHARE: Final = 0.15
# A heap may grow a little by itself, and by less than this for each change. So a leak of 1 KB for each of the changes
# that an idle machine makes in a minute is far too much, and a machine too busy for changes proves less.
SPARE_KB: Final = 1024
LEAK_BYTES_PER_CHANGE: Final = 400
# Pooled upstream connections and clients' connections come and go.
SPARE_DESCRIPTORS: Final = 12


def soak(directory: Path, seconds: float, seed: int, say: Callable[[str], None] = print) -> None:
    """Raises AssertionError with all that went wrong."""
    say(f"soak of {seconds:g} s, seed {seed}")
    began_s = time.monotonic()
    with (
        running_upstream("one") as one,
        running_upstream("two") as two,
        running_gateway(directory, CONFIG) as gateway,
    ):
        plan = Plan(seed, (one.port, two.port))
        book = Book()
        client = AdminClient(gateway, book)
        for key, resource in plan.steady().items():
            assert client.write(key, resource), book.failures
        client.close()
        gateway.gw("status", "--wait", "20")
        _Run(gateway, book, plan, seed, say, began_s, seconds).run(one.port)


class _Run:
    def __init__(
        self,
        gateway: Gateway,
        book: Book,
        plan: Plan,
        seed: int,
        say: Callable[[str], None],
        began_s: float,
        seconds: float,
    ) -> None:
        self._gateway, self._book, self._plan, self._seed, self._say = gateway, book, plan, seed, say
        self._began_s, self._seconds = began_s, seconds
        self._ready_s = time.monotonic()
        self._first: dict[str, tuple[int, Holdings, int]] = {}  # by role: pid, what it held, changes so far

    def run(self, port: int) -> None:
        book, gateway = self._book, self._gateway
        elder = min(gateway.worker_pids())
        traffic: list[Work] = [
            Traffic(gateway, book, "keep-alive-1", keep_alive=True),
            Traffic(gateway, book, "keep-alive-2", keep_alive=True),
            Traffic(gateway, book, "fresh", keep_alive=False),
        ]
        spare_agent_s = self._at(SPARE_AGENT_SHARE)
        unrest: list[Work] = [
            AdminWriter(gateway, book, self._plan),
            StoreWriter(gateway, book, Plan(self._seed + 1, self._plan.ports)),
            AwaitedChanges(gateway, book, port),
            Chaos(gateway, book, self._seed, elder=elder, spare_agent_s=spare_agent_s),
        ]
        for thread in (*traffic, *unrest):
            thread.start()
        try:
            self._watch(elder)
            book.ending.set()
            for thread in unrest:
                thread.join()
            self._check_convergence()
        finally:
            book.ending.set()
            book.stopping.set()
            for thread in (*traffic, *unrest):
                thread.join()
        self._check_holdings()
        self._check_segments()
        self._report()
        assert not book.failures, "\n".join([f"seed {self._seed}, {len(book.failures)} failures", *book.failures[:20]])

    def _watch(self, elder: int) -> None:
        """Until the time is over; what the survivors hold is noted once they are warm."""
        worker_warm_s, agent_warm_s = self._at(WARM_UP_SHARE), self._at(SPARE_AGENT_SHARE + AGENT_WARM_UP_SHARE)
        while (now_s := time.monotonic()) < self._began_s + self._seconds:
            is_warm = now_s > worker_warm_s and self._book.counts["changes"] > WARM_UP_CHANGES
            if "worker" not in self._first and is_warm:
                self._note("worker", elder)
            if "agent" not in self._first and now_s > agent_warm_s:
                self._note("agent", agent_pid(self._gateway))
            self._report()
            self._book.stopping.wait(min(REPORT_EVERY_S, max(0.0, self._began_s + self._seconds - now_s)))

    def _at(self, share: float) -> float:
        """When this share of the time will be over that there is now that the gateway runs."""
        return self._ready_s + share * (self._began_s + self._seconds - self._ready_s)

    def _note(self, role: str, pid: int) -> None:
        self._first[role] = pid, holdings(pid, self._gateway.name), self._book.counts["changes"]

    def _report(self) -> None:
        counted = ", ".join(f"{count} {what}" for what, count in sorted(self._book.counts.items()))
        held = [f"{role} {holdings(pid, self._gateway.name).private_kb} kB" for role, (pid, *_) in self._first.items()]
        failed = f"{len(self._book.failures)} failures"
        self._say(f"{time.monotonic() - self._began_s:5.0f} s: " + ", ".join([counted, failed, *held]))

    # --- at the end

    def _check_convergence(self) -> None:
        gateway = self._gateway
        digest = asyncio.run(self._digest_of_store())

        def is_published() -> bool:
            return bool(gateway.convergence()["agent"]["digest"] == f"{digest:016x}")

        wait_until(is_published, what="what the store holds to be published")
        done = gateway.gw("status", "--wait", "30", "--json")
        status = json.loads(done.stdout)
        assert done.returncode == 0, status
        serving = [worker for worker in status["workers"] if worker["alive"]]
        assert len(serving) == 2, status
        assert {worker["digest"] for worker in serving} == {status["agent"]["digest"]} == {f"{digest:016x}"}
        assert {worker["version"] for worker in serving} == {status["agent"]["version"]}
        assert not any(worker["digest_mismatches"] for worker in status["workers"]), "the engine has drifted"

    async def _digest_of_store(self) -> int:
        store = open_store(load_agent_settings(self._gateway.config_path), SystemClock())
        try:
            items = [item async for page in store.list(500) for item in page.items]
        finally:
            await store.close()
        hashes = []
        for item in items:
            key = ResourceKey(*item.key.split("/", 1))
            hashes.append(content_hash(key, encode_resource(validate(*key, json.loads(item.value)))))
        return digest_of(hashes)

    def _check_holdings(self) -> None:
        for role, (pid, first, changes_then) in self._first.items():
            last = holdings(pid, self._gateway.name)
            changes = self._book.counts["changes"] - changes_then
            grown_kb = last.private_kb - first.private_kb
            self._say(f"{role} {pid}: {first.private_kb} kB, {grown_kb:+} kB after {changes} changes; {last}")
            kept = [name for name in last.mapped if ".snapshot." in name]
            # One that was replaced is still there by its name, with a mark that it is gone.
            others = [name.removesuffix(" (deleted)") for name in last.mapped if name not in kept]
            findings = {
                f"grew by {grown_kb} kB": grown_kb * 1024 > SPARE_KB * 1024 + changes * LEAK_BYTES_PER_CHANGE,
                f"has {last.descriptors} descriptors": last.descriptors > first.descriptors + SPARE_DESCRIPTORS,
                f"maps {last.mapped}": len(kept) > 2 or len(others) > len({*others}),
            }
            for finding, is_wrong in findings.items():
                if is_wrong:
                    self._book.fail(f"the {role} {finding}; at first it was {first}")

    def _check_segments(self) -> None:
        def names() -> list[str]:
            return [name.removeprefix(f"{self._gateway.name}.v2.") for name in self._gateway.segments()]

        def is_tidy() -> bool:
            bases = [name for name in names() if name.startswith("snapshot.")]
            return len(bases) <= MOST_BASES and {*names()} - {*bases} == {"control", "counters", "log", "workers"}

        wait_until(is_tidy, what=f"nothing but what is needed in /dev/shm: {names()}")


# The newest one, and those that workers read from.
MOST_BASES: Final = 3
