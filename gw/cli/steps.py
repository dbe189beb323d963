"""What happens to a running gateway, and what is done about it: the events and actions of `supervision`. Data alone."""

from __future__ import annotations

import enum
import signal
from dataclasses import dataclass
from typing import Final, TypeAlias


@dataclass(frozen=True, slots=True)
class Child:
    """A process that is watched. `generation`: 0 is the agent; gunicorns count from 1 on, one more with each reload."""

    generation: int

    def __str__(self) -> str:
        return "gunicorn" if self.generation else "sync agent"


AGENT: Final = Child(0)
GUNICORN: Final = Child(1)


class Timer(enum.Enum):
    """What may be waited for. Arming one that runs sets it anew."""

    RESTART = enum.auto()
    GRACE = enum.auto()
    RELOAD = enum.auto()
    RETIREMENT = enum.auto()


# --- events: what happened


@dataclass(frozen=True, slots=True)
class AgentExited:
    """`code` is the exit code, or minus the signal that ended it. `ran_s`: for how long it ran."""

    code: int
    ran_s: float


@dataclass(frozen=True, slots=True)
class GunicornExited:
    """`code` as above. Its workers are gone, too."""

    child: Child
    code: int


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """A reload that `why_not_reload` has nothing against, and the times of the new configuration, in seconds."""

    graceful_timeout_s: float
    reload_timeout_s: float
    with_agent: bool = False


@dataclass(frozen=True, slots=True)
class SuccessorServes:
    """All workers of the gunicorn that is to take over serve."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """SIGINT or SIGTERM reached us."""


@dataclass(frozen=True, slots=True)
class RestartDue:
    """Timer.RESTART fired."""


@dataclass(frozen=True, slots=True)
class GraceOver:
    """Timer.GRACE fired."""


@dataclass(frozen=True, slots=True)
class ReloadOver:
    """Timer.RELOAD fired."""


@dataclass(frozen=True, slots=True)
class RetirementOver:
    """Timer.RETIREMENT fired."""


Event: TypeAlias = (
    AgentExited
    | GunicornExited
    | ReloadAsked
    | SuccessorServes
    | StopAsked
    | RestartDue
    | GraceOver
    | ReloadOver
    | RetirementOver
)


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
class HandOver:
    """Let this gunicorn be the one whose workers are expected."""

    child: Child


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell who asked for the reload how it went, and the person at the terminal."""

    is_done: bool
    text: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the person at the terminal."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """All children are gone: end with this exit code."""

    exit_code: int


Action: TypeAlias = Start | Send | Arm | StopListening | HandOver | Answer | Say | Finish
