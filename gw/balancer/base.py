"""The contract of a balancer: it knows candidates and weights, nothing of HTTP, sockets or health."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Weighted(NamedTuple, Generic[T]):
    """A candidate (hashable, with equality) and what decides its share.

    Weight 0 (and below): never picked. `name` is what consistent hashing knows the candidate by: it must not be empty
    there, and be the same in every worker and after every restart. Of several `priority` values the highest is used.
    """

    candidate: T
    weight: int
    name: bytes = b""
    priority: int = 0


class Balancer(ABC, Generic[T]):
    """Picks one candidate per attempt. Stateful, owned by one worker.

    It is made of the candidates that are up, as `eligible` returns them. When that changes another one is made, which
    goes on with what this one knows (`gw.balancer.build`); then nothing is asked of this one any more but `done`, and
    retries of the requests under way.
    """

    __slots__ = ()

    # What an algorithm does not need costs nothing: no key is worked out, and `done` is not called.
    needs_key: bool
    needs_done: bool

    @abstractmethod
    def pick(self, key: bytes = b"", tried: Sequence[T] = ()) -> T | None:
        """Return the candidate for an attempt; None when there is none but those that were `tried`.

        `key` matters where `needs_key` says so: equal keys get the same candidate.
        """

    def done(self, candidate: T, started_s: float, ended_s: float, ok: bool) -> None:
        """Tell that an attempt has ended: call it once for each `pick` where `needs_done` says so.

        `started_s` and `ended_s` are monotonic seconds, from the pick to the end of the response or the failure. `ok`:
        the candidate answered, whatever the status; False where it took no connection, broke off or timed out.
        """


class Listed(Balancer[T]):
    """What those share that hold their candidates in a list: where the ones stand that were tried.

    It is found through a dict, made at the first retry: to compare each candidate with each that was tried costs a
    tenth of a millisecond with some hundreds.
    """

    __slots__ = ("_candidates", "_places")

    def __init__(self, candidates: Sequence[Weighted[T]]) -> None:
        self._candidates = [each.candidate for each in candidates]
        self._places: dict[T, int] | None = None

    def _places_of(self, tried: Sequence[T]) -> list[int]:
        """Where those of `tried` stand that are in the list, in order and each once."""
        if self._places is None:
            self._places = {candidate: at for at, candidate in enumerate(self._candidates)}
        places = self._places
        return sorted({places[candidate] for candidate in tried if candidate in places})


def eligible(candidates: Sequence[Weighted[T]]) -> list[Weighted[T]]:
    """The candidates that may be picked at all, each once: what the balancers are made of.

    One that is listed twice counts as it is listed last. Source: transform_node in apisix/balancer.lua.
    """
    return [each for each in {each.candidate: each for each in candidates}.values() if each.weight > 0]
