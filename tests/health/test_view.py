"""What workers know of nodes and how it travels: two views on one board are two workers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gw.health.board import DROPPED_S, KEPT_S, RENEW_S, Board
from gw.health.feed import REMEMBERED
from gw.health.state import FRESH, Counts, State
from gw.health.store import Store
from gw.health.view import REFRESHED, HealthView, OnChange, Watch
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from tests.health.support import CHECKS, KEY, A, B, HandClock, upstream

C = "10.0.0.3:80"


class Worker:
    """A view, and what its owners were told."""

    def __init__(self, board: Board, clock: HandClock) -> None:
        self.board = board
        self.view = HealthView(board, clock)
        self.told: list[set[str]] = []

    def watch(self, of: Upstream, key: ResourceKey = KEY, on_change: OnChange | None = None) -> Watch:
        watch = self.view.watch(key, of, on_change or (lambda down: self.told.append(set(down))))
        assert watch is not None
        return watch


@pytest.fixture
def worker(board: Board, clock: HandClock) -> Worker:
    return Worker(board, clock)


@pytest.fixture
def other(board: Board, clock: HandClock) -> Worker:
    return Worker(board, clock)


def changed(path: str, value: Any) -> dict[str, Any]:
    """CHECKS with one field changed."""
    checks = copy.deepcopy(CHECKS)
    *way, last = path.split(".")
    inner = checks
    for name in way:
        inner = inner[name]
    inner[last] = value
    return checks


def fail(watch: Watch, node: str, times: int = 2) -> None:
    for _ in range(times):
        watch.report_http(node, 500)


def test_a_worker_knows_at_once_what_it_found_itself(worker):
    watch = worker.watch(upstream())
    fail(watch, A, 1)
    assert (worker.told, watch.down) == ([], frozenset())
    fail(watch, A, 1)
    assert (worker.told, watch.down) == ([{A}], {A})
    fail(watch, B)
    assert worker.told == [{A}, {A, B}]


@pytest.mark.parametrize(
    "report",
    [
        lambda watch: watch.report_http(A, 500),
        lambda watch: watch.report_tcp_failure(A),
        lambda watch: watch.report_timeout(A),
    ],
)
def test_each_kind_of_failure_takes_a_node_down(worker, report):
    watch = worker.watch(upstream())
    for _ in range(2):
        report(watch)
    assert worker.told == [{A}]


def test_others_know_when_they_look_next(worker, other):
    watch = worker.watch(upstream())
    seen = other.watch(upstream())
    other.view.look()
    fail(watch, A)
    assert (other.told, seen.down) == ([], frozenset())
    other.view.look()
    assert (other.told, seen.down) == ([{A}], {A})
    for _ in range(2):
        seen.report_http(A, 200)
    worker.view.look()
    assert worker.told == [{A}, set()]


def test_failures_that_several_workers_see_are_added_up(worker, other):
    fail(worker.watch(upstream()), A, 1)
    fail(other.watch(upstream()), A, 1)
    assert other.told == [{A}]


def test_a_worker_that_comes_later_knows_from_the_start(worker, other):
    fail(worker.watch(upstream()), A)
    assert other.watch(upstream()).down == {A}
    assert other.told == []


class CountedStore:
    """A store that counts how often it is asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = self.writes = 0

    def get(self, key):
        self.reads += 1
        return self._store.get(key)

    def items(self, prefix):
        self.reads += 1
        return self._store.items(prefix)

    def put(self, key, value, ttl_s=None):
        self.writes += 1
        self._store.put(key, value, ttl_s)

    def delete(self, key):
        self.writes += 1
        self._store.delete(key)

    def update(self, key, change):
        self.writes += 1
        return self._store.update(key, change)


@pytest.fixture
def counted(store) -> CountedStore:
    return CountedStore(store)


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ([], 200),  # healthy, a success
        ([], 404),  # counts as neither
        ([500, 500], 500),  # unhealthy, a failure
    ],
)
def test_what_says_nothing_new_costs_no_look_at_the_board(counted, clock, before, status):
    watch = Worker(Board(counted, clock), clock).watch(upstream())
    for first in before:
        watch.report_http(A, first)
    asked = (counted.reads, counted.writes)
    for _ in range(100):
        watch.report_http(A, status)
    assert (counted.reads, counted.writes) == asked


@pytest.mark.parametrize(("path", "status"), [([200, 200], 200), ([500], 500)])
def test_who_is_behind_writes_once_and_then_knows(counted, clock, other, path, status):
    watch, others = Worker(Board(counted, clock), clock).watch(upstream()), other.watch(upstream())
    fail(others, A, 1)
    watch.read()
    for seen in path:
        others.report_http(A, seen)
    counted.reads = counted.writes = 0
    for _ in range(100):
        watch.report_http(A, status)
    assert (counted.reads, counted.writes) == (1, 1)


