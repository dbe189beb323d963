"""kill -9 of the agent at random moments, 200 times, while it publishes: no reader ever sees a mixed state."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from gw.clock import SystemClock
from gw.errors import SegmentError
from gw.model.digest import digest_of
from gw.settings import load_agent_settings
from gw.shm.layout import AgentState
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from sync_agent.stores import open_store
from tests.support.gateway import Gateway
from tests.support.waiting import wait_until

KILLS = 200
# The time an agent gets after it took over: from nothing to some tens of publishes.
LONGEST_LIFE_S = 0.06


class Nursery:
    """Forks agents from a process that has imported them already."""

    def __init__(self, output: Path) -> None:
        self.agents: list[int] = []
        self._log = output.open("wb")
        command = [sys.executable, "-m", "tests.support.nursery"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log)

    def agent(self, config: Path) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(bytes(config) + b"\n")
        self._process.stdin.flush()
        self.agents.append(int(self._process.stdout.readline()))
        return self.agents[-1]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.agents[-1], signal.SIGKILL)
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._log.close()


class Writer(threading.Thread):
    """Changes routes in the store without a pause, as another program would."""

    def __init__(self, config: Path) -> None:
        super().__init__()
        self._config = config
        self.stopping = threading.Event()
        self.written: dict[str, int] = {}

    def run(self) -> None:
        asyncio.run(self._write())

    async def _write(self) -> None:
        store = open_store(load_agent_settings(self._config), SystemClock())
        try:
            number = 0
            while not self.stopping.is_set():
                number += 1
                id = f"r{number % 50}"
                # Some records fit in the ring many times over, some are a new base by themselves.
                labels = {f"label-{n}": "x" * 250 for n in range(100 if number % 40 == 0 else 1)}
                route = {"uri": f"/{number}", "labels": labels, "upstream": {"nodes": {"127.0.0.1:80": 1}}}
                await store.put(f"routes/{id}", json.dumps(route).encode())
                self.written[id] = number
                await asyncio.sleep(0.002)
        finally:
            await store.close()


def test_readers_never_see_a_mixed_state_and_versions_only_grow(tmp_path: Path):
    gateway = Gateway(tmp_path, {"gw": {"shm": {"log_size": "64k"}, "limits": {"resource": "64k"}}})
    space, names = PosixSpace(), SegmentNames(gateway.name)
    reader = SnapshotReader(space, names, SystemClock())
    rng = random.Random(20261120)
    nursery, writer = Nursery(tmp_path / "agents.log"), Writer(gateway.config_path)
    seen: dict[int, int] = {}  # epoch -> highest version
    states = 0

    def look() -> None:
        nonlocal states
        with contextlib.suppress(SegmentError):  # overrun five times in a row, on a busy machine
            loaded = reader.load()
            entries = loaded.read()
            assert digest_of(entry.hash for entry in entries.values()) == loaded.slot.digest
            assert loaded.slot.version >= seen.get(loaded.slot.epoch, 0)
            seen[loaded.slot.epoch] = loaded.slot.version
            states += 1
            loaded.base.close()

    def is_published_by(pid: int) -> bool:
        slot = reader.peek()
        return slot is not None and slot.agent_pid == pid

    def has_published(pid: int) -> bool:
        slot = reader.peek()
        assert slot is not None
        return slot.agent_pid == pid and slot.state is AgentState.WATCHING and slot.version > 0

    try:
        writer.start()
        for _ in range(KILLS):
            pid = nursery.agent(gateway.config_path)
            wait_until(lambda pid=pid: is_published_by(pid), what="the agent to take over", every_s=0.001)
            if not seen or rng.random() < 0.75:  # most are killed while they publish, the others while they take over
                wait_until(lambda pid=pid: has_published(pid), what="the agent to publish", every_s=0.001)
            end_s = time.monotonic() + rng.uniform(0, LONGEST_LIFE_S)
            while time.monotonic() < end_s:
                look()
            os.kill(pid, signal.SIGKILL)
            look()
            # Until its last thread is gone it may hold the lock; gw start and systemd wait for that, too.
            gone = Path(f"/proc/{pid}")
            wait_until(lambda gone=gone: not gone.exists(), what="the killed agent to be gone", every_s=0.001)
        assert len(seen) == 1, "an agent that finds valid segments never begins a new epoch"
        assert states > KILLS

        writer.stopping.set()
        writer.join()
        nursery.agent(gateway.config_path)

        def has_everything() -> bool:
            loaded = reader.load()
            uris = {key.id: entry.routing[0][0] for key, entry in loaded.read().items()}
            return uris == {id: f"/{number}" for id, number in writer.written.items()}

        wait_until(has_everything, what="the last agent to have all that was written")
        look()
    except BaseException:
        print((tmp_path / "agents.log").read_text()[-5000:])
        raise
    finally:
        writer.stopping.set()
        writer.join()
        nursery.close()
        reader.close()
        gateway.kill()
