"""What `gw start` does about its children: the table, played through."""

from __future__ import annotations

import signal

import pytest

from gw.cli.steps import (
    AGENT,
    GUNICORN,
    AgentExited,
    Answer,
    Arm,
    Child,
    Event,
    Finish,
    GraceOver,
    GunicornExited,
    HandOver,
    ReloadAsked,
    ReloadOver,
    RestartDue,
    RetirementOver,
    Say,
    Send,
    Start,
    StopAsked,
    StopListening,
    SuccessorServes,
    Timer,
)
from gw.cli.supervision import AGENT_STOP_S, GRACE_MARGIN_S, QUICK_STOP_S, State, Supervision

TERM_GUNICORN = Send(GUNICORN, signal.SIGTERM)
QUIT_GUNICORN = Send(GUNICORN, signal.SIGQUIT)
KILL_GUNICORN = Send(GUNICORN, signal.SIGKILL)
TERM_AGENT = Send(AGENT, signal.SIGTERM)
KILL_AGENT = Send(AGENT, signal.SIGKILL)
GRACE = Arm(Timer.GRACE, 30 + GRACE_MARGIN_S)


def started() -> Supervision:
    supervision = Supervision(graceful_timeout_s=30)
    assert supervision.begin() == [Start(AGENT), Start(GUNICORN)]
    return supervision


def play(supervision: Supervision, *events: Event) -> list[object]:
    """The actions of all events, without what is only said."""
    return [action for event in events for action in supervision.step(event) if not isinstance(action, Say)]


def test_ctrl_c_drains_gunicorn_and_stops_the_agent_last() -> None:
    supervision = started()
    assert play(supervision, StopAsked()) == [StopListening(), TERM_GUNICORN, GRACE]
    assert play(supervision, GunicornExited(GUNICORN, 0)) == [TERM_AGENT, Arm(Timer.GRACE, AGENT_STOP_S)]
    assert play(supervision, AgentExited(0, 5.0)) == [Finish(0)]
    assert supervision.state is State.STOPPED


def test_a_second_ctrl_c_is_the_quick_stop_and_a_third_kills() -> None:
    supervision = started()
    play(supervision, StopAsked())
    assert play(supervision, StopAsked()) == [QUIT_GUNICORN, Arm(Timer.GRACE, QUICK_STOP_S)]
    assert play(supervision, StopAsked()) == [KILL_GUNICORN]
    assert play(supervision, GunicornExited(GUNICORN, -9), AgentExited(0, 5.0))[-1] == Finish(0)


def test_what_does_not_stop_in_time_is_killed() -> None:
    supervision = started()
    play(supervision, StopAsked())
    assert play(supervision, GraceOver()) == [KILL_GUNICORN]
    play(supervision, GunicornExited(GUNICORN, -9))
    assert play(supervision, GraceOver()) == [KILL_AGENT]
    assert play(supervision, AgentExited(-9, 5.0)) == [Finish(0)]


