"""radixtree_uri and radixtree_uri_with_parameter: the path leads, a host is a filter where the path has led."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from gw.router.index import Place, RouterIndex
from gw.router.match import OTHER_METHOD, Fits, Match
from gw.router.paths import PathIndex
from gw.router.pattern import Pattern

T = TypeVar("T")


class UriRouter(RouterIndex[T]):
    """See `RouterIndex`."""

    __slots__ = ("_paths",)

    def __init__(self, fits: Fits[T], with_parameters: bool) -> None:
        super().__init__(with_parameters)
        self._paths: PathIndex[T] = PathIndex(with_parameters, self._open, fits)

    def match(self, path: str, host: str, method: str, request: Any = None) -> Match[T] | None:
        """See `RouterIndex.match`."""
        return self._paths.first(path, host, self._method_bits.get(method, OTHER_METHOD), request)

    def candidates(self, path: str, host: str) -> Iterator[Match[T]]:
        """See `RouterIndex.candidates`."""
        return self._paths.candidates(path, host)

    def check(self) -> None:
        """See `RouterIndex.check`."""
        self._paths.check()
        assert bool(self._paths) == bool(len(self))

    def drain(self) -> Iterator[None]:
        """See `RouterIndex.drain`."""
        yield from super().drain()
        yield from self._paths.drain()

    def _add(self, pattern: Pattern, match: Match[T]) -> None:
        self._paths.add(pattern.head, pattern, match, match.hosts)

    def _settle(self, pattern: Pattern, match: Match[T]) -> None:
        self._add(pattern, match)

    def _places(self, head: str, is_prefix: bool, hosts: Sequence[str]) -> list[Place[T]]:
        return [(self._paths, head, is_prefix)]

    def _claim(self, hosts: Sequence[str]) -> None:
        """Hosts have no keys of their own here."""

    def _remove(self, pattern: Pattern, match: Match[T]) -> None:
        self._paths.remove(pattern.head, pattern, match, match.hosts)
