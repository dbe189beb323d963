"""What `gw start` does about its children, decided without touching a process: events in, actions out.

    SERVING    agent and gunicorn run; a dead agent is started again, a dead gunicorn is the end
    RELOADING  a second gunicorn is on its way to take the place of the first, which serves until it does
    DRAINING   gunicorn was asked to stop and lets requests in flight finish
    HURRYING   asked twice: gunicorn stops at once
    CLOSING    gunicorn is gone, the agent is being stopped: it is the last
    STOPPED    all are gone

A gunicorn whose place is taken, or that could not take it, is *retired*: it was told to stop, and there may be several
of them in any state but the last two.

A pair of state and event that is not in the table is a mistake of the caller.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Callable
from typing import Any, Final

from gw.cli import exit_codes
from gw.cli.steps import (
    AGENT,
    GUNICORN,
    Action,
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


class State(enum.Enum):
    """See the module."""

    SERVING = enum.auto()
    RELOADING = enum.auto()
    DRAINING = enum.auto()
    HURRYING = enum.auto()
    CLOSING = enum.auto()
    STOPPED = enum.auto()


class Supervision:
    """The state machine. `graceful_timeout_s` is how long requests in flight may take."""

    def __init__(self, graceful_timeout_s: float, *, has_agent: bool = True) -> None:
        self.state = State.SERVING
        self._graceful_timeout_s = graceful_timeout_s
        self._has_agent = has_agent
        self._exit_code = exit_codes.OK
        self._agent_runs = False
        self._agent_was_accepted = False
        self._restart_delay_s = FIRST_RESTART_DELAY_S
        self._is_ready = False
        self._current: Child | None = GUNICORN
        self._retired: set[Child] = set()
        self._generation = GUNICORN.generation
        self._asked = ReloadAsked(graceful_timeout_s, 0.0)

    def begin(self) -> list[Action]:
        """The first actions."""
        self._agent_runs = self._has_agent
        return [Start(AGENT), Start(GUNICORN)] if self._has_agent else [Start(GUNICORN)]

    def step(self, event: Event) -> list[Action]:
        """What an event leads to."""
        if isinstance(event, GunicornExited) and event.child in self._retired:
            return self._note_retired_gone(event)
        try:
            handle = _TABLE[self.state, type(event)]
        except KeyError:
            raise AssertionError(f"{event} cannot happen while {self.state.name}") from None
        return handle(self, event)

    def ready(self) -> None:
        """All workers serve, so the agent's first start did not end in a refusal."""
        self._agent_was_accepted = True
        self._is_ready = True

    @property
    def awaited(self) -> Child | None:
        """The gunicorn of which it matters whether all its workers serve: the first one until then, or a successor."""
        if self.state is State.RELOADING:
            return self._successor
        return GUNICORN if self.state is State.SERVING and not self._is_ready else None

    def may_leave_workers(self, child: Child) -> bool:
        """Whether the workers of a gunicorn that dies may finish what is in flight: it retires, or is about to."""
        return child in self._retired or (self.state is State.RELOADING and child == self._current)

    def why_not_reload(self, *, with_agent: bool) -> str | None:
        """What is against a reload now; None when nothing is."""
        if self.state is State.RELOADING:
            return "a reload is under way already"
        if self.state is not State.SERVING:
            return "the gateway is stopping"
        if not self._is_ready:
            return "the gateway is still starting: not all workers serve"
        if with_agent and not self._has_agent:
            return "the sync agent is not run from here: restart it where it was started (systemctl?)"
        return None

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
        return [Start(AGENT)]

    def _lose_gunicorn(self, event: GunicornExited) -> list[Action]:
        self._current = None
        return self._lose_all(event.code)

    def _lose_all(self, code: int) -> list[Action]:
        self._exit_code = exit_codes.FAILED
        actions: list[Action] = [Say(f"gunicorn {_ending(code)}; stopping"), StopListening()]
        if not self._retired:
            return [*actions, *self._close()]
        self.state = State.DRAINING
        return [*actions, self._grace()]

    def _begin_to_stop(self, event: StopAsked) -> list[Action]:
        return [Say("stopping: requests in flight may finish; once more stops at once"), *self._drain()]

    def _drain(self) -> list[Action]:
        serving = self._serving
        self.state = State.DRAINING
        self._retired.update(serving)
        # Not SIGINT, at which gunicorn drops the requests in flight.
        return [StopListening(), *(Send(child, signal.SIGTERM) for child in serving), self._grace()]

    def _reload(self, event: ReloadAsked) -> list[Action]:
        self.state = State.RELOADING
        self._asked = event
        self._generation += 1
        return [
            Say("reloading: a new gunicorn starts on the same sockets"),
            Start(self._successor),
            Arm(Timer.RELOAD, event.reload_timeout_s),
        ]

    # --- RELOADING

    @property
    def _successor(self) -> Child:
        return Child(self._generation)

    def _succeed(self, event: SuccessorServes) -> list[Action]:
        old, self._current = self._current, self._successor
        self.state = State.SERVING
        # The old one's own time, or the new one's where it is longer: this is only for one that does not keep to it.
        longest_s = max(self._graceful_timeout_s, self._asked.graceful_timeout_s)
        self._graceful_timeout_s = self._asked.graceful_timeout_s
        actions: list[Action] = [HandOver(self._successor)]
        if old is not None:
            actions += self._retire(old, longest_s)
        if self._asked.with_agent and self._agent_runs:
            self._restart_delay_s = FIRST_RESTART_DELAY_S
            actions.append(Send(AGENT, signal.SIGTERM))
        return [*actions, Answer(True, "reloaded: the new workers serve, the old ones finish what is in flight")]

    def _fail(self, event: ReloadOver) -> list[Action]:
        why = f"not all new workers served within {self._asked.reload_timeout_s:g} s (gw.reload_timeout; see the log)"
        self.state = State.SERVING
        if self._current is None:
            self._current = self._successor
            return [Answer(False, f"{why}; the old gunicorn is gone, so the new one goes on")]
        return [
            *self._retire(self._successor, self._asked.graceful_timeout_s),
            Answer(False, f"{why}; the old ones go on"),
        ]

    def _lose_one(self, event: GunicornExited) -> list[Action]:
        if event.child == self._current:
            self._current = None
            return [Say(f"gunicorn {_ending(event.code)}; the new one is on its way")]
        self.state = State.SERVING
        ending = f"the new gunicorn {_ending(event.code)} before its workers served (see the log)"
        if self._current is None:
            return [Answer(False, ending), *self._lose_all(event.code)]
        return [Answer(False, f"{ending}; the old one goes on")]

    def _stop_in_reload(self, event: StopAsked) -> list[Action]:
        return [Answer(False, "the gateway is stopping"), *self._begin_to_stop(event)]

    def _retire(self, child: Child, graceful_timeout_s: float) -> list[Action]:
        self._retired.add(child)
        return [Send(child, signal.SIGTERM), Arm(Timer.RETIREMENT, graceful_timeout_s + GRACE_MARGIN_S)]

    def _kill_retired(self, event: RetirementOver) -> list[Action]:
        return self._to_retired(signal.SIGKILL)

    # --- DRAINING, HURRYING

    def _hurry(self, event: StopAsked) -> list[Action]:
        self.state = State.HURRYING
        return [Say("stopping at once"), *self._to_retired(signal.SIGQUIT), Arm(Timer.GRACE, QUICK_STOP_S)]

    def _kill_gunicorn(self, event: Event) -> list[Action]:
        self.state = State.HURRYING
        return self._to_retired(signal.SIGKILL)

    def _note_agent_gone(self, event: AgentExited) -> list[Action]:
        self._agent_runs = False
        return []

    def _note_retired_gone(self, event: GunicornExited) -> list[Action]:
        self._retired.discard(event.child)
        if self.state in (State.DRAINING, State.HURRYING) and not self._retired:
            return self._close()
        return []

    # --- CLOSING

    def _close(self) -> list[Action]:
        if not self._agent_runs:
            return self._finish()
        self.state = State.CLOSING
        return [Send(AGENT, signal.SIGTERM), Arm(Timer.GRACE, AGENT_STOP_S)]

    def _kill_agent(self, event: Event) -> list[Action]:
        return [Send(AGENT, signal.SIGKILL)]

    def _agent_gone(self, event: AgentExited) -> list[Action]:
        self._agent_runs = False
        return self._finish()

    def _finish(self) -> list[Action]:
        self.state = State.STOPPED
        return [Finish(self._exit_code)]

    def _nothing(self, event: Event) -> list[Action]:
        return []

    @property
    def _serving(self) -> list[Child]:
        """The gunicorns that were not told to stop."""
        children = [self._current, self._successor if self.state is State.RELOADING else None]
        return [child for child in children if child is not None]

    def _to_retired(self, number: signal.Signals) -> list[Action]:
        return [Send(child, number) for child in sorted(self._retired, key=lambda child: child.generation)]

    def _grace(self) -> Action:
        return Arm(Timer.GRACE, self._graceful_timeout_s + GRACE_MARGIN_S)


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


