"""gw.rebuild.max_concurrent_full: with the test as the worker that rebuilds, and one that is killed while it does."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gw.rebuild.turn import Turn
from gw.settings import load_settings
from gw.shm.layout import RebuildKind
from gw.shm.turn_file import make_turn_file
from tests.support.soak.census import is_stopped
from tests.support.waiting import wait_until
from tests.support.workers import Workers


def test_workers_wait_for_their_turn_but_not_to_begin_serving(tmp_path: Path):
    route = {"uri": "/a", "upstream": {"nodes": {"127.0.0.1:1": 1}}}
    with Workers(tmp_path) as workers:
        paths = load_settings(workers.config_path).turn_paths
        assert [path.name for path in paths] == [f"{workers.name}.full.0.lock"]
        paths[0].parent.mkdir(parents=True, exist_ok=True)
        turn = Turn(paths)
        assert turn.take()
        try:
            workers.publish({"1": route})
            workers.wait_ready()
            # Another epoch: whatever the log holds, it is for nobody who served the one before.
            workers.lose_what_is_published()
            workers.publish({"2": {**route, "uri": "/b"}})
            wait_until(
                lambda: all(cell.staleness_ms > 200 for cell in workers.cells().values()), what="the workers to wait"
            )
            assert workers.request("/b").status == 404
            assert workers.request("/a").status == 502
        finally:
            turn.close()
        workers.wait_converged()
        assert workers.request("/b").status == 502
        assert {cell.rebuild_kind for cell in workers.cells().values()} == {RebuildKind.FULL}


def test_without_a_cap_everybody_has_a_turn(tmp_path: Path):
    workers = Workers(tmp_path, {"gw": {"rebuild": {"max_concurrent_full": 0}}})
    paths = load_settings(workers.config_path).turn_paths
    assert all(Turn(paths).take() for _ in range(3))


def holder_of(path: Path) -> int | None:
    """Who holds the flock of a file, as the kernel says it."""
    inode = path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return int(fields[4])
    return None


def test_a_turn_is_free_again_when_its_holder_is_killed(tmp_path: Path):
    def routes(prefix: str) -> dict[str, Any]:
        upstream = {"nodes": {"127.0.0.1:1": 1}}
        return {str(number): {"uri": f"/{prefix}/{number}", "upstream": upstream} for number in range(3000)}

    with Workers(tmp_path, workers=3) as workers:
        [path] = load_settings(workers.config_path).turn_paths
        path.parent.mkdir(parents=True, exist_ok=True)
        make_turn_file(path, os.getegid())
        workers.publish(routes("old"))
        workers.wait_ready()
        workers.wait_converged()

        def holder_is_stopped() -> bool:
            """Whether a worker now stands still while it holds the turn."""
            pid = holder_of(path)
            if pid is None:
                return False
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: is_stopped(pid), what="it to stand still", every_s=0.001)
            if holder_of(path) == pid:
                return True
            os.kill(pid, signal.SIGCONT)  # it was through
            return False

        def new_epoch(prefix: str) -> None:
            """Nobody can come there by the log, so everybody has to rebuild."""
            workers.lose_what_is_published()
            workers.publish(routes(prefix))

        for attempt in range(20):
            before = {cell.pid: cell.epoch for cell in workers.cells().values()}

            def not_through(before: Mapping[int, int] = before) -> set[int]:
                return {cell.pid for cell in workers.cells().values() if before[cell.pid] == cell.epoch}

            new_epoch(f"new{attempt}")
            wait_until(
                lambda: holder_is_stopped() or not not_through(), what="a worker to be caught", every_s=0.0005
            )
            victim = holder_of(path)
            # Whoever was quicker is through already: then it is not waiting, but neither is the turn free.
            others = not_through() - {victim}
            if victim is not None and others:
                break
            if victim is not None:
                os.kill(victim, signal.SIGCONT)
            workers.wait_converged()
        else:
            raise AssertionError("only ever the last one of three was caught: 3,000 routes are too few")

        def others_wait() -> bool:
            return all(cell.staleness_ms > 300 for cell in workers.cells().values() if cell.pid in others)

        wait_until(others_wait, what="the others to wait for their turn")
        os.kill(victim, signal.SIGKILL)
        workers.wait_converged()
        after = {cell.pid: cell for cell in workers.cells().values()}
        assert victim not in after
        for pid in others:
            assert after[pid].epoch != before[pid]
            assert after[pid].rebuild_kind is RebuildKind.FULL
        assert workers.request(f"/new{attempt}/7").status == 502
        assert holder_of(path) is None