def test_a_look_at_a_board_that_did_not_change_is_one_read(counted, clock):
    worker = Worker(Board(counted, clock), clock)
    for number in range(50):
        worker.watch(upstream(), ResourceKey("routes", str(number)))
    worker.view.look()
    counted.reads = counted.writes = 0
    worker.view.look()
    assert (counted.reads, counted.writes) == (1, 0)


def test_only_the_upstream_that_changed_is_read(counted, clock, other):
    worker = Worker(Board(counted, clock), clock)
    for number in range(50):
        worker.watch(upstream(), ResourceKey("routes", str(number)))
    worker.view.look()
    fail(other.watch(upstream(), ResourceKey("routes", "7")), A)
    counted.reads = counted.writes = 0
    worker.view.look()
    assert (counted.reads, counted.writes) == (2, 0)
    assert worker.told == [{A}]


@pytest.mark.parametrize("changes", [REMEMBERED - 1, REMEMBERED, REMEMBERED + 1, 3 * REMEMBERED])
def test_no_change_is_missed_however_many_there_are(worker, other, changes):
    """More than are told by name, and more than one look takes up."""
    keys = [ResourceKey("routes", str(number)) for number in range(changes)]
    downs = {key: set() for key in keys}
    for key in keys:
        worker.watch(upstream(), key, lambda down, key=key: downs[key].update(down))
    worker.view.look()
    for key in keys:
        fail(other.watch(upstream(), key), A)
    for _ in range(changes // REFRESHED + 1):
        worker.view.look()
    assert list(downs.values()) == [{A}] * changes


@pytest.mark.parametrize(
    ("again", "down"),
    [
        (upstream(), {A}),
        (upstream({A: 7, B: 0}), {A}),
        (upstream(retries=3, scheme="https", labels={"a": "b"}, desc="new"), {A}),
        (upstream({A: 1, B: 1, C: 1}), {A}),
        (upstream({B: 1, C: 1}), set()),
        (upstream(checks=changed("active.timeout", 2)), set()),
        (upstream(checks=changed("passive.unhealthy.http_failures", 3)), set()),
        (upstream(checks={"active": {}}), set()),
    ],
)
def test_which_change_of_configuration_resets_states(worker, again, down):
    watch = worker.watch(upstream())
    fail(watch, A)
    worker.view.unwatch(watch)
    assert worker.watch(again).down == down


def test_a_node_that_was_removed_comes_back_fresh(worker):
    fail(worker.watch(upstream()), A)
    worker.watch(upstream({B: 1, C: 1}))
    assert worker.watch(upstream()).down == set()


def test_changes_of_other_resources_touch_nothing(worker):
    watch = worker.watch(upstream())
    fail(watch, A)
    for key in (ResourceKey("upstreams", "2"), ResourceKey("routes", "1"), ResourceKey("services", "1")):
        assert worker.watch(upstream(), key).down == set()
        worker.watch(upstream(checks=changed("active.timeout", 9)), key)
    assert watch.down == {A}
    watch.read()
    assert watch.down == {A}


def test_nodes_that_are_probed_on_one_port_are_down_together(worker):
    watch = worker.watch(upstream({"10.0.0.1:81": 1, "10.0.0.1:82": 1, B: 1}, changed("active.port", 80)))
    fail(watch, "10.0.0.1:82")
    assert worker.told == [{"10.0.0.1:81", "10.0.0.1:82"}]


@pytest.mark.parametrize("no_checks", [upstream({}), upstream({A: 1}, {"active": {}}), upstream(checks={"active": {}})])
def test_nothing_counts_where_it_should_not(worker, no_checks):
    watch = worker.view.watch(KEY, no_checks, worker.told.append)
    if watch is None:
        assert no_checks.nodes == ()
        return
    assert not watch.is_passive
    fail(watch, A, 10)
    watch.report_tcp_failure(A)
    watch.report_timeout("stranger:1")
    assert worker.told == []


def test_the_switch_that_turns_all_checks_off(board, clock):
    view = HealthView(board, clock, is_enabled=False)
    assert view.watch(KEY, upstream(), lambda down: None) is None
    assert [part for part in board.checkers() if part] == []


def test_reports_of_a_node_that_is_not_there_go_nowhere(worker):
    fail(worker.watch(upstream()), C)
    assert worker.told == []


def test_a_watch_that_was_replaced_or_ended_tells_nobody(worker):
    first = worker.watch(upstream())
    second = worker.watch(upstream())
    fail(first, A)  # a request that was under way
    assert worker.told == []
    worker.view.look()
    assert worker.told == [{A}]
    worker.view.unwatch(first)
    fail(second, B)
    assert worker.told == [{A}, {A, B}]
    worker.view.unwatch(second)
    fail(second, A)
    worker.view.look()
    assert worker.told == [{A}, {A, B}]


def looked(worker: Worker, clock: HandClock, for_s: float) -> None:
    """Time goes by, and the worker looks each second."""
    for _ in range(round(for_s)):
        clock.now_s += 1.0
        worker.view.look()


def test_states_live_as_long_as_anybody_watches(worker, other, clock):
    watch = worker.watch(upstream())
    fail(watch, A)
    looked(worker, clock, 5 * KEPT_S)
    assert other.watch(upstream()).down == {A}


def test_states_lapse_when_nobody_watches(worker, other, clock, board):
    """A worker that died says nothing any more."""
    watch = worker.watch(upstream())
    fail(watch, A)
    clock.now_s += KEPT_S - 1
    assert board.is_registered(watch.checker.mark)
    assert other.watch(upstream()).down == {A}
    clock.now_s += KEPT_S + 1
    assert not board.is_registered(watch.checker.mark)
    assert worker.watch(upstream()).down == set()


def test_what_is_not_used_any_more_is_soon_not_checked_any_more(worker, clock, board):
    watch = worker.watch(upstream())
    looked(worker, clock, 3 * RENEW_S)
    worker.view.unwatch(watch)
    assert board.is_registered(watch.checker.mark)
    clock.now_s += DROPPED_S + 1
    assert not board.is_registered(watch.checker.mark)


def test_what_another_worker_still_uses_is_checked_on(worker, other, clock, board):
    watch = worker.watch(upstream())
    other.watch(upstream())
    worker.view.unwatch(watch)
    looked(other, clock, 3 * KEPT_S)
    assert board.is_registered(watch.checker.mark)


def test_the_newest_registration_counts_while_its_worker_keeps_it(worker, other, clock, board):
    """Workers take a change up one after the other, and each of them renews what it has."""
    old = worker.watch(upstream())
    new = other.watch(upstream({A: 1, B: 1, C: 1}))
    for _ in range(round(2 * RENEW_S)):
        looked(worker, clock, 1)
        other.view.look()
        assert board.find_checker(old.checker.mark) == new.checker
    # Should the other worker be gone, what is still used is checked.
    looked(worker, clock, 3 * RENEW_S)
    assert board.find_checker(old.checker.mark) == old.checker


def test_an_empty_board_fills_again(worker, store, clock, board):
    """The state was replaced because it was damaged: everything is as after a start."""
    watch = worker.watch(upstream())
    fail(watch, A)
    for key, _ in store.items(b""):
        store.delete(key)
    looked(worker, clock, RENEW_S + 1)
    assert worker.told == [{A}, set()]
    assert board.is_registered(watch.checker.mark)
    fail(watch, A)
    assert worker.told == [{A}, set(), {A}]


def test_counters_are_there_to_be_shown(worker, board):
    watch = worker.watch(upstream())
    fail(watch, A, 1)
    watch.report_timeout(B)
    watch.report_http(B, 200)
    assert board.healths(watch.checker) == {
        A: FRESH._replace(state=State.MOSTLY_HEALTHY, counts=Counts(http_failures=1)),
        B: FRESH._replace(state=State.MOSTLY_HEALTHY, counts=Counts(successes=1)),
    }
    assert [part for part in board.checkers() if part] == [[watch.checker]]


def test_an_upstream_that_is_too_large_has_passive_checks_alone(worker, board, caplog):
    nodes = {f"{n:x}{n * 7919 % 10007:x}{n * n:x}.example:80": 1 for n in range(20_000)}
    watch = worker.watch(upstream(nodes))
    assert not board.is_registered(watch.checker.mark)
    assert "too large to be probed" in caplog.text
    fail(watch, next(iter(nodes)))
    assert worker.told == [{next(iter(nodes))}]


def test_a_node_that_goes_down_or_up_is_in_the_log(worker, caplog):
    caplog.set_level("INFO", "gw.health")
    watch = worker.watch(upstream())
    for status in (500, 500, 200, 200):
        watch.report_http(A, status)
    assert [record.getMessage() for record in caplog.records] == [
        "upstream in upstreams/1: node 10.0.0.1:80 is down after http failure number 2 (passive checks)",
        "upstream in upstreams/1: node 10.0.0.1:80 is up after success number 2 (passive checks)",
    ]