# Any: each handler takes the event of its own row. A retired gunicorn's end is the same in every state: see `step`.
_TABLE: Final[dict[tuple[State, type], Callable[[Supervision, Any], list[Action]]]] = {
    (State.SERVING, AgentExited): Supervision._restart_agent,
    (State.SERVING, RestartDue): Supervision._start_agent,
    (State.SERVING, GunicornExited): Supervision._lose_gunicorn,
    (State.SERVING, ReloadAsked): Supervision._reload,
    (State.SERVING, StopAsked): Supervision._begin_to_stop,
    (State.SERVING, ReloadOver): Supervision._nothing,
    (State.SERVING, RetirementOver): Supervision._kill_retired,
    (State.RELOADING, AgentExited): Supervision._restart_agent,
    (State.RELOADING, RestartDue): Supervision._start_agent,
    (State.RELOADING, GunicornExited): Supervision._lose_one,
    (State.RELOADING, SuccessorServes): Supervision._succeed,
    (State.RELOADING, StopAsked): Supervision._stop_in_reload,
    (State.RELOADING, ReloadOver): Supervision._fail,
    (State.RELOADING, RetirementOver): Supervision._kill_retired,
    (State.DRAINING, AgentExited): Supervision._note_agent_gone,
    (State.DRAINING, RestartDue): Supervision._nothing,
    (State.DRAINING, StopAsked): Supervision._hurry,
    (State.DRAINING, GraceOver): Supervision._kill_gunicorn,
    (State.DRAINING, ReloadOver): Supervision._nothing,
    (State.DRAINING, RetirementOver): Supervision._nothing,
    (State.HURRYING, AgentExited): Supervision._note_agent_gone,
    (State.HURRYING, RestartDue): Supervision._nothing,
    (State.HURRYING, StopAsked): Supervision._kill_gunicorn,
    (State.HURRYING, GraceOver): Supervision._kill_gunicorn,
    (State.HURRYING, ReloadOver): Supervision._nothing,
    (State.HURRYING, RetirementOver): Supervision._nothing,
    (State.CLOSING, AgentExited): Supervision._agent_gone,
    (State.CLOSING, RestartDue): Supervision._nothing,
    (State.CLOSING, StopAsked): Supervision._kill_agent,
    (State.CLOSING, GraceOver): Supervision._kill_agent,
    (State.CLOSING, ReloadOver): Supervision._nothing,
    (State.CLOSING, RetirementOver): Supervision._nothing,
}
