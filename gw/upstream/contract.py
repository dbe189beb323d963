"""What a connection to an upstream says, and to whom: the contract between `gw.upstream.connection` and its users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gw.errors import UpstreamError
from gw.upstream.response import Headers, ResponseHead

if TYPE_CHECKING:
    from gw.upstream.connection import UpstreamConnection


class Sink(Protocol):
    """Who gets the response: interim heads, a head, pieces of the body.

    One of `upstream_answered`, `upstream_end`, `upstream_upgraded` and `upstream_failed` ends it, once.
    """

    def upstream_interim(self, status: int, headers: Headers) -> None:
        """A 1xx before the response, other than 100 and 101."""
        ...

    def upstream_head(self, status: int, reason: bytes, headers: Headers) -> None:
        """The final response's head: end-to-end headers, lower-case names."""
        ...

    def upstream_body(self, piece: bytes) -> None:
        """A piece of the body, without framing."""
        ...

    def upstream_flush(self) -> None:
        """All that is here has been said, and the response is not complete."""
        ...

    def upstream_answered(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        """All of a response at once, in place of `upstream_head`, `upstream_body` and `upstream_end`.

        `head` may be one that was handed out before. `now_s`: CLOCK_MONOTONIC. The connection no longer belongs to the
        sink.
        """
        ...

    def upstream_end(self, trailers: Headers) -> None:
        """The response is complete. The connection no longer belongs to the sink."""
        ...

    def upstream_upgraded(self, headers: Headers, rest: bytes) -> None:
        """101: what comes from now on, `rest` first, is no HTTP. `detach` the connection."""
        ...

    def upstream_failed(self, error: UpstreamError) -> None:
        """The response is not, and will not be, complete. The connection is closed."""
        ...

    def upstream_full(self) -> None:
        """The request's bytes pile up: send no more for now."""
        ...

    def upstream_drained(self) -> None:
        """Go on sending."""
        ...


class Home(Protocol):
    """Where a connection goes between requests."""

    def connection_idle(self, connection: UpstreamConnection, max_idle: int) -> None:
        """It can serve another request."""
        ...

    def connection_gone(self, connection: UpstreamConnection) -> None:
        """It is closed, or about to be."""
        ...
