"""Who probes: one at a time, and another one as soon as that one says nothing any more."""

from __future__ import annotations

import pytest

from gw.health.board import Board
from gw.health.lease import LEASE_S, OWNER_BYTES, RENEW_S, Lease


@pytest.fixture
def leases(store, clock) -> list[Lease]:
    return [Board(store, clock).lease(bytes([number]) * OWNER_BYTES) for number in range(3)]


def test_the_first_holds_it(leases):
    assert [lease.hold() for lease in leases] == [True, False, False]
    assert [lease.hold() for lease in leases] == [True, False, False]


def test_who_renews_keeps_it(leases, clock):
    assert leases[0].hold()
    for _ in range(10):
        clock.now_s += RENEW_S
        assert [lease.hold() for lease in leases] == [True, False, False]


def test_who_falls_silent_loses_it(leases, clock):
    assert leases[0].hold()
    clock.now_s += LEASE_S - 0.1
    assert not leases[1].hold()
    clock.now_s += 0.2
    assert leases[1].hold()
    assert [lease.hold() for lease in leases] == [False, True, False]


def test_who_was_away_and_finds_it_free_has_it_again(leases, clock):
    assert leases[0].hold()
    clock.now_s += 10 * LEASE_S
    assert leases[0].hold()
    assert not leases[1].hold()


def test_released_it_is_free_at_once(leases):
    assert leases[0].hold()
    leases[1].release()
    assert not leases[1].hold()
    leases[0].release()
    assert leases[1].hold()
    assert not leases[0].hold()
