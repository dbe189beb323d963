"""The sync agent under a steady rate of changes: does it keep up, at what cost, and how long does it stand still.

A real agent process on a store full of routes; another process writes to the store, in open loop. Lag is from the
store's acknowledgement of a write to the slot in shared memory that covers its revision, seen to half a millisecond.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.processes import cpu_s
from bench.report import progress, quantile, save
from bench.routeset import routes
from bench.store_writer import Write, change, changed, fill
from gw.clock import SystemClock
from gw.model.digest import decode_resource, digest_of
from gw.settings import load_agent_settings
from gw.shm.layout import AgentState, Slot
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import SHM_DIR, PosixSpace, unlink_all
from sync_agent.stores import open_store
from tests.support.asynchronous import asynchronous
from tests.support.etcd import Etcd
from tests.support.waiting import wait_until

LOOK_EVERY_S = 0.0005
SAMPLE_EVERY_S = 1.0
# What the agent may take to read the store, or to catch up in the end.
DEADLINE_S = 120.0

spawning = multiprocessing.get_context("spawn")


class Seen(NamedTuple):
    """A slot, when it was first seen."""

    at_s: float
    slot: Slot


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.agent", description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "etcd"), default="sqlite")
    parser.add_argument("--routes", type=int, default=100_000, help="routes in the store (default 100000)")
    parser.add_argument("--rate", type=float, default=1000, help="changes a second (default 1000)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default 60)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        etcd = stack.enter_context(Etcd(Path(directory))) if arguments.store == "etcd" else None
        config = _write_config(Path(directory), etcd)
        names = SegmentNames(f"jwbench-{os.getpid()}")
        stack.callback(unlink_all, PosixSpace(), names)
        _make_store(config)
        where = etcd.endpoint if etcd else Path(directory) / "data" / "config.db"
        progress(f"filling the store with {arguments.routes} routes")
        _in_process(fill, where, arguments.routes)
        reader = SnapshotReader(PosixSpace(), names, SystemClock())
        with _agent(config) as agent:
            started_s = time.monotonic()
            wait_until(lambda: _is_watching(reader), what="the agent to follow", deadline_s=DEADLINE_S)
            progress(f"the agent follows the store after {time.monotonic() - started_s:.1f} s")
            time.sleep(3)  # its first last good file is being written
            row = _measure(agent, reader, names, where, arguments)
        reader.close()
    save(f"agent-{arguments.store}", [row], **vars(arguments))


def _measure(
    agent: subprocess.Popen[bytes],
    reader: SnapshotReader,
    names: SegmentNames,
    where: Path | str,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    memory, cpu, began_s = _anonymous_mb(agent.pid), cpu_s([agent.pid]), time.monotonic()
    sizes: list[float] = []
    receiving, sending = spawning.Pipe(duplex=False)
    writer = spawning.Process(target=change, args=(where, arguments.routes, arguments.rate, arguments.seconds, sending))
    writer.start()
    seen = list(_watch(reader, receiving, lambda: sizes.append(_shm_mb(names))))
    writes: list[Write] = receiving.recv()
    writer.join()
    last = max(write.revision for write in writes)
    while seen[-1].slot.revision < last:
        assert time.monotonic() < writes[-1].done_s + DEADLINE_S, "the agent does not catch up"
        seen += _newer(reader, seen[-1])
    busy = (cpu_s([agent.pid]) - cpu) / (time.monotonic() - began_s)
    progress("checking what is published")
    _check(reader, writes, arguments.routes)
    lags = _lags(writes, seen)
    versions = _moments(seen, lambda slot: slot.version, within=writes)
    return {
        "changes_per_s": len(writes) / (max(w.done_s for w in writes) - min(w.done_s for w in writes)),
        "versions": len(versions),
        "lag_p50_ms": quantile(lags, 0.5) * 1e3,
        "lag_p99_ms": quantile(lags, 0.99) * 1e3,
        "lag_max_ms": max(lags) * 1e3,
        "longest_stall_ms": max((after - before for before, after in pairwise(versions)), default=0) * 1e3,
        "bases": len(_moments(seen, lambda slot: slot.snapshot_number)) - 1,
        "agent_cpu": busy,
        "private_mb_before": memory,
        "private_mb_after": _settled_mb(agent.pid, memory),
        "shm_mb_most": max(sizes),
        "shm_mb_after": _shm_mb(names),
    }


def _watch(reader: SnapshotReader, done: Connection, sample: Callable[[], None]) -> Iterator[Seen]:
    """Every slot there is until the writer sends its results."""
    before, next_sample_s = None, 0.0
    while not done.poll():
        for found in _newer(reader, before):
            yield found
            before = found
        if (now_s := time.monotonic()) >= next_sample_s:
            sample()
            if before is not None and int(now_s) % 10 == 0:
                progress(f"version {before.slot.version}, revision {before.slot.revision}")
            next_sample_s = now_s + SAMPLE_EVERY_S
        time.sleep(LOOK_EVERY_S)


def _newer(reader: SnapshotReader, before: Seen | None) -> list[Seen]:
    slot = reader.peek()
    if slot is None or (before is not None and slot == before.slot):
        return []
    return [Seen(time.monotonic(), slot)]


def _lags(writes: Sequence[Write], seen: Sequence[Seen]) -> list[float]:
    revisions = [found.slot.revision for found in seen]
    # One that is published before its acknowledgement is back has no lag.
    return [max(seen[bisect_left(revisions, write.revision)].at_s - write.done_s, 0) for write in writes]


def _moments(seen: Sequence[Seen], what: Callable[[Slot], int], within: Sequence[Write] = ()) -> list[float]:
    """When `what` was another than before; `within` the time of these writes."""
    end_s = max((write.done_s for write in within), default=float("inf"))
    moments, before = [], None
    for found in seen:
        if what(found.slot) != before and found.at_s <= end_s:
            moments.append(found.at_s)
            before = what(found.slot)
    return moments[1:] if within else moments  # the first is from before the first write


def _check(reader: SnapshotReader, writes: Sequence[Write], count: int) -> None:
    """What is published is what was written, resource by resource, and adds up to the digest."""
    loaded = reader.load()
    entries = loaded.read()
    assert digest_of(entry.hash for entry in entries.values()) == loaded.slot.digest
    bodies = list(routes(count))
    newest = {}
    for write in sorted(writes, key=lambda write: write.revision):
        route = changed(bodies, write.number)
        newest[route["id"]] = route
    assert len(entries) == count
    for key, entry in entries.items():
        resource, expected = decode_resource(entry.blob), newest.get(key.id)
        assert resource.get("desc") == (expected["desc"] if expected else None), key
    loaded.base.close()


def _settled_mb(pid: int, before: float) -> float:
    """Private memory once nothing is under way any more (a save of the last good file holds a table of its own)."""
    least = float("inf")
    for _ in range(10):
        least = min(least, _anonymous_mb(pid))
        if least <= before:
            break
        time.sleep(1)
    return least


def _anonymous_mb(pid: int) -> float:
    """Memory that is the process's own: neither files nor shared memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no line for anonymous memory")


