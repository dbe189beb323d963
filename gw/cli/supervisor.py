"""Carrying out what `supervision` decides: the loop that waits for children, signals, timers and readiness.

One thread and no polling but for readiness, which shared memory shows and nothing announces. Children are watched
through pidfds, signals through the wake-up descriptor, so that neither can slip in between a look and a wait.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gw.cli.supervision import (
    Action,
    AgentExited,
    Arm,
    Child,
    Event,
    Finish,
    GraceOver,
    GunicornExited,
    RestartDue,
    Say,
    Send,
    Start,
    State,
    StopAsked,
    StopListening,
    Supervision,
    Timer,
)
from gw.clock import Clock

# A closed terminal (SIGHUP) is a reason to stop like Ctrl-C.
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How often to look whether all workers serve, until they do: twice within what a person takes for "at once".
_READY_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Duties:
    """What the supervisor is given to act with.

    `launch` starts a child and returns its pid; `is_ready` says whether all workers serve, and `announce` is called
    once when they do; `stop_listening` closes our copies of the listening sockets; `say` tells the person at the
    terminal.
    """

    launch: Callable[[Child], int]
    is_ready: Callable[[], bool]
    announce: Callable[[], None]
    stop_listening: Callable[[], None]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Running:
    pid: int
    pidfd: int
    started_s: float


class Supervisor:
    """Runs the children of one gateway. `run` once, in the main thread."""

    def __init__(self, supervision: Supervision, duties: Duties, clock: Clock) -> None:
        self._supervision = supervision
        self._duties = duties
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._running: dict[Child, _Running] = {}
        self._due_s: dict[Timer, float] = {}
        self._exit_code: int | None = None
        self._is_announced = False

    def run(self) -> int:
        """Start the children and watch them until both are gone; the exit code. Nothing of them is left then."""
        with self._selector, _signals_as_events(self._selector):
            try:
                self._perform(self._supervision.begin())
                while self._exit_code is None:
                    self._take(self._wait())
            finally:
                self._kill_the_rest()
        return self._exit_code

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            self._perform(self._supervision.step(event))
            if self._exit_code is not None:
                return
        self._look_at_readiness()

    def _wait(self) -> list[Event]:
        """The events that have come, after waiting for the first of them; none when it was only a look at readiness."""
        events: list[Event] = []
        for key, _ in self._selector.select(self._timeout_s()):
            if isinstance(key.data, Child):
                events.append(self._reap(key.data))
            else:
                events += [StopAsked() for number in key.data.recv(64) if number in _STOP_SIGNALS]
        # A time that ran out in the moment in which what it was for came is no event: it may be set anew.
        return events or self._timers_due()

    def _timers_due(self) -> list[Event]:
        now_s = self._clock.monotonic()
        due = [timer for timer, due_s in self._due_s.items() if due_s <= now_s]
        for timer in due:
            del self._due_s[timer]
        return [RestartDue() if timer is Timer.RESTART else GraceOver() for timer in due]

    def _timeout_s(self) -> float | None:
        now_s = self._clock.monotonic()
        waits = [max(0.0, due_s - now_s) for due_s in self._due_s.values()]
        if not self._is_announced and self._supervision.state is State.SERVING:
            waits.append(_READY_POLL_S)
        return min(waits, default=None)

    def _look_at_readiness(self) -> None:
        if self._is_announced or self._supervision.state is not State.SERVING or not self._duties.is_ready():
            return
        self._is_announced = True
        self._supervision.ready()
        self._duties.announce()

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Start(child):
                    self._launch(child)
                case Send(child, number):
                    self._send(child, number)
                case Arm(timer, delay_s):
                    self._due_s[timer] = self._clock.monotonic() + delay_s
                case StopListening():
                    self._duties.stop_listening()
                case Say(text):
                    self._duties.say(text)
                case Finish(exit_code):
                    self._exit_code = exit_code

    def _launch(self, child: Child) -> None:
        pid = self._duties.launch(child)
        pidfd = os.pidfd_open(pid)
        self._running[child] = _Running(pid, pidfd, self._clock.monotonic())
        self._selector.register(pidfd, selectors.EVENT_READ, child)

    def _reap(self, child: Child) -> Event:
        running = self._running.pop(child)
        self._selector.unregister(running.pidfd)
        os.close(running.pidfd)
        # Before the pid is free again: what a master left of its workers ends with it.
        _kill_group(running.pid)
        _, status = os.waitpid(running.pid, 0)
        _reap_group(running.pid)
        code = os.waitstatus_to_exitcode(status)
        if child is Child.GUNICORN:
            return GunicornExited(code)
        return AgentExited(code, self._clock.monotonic() - running.started_s)

    def _send(self, child: Child, number: signal.Signals) -> None:
        running = self._running.get(child)
        if running is None:
            return
        if number == signal.SIGKILL:
            _kill_group(running.pid)
        else:
            signal.pidfd_send_signal(running.pidfd, number)

    def _kill_the_rest(self) -> None:
        """For a way out that was not planned: an exception must not leave children behind."""
        for child in list(self._running):
            _kill_group(self._running[child].pid)
            self._reap(child)


@contextlib.contextmanager
def _signals_as_events(selector: selectors.BaseSelector) -> Iterator[None]:
    """Let a signal make a socket readable, its number as the byte to read; the selector's data is that socket."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        selector.register(reader, selectors.EVENT_READ, reader)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        # The number is written by the C handler; a Python handler must be there for one to be installed.
        handlers = {number: signal.signal(number, lambda *_: None) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _reap_group(pid: int) -> None:
    """Wait for the killed members of a group that have become our children (`spawn.adopt_orphans`)."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-pid, 0)
