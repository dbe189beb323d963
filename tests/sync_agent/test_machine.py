"""The agent's state machine as tables: what each event leads to, and which ones cannot happen."""

import random

import pytest

from sync_agent.machine import (
    FIRST_BACK_OFF_S,
    LONGEST_BACK_OFF_S,
    TABLE,
    Changed,
    HistoryGone,
    Listed,
    Lost,
    Machine,
    PublishAll,
    PublishChanges,
    SetTimer,
    Started,
    StartList,
    StartWatch,
    State,
    StopWatch,
    TimerFired,
    WatchOpened,
)
from sync_agent.stores.base import Event, Head, KeyValue

STORE = "store-a"
PUT = Event("routes/1", KeyValue("routes/1", b"{}", 5, 5))


def head(revision: int, store_id: str = STORE) -> Head:
    return Head(revision, store_id)


def watching(at: int = 10) -> Machine:
    machine = Machine(random.Random(1))
    machine.step(Started())
    machine.step(Listed(head(at), "content"))
    machine.step(WatchOpened(head(at)))
    assert machine.state is State.WATCHING
    return machine


def test_start_lists_then_publishes_then_watches_after_the_revision_listed():
    machine = Machine(random.Random(1))
    assert machine.step(Started()) == [StartList()]
    assert machine.step(Listed(head(10), "content")) == [PublishAll(head(10), "content"), StartWatch(11)]
    assert machine.step(WatchOpened(head(10))) == []
    assert machine.step(Changed(head(11), (PUT,))) == [PublishChanges(head(11), (PUT,))]


def test_a_lost_watch_is_resumed_after_the_last_revision_seen_never_ahead_of_it():
    machine = watching(at=10)
    machine.step(Changed(head(12), (PUT,)))
    [timer] = machine.step(Lost("cut"))
    assert isinstance(timer, SetTimer)
    assert machine.problem == "cut"
    assert machine.step(TimerFired()) == [StartWatch(13)]
    # The store has moved on meanwhile: what lies between must still come through the watch.
    assert machine.step(WatchOpened(head(99))) == []
    assert machine.seen == head(12)
    assert machine.problem == ""


def test_progress_without_events_moves_the_revision_to_resume_from():
    machine = watching(at=10)
    assert machine.step(Changed(head(500), ())) == [PublishChanges(head(500), ())]
    machine.step(Lost("cut"))
    assert machine.step(TimerFired()) == [StartWatch(501)]


def test_a_resumed_watch_that_is_lost_before_it_stands_is_resumed_again_and_nothing_is_listed():
    machine = watching(at=10)
    machine.step(Lost("cut"))
    machine.step(TimerFired())
    [timer] = machine.step(Lost("still cut"))
    assert isinstance(timer, SetTimer)
    assert machine.problem == "still cut"
    assert machine.step(TimerFired()) == [StartWatch(11)]


@pytest.mark.parametrize("opened", [False, True])
def test_compaction_leads_to_a_full_list(opened: bool):
    machine = watching()
    if not opened:
        machine.step(Lost("cut"))
        machine.step(TimerFired())
    assert machine.step(HistoryGone(400)) == [StartList()]
    assert "400" in machine.problem
    assert machine.step(Listed(head(450), "new"))[0] == PublishAll(head(450), "new")
    assert machine.problem == ""


@pytest.mark.parametrize(
    "other_past", [head(3), head(10, "store-b"), head(3000, "store-b")], ids=["lower", "other id", "other and higher"]
)
def test_a_store_with_another_past_is_listed_again(other_past: Head):
    resumed = watching(at=10)
    resumed.step(Lost("cut"))
    resumed.step(TimerFired())
    live = watching(at=10)
    for machine, event in ((resumed, WatchOpened(other_past)), (live, Changed(other_past, (PUT,)))):
        [stop, timer] = machine.step(event)
        assert stop == StopWatch()
        assert isinstance(timer, SetTimer)
        assert "restored" in machine.problem
        assert machine.step(TimerFired()) == [StartList()]
    live.step(Listed(other_past, "content"))
    assert live.seen == other_past


def test_a_failed_list_is_tried_again():
    machine = Machine(random.Random(1))
    machine.step(Started())
    [timer] = machine.step(Lost("refused"))
    assert isinstance(timer, SetTimer)
    assert machine.step(TimerFired()) == [StartList()]


def test_back_off_grows_is_drawn_and_starts_over_after_success():
    machine = Machine(random.Random(7))
    machine.step(Started())
    delays = []
    for _ in range(20):
        [timer] = machine.step(Lost("refused"))
        delays.append(timer.delay_s)
        machine.step(TimerFired())
    assert FIRST_BACK_OFF_S / 2 <= delays[0] <= FIRST_BACK_OFF_S
    assert all(LONGEST_BACK_OFF_S / 2 <= delay <= LONGEST_BACK_OFF_S for delay in delays[10:])
    assert len(set(delays)) == len(delays)
    machine.step(Listed(head(1), ""))
    machine.step(WatchOpened(head(1)))
    machine.step(Changed(head(2), ()))
    [timer] = machine.step(Lost("cut"))
    assert timer.delay_s <= FIRST_BACK_OFF_S


def test_a_watch_that_opens_and_falls_at_once_again_and_again_backs_off_further():
    machine = watching()
    for _ in range(3):
        machine.step(Lost("cut"))
        machine.step(TimerFired())
        machine.step(WatchOpened(head(10)))
    [timer] = machine.step(Lost("cut"))
    assert timer.delay_s > FIRST_BACK_OFF_S


def test_an_event_that_cannot_happen_names_itself_and_the_state():
    machine = Machine(random.Random(1))
    with pytest.raises(RuntimeError, match="TimerFired cannot happen while the agent is STARTING"):
        machine.step(TimerFired())


def test_every_state_can_be_left_after_a_failure():
    for state in set(State) - {State.STARTING}:
        events = {event for (at, event) in TABLE if at is state}
        assert events & {Lost, TimerFired}, state
