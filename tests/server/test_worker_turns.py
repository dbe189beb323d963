"""gw.rebuild.max_concurrent_full, with the test as the worker that is in a full rebuild."""

from __future__ import annotations

from pathlib import Path

from gw.rebuild.turn import Turn
from gw.settings import load_settings
from gw.shm.layout import RebuildKind
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
            assert workers.publisher is not None
            workers.publisher.close()
            workers.publisher = None
            for name in workers.space.list(workers.names.prefix):
                if name != workers.names.workers:
                    workers.space.unlink(name)
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
