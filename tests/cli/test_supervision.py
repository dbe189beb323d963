"""What `gw start` does about its children: the table, played through."""

from __future__ import annotations

import signal

import pytest

from gw.cli.steps import (
    AGENT,
    GUNICORN,
    AgentExited,
    Arm,
    Event,
    Finish,
    GraceOver,
    GunicornExited,
    RestartDue,
    Say,
    Send,
    Start,
    StopAsked,
    StopListening,
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
