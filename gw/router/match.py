"""A route under one of its uris, and the order in which such pairs are tried.

The order is that of lua-resty-radixtree 2.9 as APISIX uses it, most significant first:

1. `radixtree_host_uri` only: routes of the request's very host, then those of wildcards, longest suffix first, then
   those without hosts. Each step is tried in full (path, method) before the next. In the other modes a host only
   filters: an exact host is not better than a wildcard, nor a wildcard than none.
2. Routes with an exact uri, whatever their priority.
3. The others by the length of their literal head (up to the first parameter or `*`), longest first.
4. `priority`, higher first.
5. The uri as it was written, longer first (in bytes).
6. Where APISIX goes on by order of insertion, which after a restart is the order of ids in etcd: by id, and for one
   route by uri. So the answer depends on the routes alone, never on the history of the index.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

# (target, request) -> whether the request meets what the target asks for beyond path, host and method.
Fits: TypeAlias = Callable[[T, Any], bool]

# Methods are bits. A request whose method no route names has the bit below, which only ANY_METHOD holds.
OTHER_METHOD: Final = 1
ANY_METHOD: Final = -1


class Match(NamedTuple, Generic[T]):
    """One uri of one route. Its first four fields are steps 4 to 6 above, so a sorted list of these is in order.

    The object in the index is itself what a lookup answers when nothing was captured: no allocation per request.
    Two of one list always differ in (id, uri), so comparing never reaches the fields behind.
    """

    neg_priority: int
    neg_length: int  # bytes of the uri
    id: str
    uri: str
    hosts: tuple[str, ...]  # normalised, as configured; empty: any
    methods: int  # bits of the index that holds it
    names: tuple[str, ...] | None  # of what its uri captures; None: nothing
    is_conditional: bool  # its target asks for more than the index knows
    target: T
    params: dict[str, str] | None = None  # captured from the request's path; set on answers only

    def bind(self, values: Sequence[str]) -> "Match[T]":
        """This match with what its names stand for in a request; the last of two equal names holds."""
        names = self.names or ()
        # PERF: a display for the one or two that most uris have takes a quarter of what dict(zip()) does, and tuple's
        # own constructor a third of a named tuple's with its keywords (bench/router.py).
        if len(names) == 1 == len(values):
            params = {names[0]: values[0]}
        elif len(names) == 2 == len(values):
            params = {names[0]: values[0], names[1]: values[1]}
        else:
            params = dict(zip(names, values, strict=False))
        return tuple.__new__(Match, self[:9] + (params,))  # noqa: RUF005 - as above