def _shm_mb(names: SegmentNames) -> float:
    total = 0
    for path in SHM_DIR.glob(f"{names.name}.*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_blocks * 512
    return total / 2**20


def _is_watching(reader: SnapshotReader) -> bool:
    slot = reader.peek()
    return slot is not None and slot.version > 0 and slot.state is AgentState.WATCHING


@contextlib.contextmanager
def _agent(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", "sync_agent", "-c", str(config)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@asynchronous
async def _make_store(config: Path) -> None:
    """An empty one, as an agent that starts for the first time makes it."""
    store = open_store(load_agent_settings(config), SystemClock())
    try:
        await store.head()
    finally:
        await store.close()


def _in_process(work: Callable[..., None], *arguments: Any) -> None:
    process = spawning.Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")


def _write_config(directory: Path, etcd: Etcd | None) -> Path:
    config: dict[str, Any] = {
        "deployment": {"admin": {"admin_key": [{"name": "admin", "key": "bench-key-bench-key", "role": "admin"}]}},
        "gw": {"shm": {"name": f"jwbench-{os.getpid()}"}, "run_dir": "run", "data_dir": "data", "log_level": "warning"},
    }
    if etcd is None:
        config["gw"]["store"] = f"sqlite:///{directory / 'data' / 'config.db'}"
    else:
        config["deployment"] |= {
            "role_traditional": {"config_provider": "etcd"},
            "etcd": {"host": [etcd.endpoint], "prefix": "/apisix"},
        }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)  # it holds a key
    return path


if __name__ == "__main__":
    main()
