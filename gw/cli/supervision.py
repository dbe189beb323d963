"""What `gw start` does about its two children, decided without touching a process: events in, actions out.

    SERVING    agent and gunicorn run; a dead agent is started again, a dead gunicorn is the end
    DRAINING   gunicorn was asked to stop and lets requests in flight finish
    HURRYING   asked twice: gunicorn stops at once
    CLOSING    gunicorn is gone, the agent is being stopped: it is the last
    STOPPED    both are gone

A pair of state and event that is not in the table is a mistake of the caller.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gw.cli import exit_codes

# The agent is back before a person notices, and a broken one does not fill the log.
FIRST_RESTART_DELAY_S: Final = 0.1
LONGEST_RESTART_DELAY_S: Final = 5.0
# Twice the longest delay: an agent that ran this long did not die of what it met at its start.
HEALTHY_AFTER_S: Final = 10.0

# gunicorn itself ends its workers when the grace period is over; this is for a gunicorn that does not.
GRACE_MARGIN_S: Final = 5.0
# A quick stop has nothing to wait for but the processes' own ends.
QUICK_STOP_S: Final = 2.0
# The agent closes its socket, its store and its last good file.
AGENT_STOP_S: Final = 5.0


class Child(enum.Enum):
    """The processes that are watched."""

    AGENT = "sync agent"
    GUNICORN = "gunicorn"


class State(enum.Enum):
    """See the module."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    HURRYING = enum.auto()
    CLOSING = enum.auto()
    STOPPED = enum.auto()


class Timer(enum.Enum):
    """What may be waited for. Arming one that runs sets it anew."""

    RESTART = enum.auto()
    GRACE = enum.auto()


# --- events: what happened


@dataclass(frozen=True, slots=True)
class AgentExited:
    """`code` is the exit code, or minus the signal that ended it. `ran_s`: for how long it ran."""

    code: int
    ran_s: float


@dataclass(frozen=True, slots=True)
class GunicornExited:
    """As above."""

    code: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGINT or SIGTERM reached us."""


@dataclass(frozen=True, slots=True)
class RestartDue:
    """Timer.RESTART fired."""


@dataclass(frozen=True, slots=True)
class GraceOver:
    """Timer.GRACE fired."""


Event: TypeAlias = AgentExited | GunicornExited | StopAsked | RestartDue | GraceOver


# --- actions: what to do about it


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signal to a child; with SIGKILL to its whole process group."""

    child: Child
    signal: signal.Signals


@dataclass(frozen=True, slots=True)
class Arm:
    """Set a timer."""

    timer: Timer
    delay_s: float


@dataclass(frozen=True, slots=True)
class StopListening:
    """Close our copies of the listening sockets, so that connections are refused once gunicorn has closed its own."""


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the person at the terminal."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Both children are gone: end with this exit code."""

    exit_code: int


Action: TypeAlias = Start | Send | Arm | StopListening | Say | Finish


