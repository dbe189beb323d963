"""radixtree_uri and radixtree_uri_with_parameter: the path leads, a host is a filter where the path has led."""

from collections.abc import Iterator
from typing import TypeVar

from gw.router.index import RouterIndex
from gw.router.match import OTHER_METHOD, Match
from gw.router.paths import PathIndex
from gw.router.pattern import Pattern

T = TypeVar("T")


class UriRouter(RouterIndex[T]):
    """See `RouterIndex`."""

    __slots__ = ("_paths",)

    def __init__(self, with_parameters: bool) -> None:
        super().__init__(with_parameters)
        self._paths: PathIndex[T] = PathIndex(with_parameters)

    def match(self, path: str, host: str, method: str) -> Match[T] | None:
        """See `RouterIndex.match`."""
        return self._paths.first(path, host, self._method_bits.get(method, OTHER_METHOD))

    def candidates(self, path: str, host: str) -> Iterator[Match[T]]:
        """See `RouterIndex.candidates`."""
        return self._paths.candidates(path, host)

    def check(self) -> None:
        """See `RouterIndex.check`."""
        self._paths.check()
        assert bool(self._paths) == bool(self._placed)

    def _add(self, pattern: Pattern, match: Match[T]) -> None:
        self._paths.add(pattern.head, pattern, match, match.hosts)

    def _remove(self, pattern: Pattern, match: Match[T]) -> None:
        self._paths.remove(pattern.head, pattern, match, match.hosts)
