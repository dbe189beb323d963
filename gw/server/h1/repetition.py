"""Finds out that a client repeats the fields of its requests, so that they need not be read again.

Two heads in a row that came alone, or with the body they announce and nothing else, and are the same bytes behind
their target make a `Repeated`; it counts once the pipeline has filled it. Bodies that come in parts or in chunks,
upgrades and very long heads are left to be read each time. What all connections of a worker keep this way is bounded.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from gw.pipeline.repeated import Repeated
from gw.server.h1.request_head import HeadLimits

# Most of a head that is kept for a connection: room for a long cookie.
MAX_TAIL_BYTES: Final = 4096
_VERSION_BYTES: Final = len(" HTTP/1.1")
METHODS: Final = {method.encode(): method for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")}
# Method, path and query of a head whose rest is known, in characters that are beyond doubt.
request_line: Final = re.compile(rb"(%b) (/[!-\"$->@-~]*)(?:\?([!-\"$-~]*))?" % b"|".join(METHODS)).fullmatch


# Connections of a worker that keep fields: some 4 KB each, at most 20 with a hundred fields. One more, and the one that
# has for longest lets go.
MAX_HOLDERS: Final = 4096
_holders: Final[dict[Repetition, None]] = {}


class Repeating(Protocol):
    """A request, or what an edge tells the pipeline of one."""

    repeated: Repeated | None


class Repetition:
    """The fields of one connection's last heads. `known`: what may come again, None for nothing.

    Of fields that came once only a hash is kept: it suffices to expect them, and they are compared before they count.
    """

    __slots__ = ("_candidate", "_hash", "_limits", "known")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._hash: int | None = None
        self._candidate: Repeated | None = None
        self.known: Repeated | None = None

    def note(self, data: bytes, request: Repeating, body_bytes: int, *, is_bare: bool, keeps_alive: bool) -> None:
        """A head that came as `request`, behind it in the same read a body of so many bytes and nothing else.

        `is_bare`: no more of a body is to come, and no wish to upgrade or to be told to go on belongs to it.
        """
        tail = data[data.find(b"\r\n") - _VERSION_BYTES :]
        candidate = self._candidate
        if candidate is not None:
            if is_bare and tail == candidate.tail:
                if not candidate.is_settled:
                    request.repeated = candidate
                return
            self.forget()
        if not is_bare or len(tail) > MAX_TAIL_BYTES:
            self._hash = None
            return
        came_before, self._hash = self._hash, hash(tail)
        if came_before == self._hash:
            request.repeated = self._keep(tail, body_bytes, keeps_alive=keeps_alive)

    def _keep(self, tail: bytes, body_bytes: int, *, keeps_alive: bool) -> Repeated:
        line_bytes = self._limits.line_bytes - _VERSION_BYTES
        longest_bytes = min(len(tail) + line_bytes, self._limits.head_bytes)
        candidate = self._candidate = Repeated(tail, longest_bytes, body_bytes, keeps_alive=keeps_alive)
        _holders[self] = None
        if len(_holders) > MAX_HOLDERS:
            next(iter(_holders)).forget()
        return candidate

    def settle(self) -> None:
        """The request that was noted has begun: its fields count from now on, if the pipeline knows them."""
        candidate = self._candidate
        if candidate is not None and candidate.is_settled:
            self.known = candidate

    def forget(self) -> None:
        """Keep nothing any more."""
        self._hash = None
        self._candidate = self.known = None
        _holders.pop(self, None)
