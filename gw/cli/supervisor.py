"""Carrying out what `supervision` decides: the loop that waits for children, signals, timers and readiness.

One thread and no polling but for readiness, which shared memory shows and nothing announces. Children are watched
through pidfds, signals through the wake-up descriptor, so that neither can slip in between a look and a wait.

When a gunicorn master is killed, its workers are killed with it, except where they have been told to stop or are about
to be: then they are watched until they have finished what is in flight, as their master would have done.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from gw.cli import exit_codes
from gw.cli.orders import Order, Orders
from gw.cli.steps import (
    AGENT,
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
from gw.cli.supervision import State, Supervision
from gw.cli.trial import Plan
from gw.clock import Clock
from gw.errors import JitterwayError
from gw.shm import process

# A closed terminal (SIGHUP) is a reason to stop like Ctrl-C.
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How often to look whether all workers serve, until they do: twice within what a person takes for "at once".
_READY_POLL_S: Final = 0.05


_TIMEOUTS: Final[dict[Timer, type[RestartDue | GraceOver | ReloadOver | RetirementOver]]] = {
    Timer.RESTART: RestartDue,
    Timer.GRACE: GraceOver,
    Timer.RELOAD: ReloadOver,
    Timer.RETIREMENT: RetirementOver,
}


@dataclass(frozen=True, slots=True)
class Duties:
    """What the supervisor is given to act with.

    `launch` starts a child and returns its pid; `is_ready` says whether all workers of the gunicorn with this pid
    serve; `announce` is called once when the first one's do, and `hand_over` when a later one takes its place. `plan`
    looks at what a reload would start, and raises JitterwayError when that is no good. `stop_listening` closes our
    copies of the listening sockets; `say` tells the person at the terminal.
    """

    launch: Callable[[Child], int]
    is_ready: Callable[[int], bool]
    announce: Callable[[], None]
    plan: Callable[[], Plan]
    hand_over: Callable[[int], None]
    stop_listening: Callable[[], None]
    say: Callable[[str], None]


@dataclass(slots=True)
class _Running:
    """A child, and after its death (`code`) the pidfds of those of its process group that are left to end."""

    pid: int
    pidfd: int
    started_s: float
    code: int | None = None
    left: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What a pidfd in the selector stands for: a child, or one of its process group."""

    child: Child
    pid: int


