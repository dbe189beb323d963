"""From an upstream's `type` and the candidates that are up to a balancer, in groups by priority.

What must outlive a change of health or of nodes goes on in the next balancer: what round robin owes, who has how many
connections, response times, and the ring of points. That is found in the balancer that came before, whatever groups
either of them has; where that one was of another type there is nothing to go on with.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from gw.balancer.base import Balancer, Weighted, eligible
from gw.balancer.chash import ConsistentHash
from gw.balancer.ewma import Ewma, ResponseTimes
from gw.balancer.least_conn import Connections, LeastConn
from gw.balancer.priority import Priority
from gw.balancer.ring import Ring, points_for
from gw.balancer.roundrobin import Only, RoundRobin

T = TypeVar("T")

TYPES: Final = ("roundrobin", "chash", "ewma", "least_conn")


def build_balancer(
    type: str,
    candidates: Sequence[Weighted[T]],
    *,
    chance: Callable[[], float],
    after: Balancer[T] | None = None,
    whole: Sequence[Weighted[T]] = (),
) -> Balancer[T]:
    """Make the balancer of an upstream, which picks from `candidates`: those that are up.

    `whole`: these and those that are down. Where it is given, hashing moves no key but those of who is down.
    `after`: the balancer that this one takes the place of. `done` may be called on either for what was picked before.
    `chance`: uniform from 0 to below 1. Raises ValueError for a type that is not one of TYPES, and for a candidate
    without a name where the type is chash.
    """
    by_priority: dict[int, list[Weighted[T]]] = defaultdict(list)
    able = eligible(candidates)
    for each in able:
        by_priority[each.priority].append(each)
    make = _maker(type, able, chance, _groups(after), eligible(whole) if whole else able)
    groups = [make(by_priority[priority]) for priority in sorted(by_priority, reverse=True)] or [make([])]
    return groups[0] if len(groups) == 1 else Priority(groups)


def _groups(balancer: Balancer[T] | None) -> Sequence[Balancer[T]]:
    if isinstance(balancer, Priority):
        return balancer.groups
    return () if balancer is None else (balancer,)


def _maker(
    type: str,
    able: Sequence[Weighted[T]],
    chance: Callable[[], float],
    before: Sequence[Balancer[T]],
    whole: Sequence[Weighted[T]],
) -> Callable[[Sequence[Weighted[T]]], Balancer[T]]:
    """What makes one group. `able`: the candidates of all groups; `whole`: with those that are down."""
    match type:
        case "roundrobin":
            owed: dict[T, float] = {}
            for group in before:
                owed |= group.owed() if isinstance(group, RoundRobin) else {}
            return lambda group: _only(group) or RoundRobin(group, owed)
        case "chash":
            rings: list[Ring] = [group.ring for group in before if isinstance(group, ConsistentHash)]
            points = _points(whole)
            return lambda group: _only(group) or ConsistentHash(group, rings, points)
        case "ewma":
            times = next((group.times for group in before if isinstance(group, Ewma)), None) or ResponseTimes[T]()
            times.admit([each.candidate for each in able])
            return lambda group: Ewma(group, chance, times)
        case "least_conn":
            held = (group.connections for group in before if isinstance(group, LeastConn))
            connections = next(held, None) or Connections[T]()
            connections.forget_idle({each.candidate for each in able})
            return lambda group: LeastConn(group, connections)
    raise ValueError(f"the balancer type {type!r} is not one of {', '.join(TYPES)}")


def _points(whole: Sequence[Weighted[T]]) -> dict[bytes, int]:
    """How many points each has, among those of its priority."""
    weights: dict[int, dict[bytes, int]] = defaultdict(dict)
    for each in whole:
        weights[each.priority][each.name] = each.weight
    return {name: count for group in weights.values() for name, count in points_for(group).items()}


def _only(group: Sequence[Weighted[T]]) -> Only[T] | None:
    # Not for least_conn and ewma: what they count with one candidate is needed when a second one comes.
    return Only(group[0].candidate) if len(group) == 1 else None
