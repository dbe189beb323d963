"""How a node's health follows from what is seen of it: counts, thresholds, and a table. No clock, no I/O.

Source: lua-resty-healthcheck (incr_counter), which APISIX uses. A node has four counters. A success sets the three of
failures back, a failure only that of successes. Active and passive checks share the counters and bring a threshold of
their own with each event; whoever reaches his first decides. What says nothing new is not counted: a success of a
healthy node, a failure of an unhealthy one. So in a service that works nothing is ever written.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class State(IntEnum):
    """APISIX's four states. A node takes traffic in the first two. The numbers are those on the board."""

    HEALTHY = 0
    MOSTLY_HEALTHY = 1  # takes traffic, and something failed since it was healthy
    MOSTLY_UNHEALTHY = 2  # takes none, and something succeeded since it was unhealthy
    UNHEALTHY = 3

    @property
    def is_up(self) -> bool:
        """Whether the node takes traffic."""
        return self <= State.MOSTLY_HEALTHY

    @property
    def label(self) -> str:
        """The name in /v1/healthcheck."""
        return self.name.lower()


class Event(IntEnum):
    """What was seen of a node once. The number is the place of its counter."""

    SUCCESS = 0
    HTTP_FAILURE = 1  # a status that counts as a failure, or no status that could be read
    TCP_FAILURE = 2  # no connection, or one that broke
    TIMEOUT = 3


class Counts(NamedTuple):
    """One number for each `Event`, in its order: what was counted, or from what number on it changes the state.

    A threshold of 0 turns the counting of that event off.
    """

    successes: int = 0
    http_failures: int = 0
    tcp_failures: int = 0
    timeouts: int = 0


class Health(NamedTuple):
    """What is known of a node."""

    state: State = State.HEALTHY
    counts: Counts = Counts()


# A node nothing was seen of, and one that the board says nothing about.
FRESH: Final = Health()

_SUCCEEDED, _FAILED = True, False
# (state, what was seen, its threshold is reached) -> state. An absent pair of the first two is not counted.
NEXT: Final = {
    (State.HEALTHY, _FAILED, False): State.MOSTLY_HEALTHY,
    (State.HEALTHY, _FAILED, True): State.UNHEALTHY,
    (State.MOSTLY_HEALTHY, _FAILED, False): State.MOSTLY_HEALTHY,
    (State.MOSTLY_HEALTHY, _FAILED, True): State.UNHEALTHY,
    (State.MOSTLY_HEALTHY, _SUCCEEDED, False): State.MOSTLY_HEALTHY,
    (State.MOSTLY_HEALTHY, _SUCCEEDED, True): State.HEALTHY,
    (State.MOSTLY_UNHEALTHY, _FAILED, False): State.MOSTLY_UNHEALTHY,
    (State.MOSTLY_UNHEALTHY, _FAILED, True): State.UNHEALTHY,
    (State.MOSTLY_UNHEALTHY, _SUCCEEDED, False): State.MOSTLY_UNHEALTHY,
    (State.MOSTLY_UNHEALTHY, _SUCCEEDED, True): State.HEALTHY,
    (State.UNHEALTHY, _SUCCEEDED, False): State.MOSTLY_UNHEALTHY,
    (State.UNHEALTHY, _SUCCEEDED, True): State.HEALTHY,
}
# A counter is a byte on the board. Thresholds end at 254, so it is the thresholds that end the counting.
MAX_COUNT: Final = 255


def is_counted(state: State, event: Event) -> bool:
    """Whether the event can change anything for a node in that state."""
    # PERF: asked for every request of an upstream with passive checks; the table says the same (test_what_is_counted).
    return state is not (State.HEALTHY if event is Event.SUCCESS else State.UNHEALTHY)


def step(health: Health, event: Event, thresholds: Counts) -> Health:
    """The health after one event."""
    threshold = thresholds[event]
    if threshold == 0 or not is_counted(health.state, event):
        return health
    count = min(health.counts[event] + 1, MAX_COUNT)
    succeeded = event is Event.SUCCESS
    kept = list(Counts() if succeeded else health.counts._replace(successes=0))
    kept[event] = count
    return Health(NEXT[health.state, succeeded, count >= threshold], Counts(*kept))