class Supervisor:
    """Runs the children of one gateway. `run` once, in the main thread. Without `orders` there are no reloads."""

    def __init__(
        self, supervision: Supervision, duties: Duties, clock: Clock, orders: Orders | None = None
    ) -> None:
        self._supervision = supervision
        self._duties = duties
        self._clock = clock
        self._orders = orders
        self._order: Order | None = None
        self._selector = selectors.DefaultSelector()
        self._running: dict[Child, _Running] = {}
        self._due_s: dict[Timer, float] = {}
        self._exit_code: int | None = None

    def run(self) -> int:
        """Start the children and watch them until both are gone; the exit code. Nothing of them is left then."""
        with self._selector, _signals_as_events(self._selector):
            if self._orders is not None:
                self._selector.register(self._orders, selectors.EVENT_READ, self._orders)
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
            if isinstance(key.data, _Watched):
                events += self._reap(key.data)
            elif isinstance(key.data, Orders):
                # By itself: what is decided on it must know what the others have led to.
                if not events:
                    events += self._take_order(key.data)
            else:
                events += [StopAsked() for number in key.data.recv(64) if number in _STOP_SIGNALS]
        # A time that ran out in the moment in which what it was for came is no event: it may be set anew.
        return events or self._timers_due()

    def _timers_due(self) -> list[Event]:
        now_s = self._clock.monotonic()
        due = [timer for timer, due_s in self._due_s.items() if due_s <= now_s]
        for timer in due:
            del self._due_s[timer]
        return [_TIMEOUTS[timer]() for timer in due]

    def _timeout_s(self) -> float | None:
        now_s = self._clock.monotonic()
        waits = [max(0.0, due_s - now_s) for due_s in self._due_s.values()]
        if self._supervision.awaited is not None:
            waits.append(_READY_POLL_S)
        return min(waits, default=None)

    def _look_at_readiness(self) -> None:
        awaited = self._supervision.awaited
        if awaited is None or awaited not in self._running or not self._duties.is_ready(self._running[awaited].pid):
            return
        if self._supervision.state is State.RELOADING:
            self._perform(self._supervision.step(SuccessorServes()))
        else:
            self._supervision.ready()
            self._duties.announce()

    def _take_order(self, orders: Orders) -> list[Event]:
        if (order := orders.take()) is None:
            return []
        if why := self._supervision.why_not_reload(with_agent=order.with_agent):
            order.answer(False, why)
            return []
        try:
            plan = self._duties.plan()
        except JitterwayError as error:
            self._duties.say(f"not reloaded: {error}")
            order.answer(False, f"{error}\nthe old workers go on")
            return []
        self._order = order
        return [ReloadAsked(plan.graceful_timeout_s, plan.reload_timeout_s, order.with_agent)]

    def _answer(self, is_done: bool, text: str) -> None:
        self._duties.say(text)
        if self._order is not None:
            self._order.answer(is_done, text)
            self._order = None

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
                case HandOver(child):
                    self._duties.hand_over(self._running[child].pid)
                case Answer(is_done, text):
                    self._answer(is_done, text)
                case Say(text):
                    self._duties.say(text)
                case Finish(exit_code):
                    self._exit_code = exit_code

    def _launch(self, child: Child) -> None:
        try:
            pid = self._duties.launch(child)
        except OSError as error:
            if child == AGENT or self._supervision.state is not State.RELOADING:
                raise
            # Too little memory for another one is no reason to end the one that serves.
            self._duties.say(f"cannot start {child}: {error}")
            self._perform(self._supervision.step(GunicornExited(child, exit_codes.FAILED)))
            return
        self._running[child] = _Running(pid, self._watch(child, pid), self._clock.monotonic())

    def _watch(self, child: Child, pid: int) -> int:
        pidfd = os.pidfd_open(pid)
        self._selector.register(pidfd, selectors.EVENT_READ, _Watched(child, pid))
        return pidfd

    def _unwatch(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)

    def _reap(self, watched: _Watched) -> list[Event]:
        """What the end of a process means: nothing as long as others of its group are left to end."""
        running = self._running[watched.child]
        if watched.pid == running.pid:
            self._reap_leader(watched.child, running)
        else:
            self._unwatch(running.left.pop(watched.pid))
            with contextlib.suppress(ChildProcessError):  # it was not left to us
                os.waitpid(watched.pid, 0)
        if running.left:
            return []
        _reap_group(running.pid)
        del self._running[watched.child]
        assert running.code is not None
        if watched.child == AGENT:
            return [AgentExited(running.code, self._clock.monotonic() - running.started_s)]
        return [GunicornExited(watched.child, running.code)]

    def _reap_leader(self, child: Child, running: _Running) -> None:
        self._unwatch(running.pidfd)
        if self._supervision.may_leave_workers(child):
            for pid in process.group_members(running.pid):
                with contextlib.suppress(ProcessLookupError):
                    running.left[pid] = self._watch(child, pid)
        else:
            # Before the pid is free again: what a master left of its workers ends with it.
            _kill_group(running.pid)
        _, status = os.waitpid(running.pid, 0)
        running.code = os.waitstatus_to_exitcode(status)

    def _send(self, child: Child, number: signal.Signals) -> None:
        running = self._running.get(child)
        if running is None:
            return
        if number == signal.SIGKILL:
            _kill_group(running.pid)
        elif running.code is None:
            signal.pidfd_send_signal(running.pidfd, number)
        else:
            for pidfd in running.left.values():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)

    def _kill_the_rest(self) -> None:
        """For a way out that was not planned: an exception must not leave children behind."""
        for child, running in list(self._running.items()):
            _kill_group(running.pid)
            if running.code is None:
                os.waitpid(running.pid, 0)
            _reap_group(running.pid)
            del self._running[child]


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
