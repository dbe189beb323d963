"""A board whose store cannot be used: nothing is checked, and nothing fails for it."""

from __future__ import annotations

import logging

import pytest

from gw.errors import SegmentError
from gw.health.board import Board
from gw.health.lease import OWNER_BYTES
from gw.health.view import HealthView
from tests.health.support import KEY, A, upstream


class BreakingStore:
    """A store that is broken for a while."""

    def __init__(self, store):
        self._store = store
        self.is_broken = False

    def __getattr__(self, name):
        if self.is_broken:
            raise_error()
        return getattr(self._store, name)


def raise_error():
    raise SegmentError("no room in /dev/shm")


@pytest.fixture
def breaking(store):
    return BreakingStore(store)


def test_all_nodes_are_healthy_meanwhile_and_one_line_says_so(breaking, clock, caplog):
    caplog.set_level(logging.WARNING, "gw.health.store")
    view = HealthView(Board(breaking, clock), clock)
    told = []
    watch = view.watch(KEY, upstream(), told.append)
    assert watch is not None
    watch.report_http(A, 500)
    watch.report_http(A, 500)
    breaking.is_broken = True
    for _ in range(12):
        clock.now_s += 1
        view.look()
        watch.report_http(A, 500)
    assert told == [{A}, set()]
    breaking.is_broken = False
    view.look()
    assert told == [{A}, set(), {A}]
    assert [record.getMessage() for record in caplog.records if record.name == "gw.health.store"] == [
        "nothing is known of the health of nodes, all are taken for healthy: no room in /dev/shm",
        "the health of nodes is known again",
    ]


def test_an_upstream_that_is_first_used_meanwhile(breaking, clock):
    breaking.is_broken = True
    view = HealthView(Board(breaking, clock), clock)
    watch = view.watch(KEY, upstream(), lambda down: None)
    assert watch is not None
    watch.report_timeout(A)
    view.unwatch(watch)


def test_a_lease_harms_nobody(breaking, clock):
    breaking.is_broken = True
    lease = Board(breaking, clock).lease(bytes(OWNER_BYTES))
    lease.hold()
    lease.release()