class Supervision:
    """The state machine. `graceful_timeout_s` is how long requests in flight may take."""

    def __init__(self, graceful_timeout_s: float) -> None:
        self.state = State.SERVING
        self._graceful_timeout_s = graceful_timeout_s
        self._exit_code = exit_codes.OK
        self._agent_runs = False
        self._agent_was_accepted = False
        self._restart_delay_s = FIRST_RESTART_DELAY_S

    def begin(self) -> list[Action]:
        """The first actions."""
        self._agent_runs = True
        return [Start(Child.AGENT), Start(Child.GUNICORN)]

    def step(self, event: Event) -> list[Action]:
        """What an event leads to."""
        try:
            handle = _TABLE[self.state, type(event)]
        except KeyError:
            raise AssertionError(f"{event} cannot happen while {self.state.name}") from None
        return handle(self, event)

    def ready(self) -> None:
        """All workers serve, so the agent's first start did not end in a refusal."""
        self._agent_was_accepted = True

    # --- SERVING

    def _restart_agent(self, event: AgentExited) -> list[Action]:
        self._agent_runs = False
        if event.code == exit_codes.CONFIG and not self._agent_was_accepted:
            self._exit_code = exit_codes.CONFIG
            return [Say("the sync agent refuses to run (see above); stopping"), *self._drain()]
        self._agent_was_accepted = True
        if event.ran_s >= HEALTHY_AFTER_S:
            self._restart_delay_s = FIRST_RESTART_DELAY_S
        delay_s = self._restart_delay_s
        self._restart_delay_s = min(2 * delay_s, LONGEST_RESTART_DELAY_S)
        return [
            Say(f"the sync agent {_ending(event.code)}; traffic goes on, it is started again in {delay_s:g} s"),
            Arm(Timer.RESTART, delay_s),
        ]

    def _start_agent(self, event: RestartDue) -> list[Action]:
        self._agent_runs = True
        return [Start(Child.AGENT)]

    def _lose_gunicorn(self, event: GunicornExited) -> list[Action]:
        self._exit_code = exit_codes.FAILED
        return [Say(f"gunicorn {_ending(event.code)}; stopping"), StopListening(), *self._close()]

    def _begin_to_stop(self, event: StopAsked) -> list[Action]:
        return [Say("stopping: requests in flight may finish; once more stops at once"), *self._drain()]

    def _drain(self) -> list[Action]:
        self.state = State.DRAINING
        # Not SIGINT, at which gunicorn drops the requests in flight.
        return [
            StopListening(),
            Send(Child.GUNICORN, signal.SIGTERM),
            Arm(Timer.GRACE, self._graceful_timeout_s + GRACE_MARGIN_S),
        ]

    # --- DRAINING, HURRYING

    def _hurry(self, event: StopAsked) -> list[Action]:
        self.state = State.HURRYING
        return [
            Say("stopping at once"),
            Send(Child.GUNICORN, signal.SIGQUIT),
            Arm(Timer.GRACE, QUICK_STOP_S),
        ]

    def _kill_gunicorn(self, event: Event) -> list[Action]:
        self.state = State.HURRYING
        return [Send(Child.GUNICORN, signal.SIGKILL)]

    def _note_agent_gone(self, event: AgentExited) -> list[Action]:
        self._agent_runs = False
        return []

    def _gunicorn_gone(self, event: GunicornExited) -> list[Action]:
        return self._close()

    # --- CLOSING

    def _close(self) -> list[Action]:
        if not self._agent_runs:
            return self._finish()
        self.state = State.CLOSING
        return [Send(Child.AGENT, signal.SIGTERM), Arm(Timer.GRACE, AGENT_STOP_S)]

    def _kill_agent(self, event: Event) -> list[Action]:
        return [Send(Child.AGENT, signal.SIGKILL)]

    def _agent_gone(self, event: AgentExited) -> list[Action]:
        self._agent_runs = False
        return self._finish()

    def _finish(self) -> list[Action]:
        self.state = State.STOPPED
        return [Finish(self._exit_code)]

    def _nothing(self, event: Event) -> list[Action]:
        return []


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


# Any: each handler takes the event of its own row.
_TABLE: Final[dict[tuple[State, type], Callable[[Supervision, Any], list[Action]]]] = {
    (State.SERVING, AgentExited): Supervision._restart_agent,
    (State.SERVING, RestartDue): Supervision._start_agent,
    (State.SERVING, GunicornExited): Supervision._lose_gunicorn,
    (State.SERVING, StopAsked): Supervision._begin_to_stop,
    (State.DRAINING, AgentExited): Supervision._note_agent_gone,
    (State.DRAINING, RestartDue): Supervision._nothing,
    (State.DRAINING, GunicornExited): Supervision._gunicorn_gone,
    (State.DRAINING, StopAsked): Supervision._hurry,
    (State.DRAINING, GraceOver): Supervision._kill_gunicorn,
    (State.HURRYING, AgentExited): Supervision._note_agent_gone,
    (State.HURRYING, RestartDue): Supervision._nothing,
    (State.HURRYING, GunicornExited): Supervision._gunicorn_gone,
    (State.HURRYING, StopAsked): Supervision._kill_gunicorn,
    (State.HURRYING, GraceOver): Supervision._kill_gunicorn,
    (State.CLOSING, AgentExited): Supervision._agent_gone,
    (State.CLOSING, RestartDue): Supervision._nothing,
    (State.CLOSING, StopAsked): Supervision._kill_agent,
    (State.CLOSING, GraceOver): Supervision._kill_agent,
}