def test_a_dead_agent_is_started_again_ever_later() -> None:
    supervision = started()
    delays = []
    for _ in range(8):
        [arm] = play(supervision, AgentExited(1, 0.2))
        assert isinstance(arm, Arm)
        assert arm.timer is Timer.RESTART
        delays.append(arm.delay_s)
        assert play(supervision, RestartDue()) == [Start(AGENT)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert play(supervision, AgentExited(-9, 60.0)) == [Arm(Timer.RESTART, 0.1)]


def test_an_agent_that_refuses_at_its_first_start_ends_everything() -> None:
    supervision = started()
    assert play(supervision, AgentExited(78, 0.1)) == [StopListening(), TERM_GUNICORN, GRACE]
    assert play(supervision, GunicornExited(GUNICORN, 0)) == [Finish(78)]


@pytest.mark.parametrize("served", [True, False])
def test_an_agent_that_refuses_later_does_not_end_the_traffic(served: bool) -> None:
    supervision = started()
    if served:
        supervision.ready()
    else:
        play(supervision, AgentExited(1, 0.1), RestartDue())
    [arm] = play(supervision, AgentExited(78, 0.1))
    assert isinstance(arm, Arm)


def test_a_dead_gunicorn_is_the_end() -> None:
    supervision = started()
    ending = [StopListening(), TERM_AGENT, Arm(Timer.GRACE, AGENT_STOP_S)]
    assert play(supervision, GunicornExited(GUNICORN, -11)) == ending
    assert play(supervision, AgentExited(0, 5.0)) == [Finish(1)]


def test_both_dead_at_once() -> None:
    supervision = started()
    assert play(supervision, AgentExited(1, 5.0), GunicornExited(GUNICORN, 1))[-1] == Finish(1)


def test_while_stopping_no_agent_is_started() -> None:
    supervision = started()
    play(supervision, AgentExited(1, 0.1), StopAsked())
    assert play(supervision, RestartDue()) == []
    assert play(supervision, GunicornExited(GUNICORN, 0)) == [Finish(0)]

    supervision = started()
    play(supervision, StopAsked())
    assert play(supervision, AgentExited(1, 5.0)) == []
    assert play(supervision, GunicornExited(GUNICORN, 0)) == [Finish(0)]


def test_what_cannot_happen_is_a_mistake_that_names_both() -> None:
    with pytest.raises(AssertionError, match=r"GraceOver\(\) cannot happen while SERVING"):
        started().step(GraceOver())


SECOND, THIRD = Child(2), Child(3)
ASKED = ReloadAsked(graceful_timeout_s=40, reload_timeout_s=60)
RETIRE = Arm(Timer.RETIREMENT, 40 + GRACE_MARGIN_S)


def serving() -> Supervision:
    supervision = started()
    supervision.ready()
    return supervision


def answers(actions: list[object]) -> list[bool]:
    return [action.is_done for action in actions if isinstance(action, Answer)]


def test_a_successor_that_serves_takes_the_place_and_the_old_one_retires() -> None:
    supervision = serving()
    assert supervision.why_not_reload(with_agent=True) is None
    assert play(supervision, ASKED) == [Start(SECOND), Arm(Timer.RELOAD, 60)]
    assert supervision.awaited == SECOND
    actions = play(supervision, SuccessorServes())
    assert actions[:-1] == [HandOver(SECOND), TERM_GUNICORN, RETIRE]
    assert answers(actions) == [True]
    assert supervision.awaited is None
    assert play(supervision, GunicornExited(GUNICORN, 0)) == []
    # The next one is the third, and its predecessor the second.
    assert play(supervision, ASKED)[0] == Start(THIRD)
    assert Send(SECOND, signal.SIGTERM) in play(supervision, SuccessorServes())
    # From now on the new configuration's time is what a stop waits for.
    assert play(supervision, StopAsked()) == [
        StopListening(),
        Send(THIRD, signal.SIGTERM),
        Arm(Timer.GRACE, 40 + GRACE_MARGIN_S),
    ]
    assert play(supervision, GunicornExited(THIRD, 0)) == [], "the second still drains"
    assert play(supervision, GunicornExited(SECOND, 0))[0] == TERM_AGENT


def test_the_agent_is_changed_only_when_that_was_asked_for_and_only_after_success() -> None:
    supervision = serving()
    play(supervision, ReloadAsked(40, 60, with_agent=True))
    assert TERM_AGENT in play(supervision, SuccessorServes())
    assert play(supervision, AgentExited(0, 5.0)) == [Arm(Timer.RESTART, 0.1)]
    supervision = serving()
    play(supervision, ReloadAsked(40, 60, with_agent=True))
    assert TERM_AGENT not in play(supervision, GunicornExited(SECOND, 1))


@pytest.mark.parametrize(
    ("event", "actions"),
    [
        (GunicornExited(SECOND, 3), []),
        (ReloadOver(), [Send(SECOND, signal.SIGTERM), RETIRE]),
    ],
)
def test_a_successor_that_fails_leaves_the_old_one(event: Event, actions: list[object]) -> None:
    supervision = serving()
    play(supervision, ASKED)
    done = play(supervision, event)
    assert done[:-1] == actions
    assert answers(done) == [False]
    assert supervision.state is State.SERVING
    assert supervision.why_not_reload(with_agent=False) is None
    assert play(supervision, ASKED)[0] == Start(THIRD)


def test_a_late_timer_of_a_reload_that_is_over_is_nothing() -> None:
    supervision = serving()
    assert play(supervision, ASKED, SuccessorServes())
    assert play(supervision, ReloadOver()) == []


def test_a_retired_one_that_does_not_end_is_killed() -> None:
    supervision = serving()
    play(supervision, ASKED, SuccessorServes())
    assert supervision.may_leave_workers(GUNICORN)
    assert not supervision.may_leave_workers(SECOND)
    assert play(supervision, RetirementOver()) == [KILL_GUNICORN]
    assert play(supervision, GunicornExited(GUNICORN, -9), RetirementOver()) == []


def test_a_successor_goes_on_alone_when_the_old_one_dies() -> None:
    supervision = serving()
    play(supervision, ASKED)
    assert supervision.may_leave_workers(GUNICORN)
    assert play(supervision, GunicornExited(GUNICORN, -9)) == []
    assert play(supervision, SuccessorServes())[0] == HandOver(SECOND)
    assert play(supervision, GunicornExited(SECOND, -9))[-2:] == [TERM_AGENT, Arm(Timer.GRACE, AGENT_STOP_S)]


def test_it_is_the_end_when_both_die() -> None:
    supervision = serving()
    play(supervision, ASKED)
    done = play(supervision, GunicornExited(GUNICORN, -9), GunicornExited(SECOND, 1))
    assert answers(done) == [False]
    assert done[1:] == [StopListening(), TERM_AGENT, Arm(Timer.GRACE, AGENT_STOP_S)]


def test_a_slow_successor_stays_when_there_is_nobody_else() -> None:
    supervision = serving()
    play(supervision, ASKED)
    done = play(supervision, GunicornExited(GUNICORN, -9), ReloadOver())
    assert answers(done) == [False]
    assert play(supervision, StopAsked())[1] == Send(SECOND, signal.SIGTERM)


def test_who_still_drains_may_finish_when_the_last_one_dies() -> None:
    supervision = serving()
    play(supervision, ASKED, SuccessorServes())
    assert play(supervision, GunicornExited(SECOND, -11)) == [StopListening(), Arm(Timer.GRACE, 40 + GRACE_MARGIN_S)]
    assert play(supervision, GunicornExited(GUNICORN, 0))[0] == TERM_AGENT
    assert play(supervision, AgentExited(0, 5.0)) == [Finish(1)]


def test_a_stop_during_a_reload_answers_and_stops_both() -> None:
    supervision = serving()
    play(supervision, ASKED)
    done = play(supervision, StopAsked())
    assert answers(done) == [False]
    assert done[1:4] == [StopListening(), TERM_GUNICORN, Send(SECOND, signal.SIGTERM)]
    assert play(supervision, StopAsked())[:2] == [QUIT_GUNICORN, Send(SECOND, signal.SIGQUIT)]
    assert play(supervision, GunicornExited(SECOND, -3)) == []
    assert play(supervision, GunicornExited(GUNICORN, -3))[0] == TERM_AGENT


def test_when_a_reload_is_refused() -> None:
    supervision = started()
    assert "starting" in str(supervision.why_not_reload(with_agent=False))
    supervision.ready()
    play(supervision, ASKED)
    assert "under way" in str(supervision.why_not_reload(with_agent=False))
    play(supervision, StopAsked())
    assert "stopping" in str(supervision.why_not_reload(with_agent=False))

    alone = Supervision(30, has_agent=False)
    assert alone.begin() == [Start(GUNICORN)]
    alone.ready()
    assert alone.why_not_reload(with_agent=False) is None
    assert "not run from here" in str(alone.why_not_reload(with_agent=True))
    play(alone, StopAsked())
    assert play(alone, GunicornExited(GUNICORN, 0)) == [Finish(0)]
