"""The contract of a balancer: it knows candidates and weights, nothing of HTTP, sockets or health."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Weighted(NamedTuple, Generic[T]):
    """A candidate and its weight. Weight 0 (and below): never picked."""

    candidate: T
    weight: int


class Balancer(Protocol[T_co]):
    """Picks one candidate per request. Stateful, owned by one worker."""

    def pick(self) -> T_co | None:
        """Return the next candidate; None when there is none with a weight."""
        ...


def eligible(candidates: Sequence[Weighted[T]]) -> list[Weighted[T]]:
    """The candidates that may be picked at all."""
    return [each for each in candidates if each.weight > 0]
