"""The client side of an exchange, as the core sees it: what an adapter to a server's protocol must be able to do."""

from typing import TYPE_CHECKING, Protocol

from gw.pipeline.fields import Headers
from gw.upstream.response import ResponseHead

if TYPE_CHECKING:
    from gw.pipeline.forwarding import Forwarding
    from gw.upstream.connection import UpstreamConnection


class Client(Protocol):
    """Called in this order: interim heads, a head, pieces, and `response_end` or `response_cut`; or `tunnel`."""

    def response_interim(self, status: int, headers: Headers) -> None:
        """A 1xx that an upstream sent before its answer."""
        ...

    def response_head(self, status: int, reason: bytes, headers: Headers) -> None:
        """End-to-end headers, names in lower case. Without content-length the adapter frames the body.

        `reason` is empty for the status's usual phrase. The head may wait for the body's first piece, or a flush.
        """
        ...

    def response(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        """A whole response at once: head, body (none for HEAD) and end. `now_s`: CLOCK_MONOTONIC.

        The head may come again, see there.
        """
        ...

    def response_body(self, piece: bytes) -> None:
        """A piece of the body; never for HEAD."""
        ...

    def response_flush(self) -> None:
        """Nothing more comes at once: let what was given so far leave."""
        ...

    def response_end(self, trailers: Headers) -> None:
        """The response is whole. If the request's body is not, its rest is not wanted."""
        ...

    def response_cut(self) -> None:
        """The response breaks off after its head: let the client see that it is not whole."""
        ...

    def tunnel(self, exchange: "Forwarding", connection: "UpstreamConnection", headers: Headers, rest: bytes) -> None:
        """The upstream switched protocols as the client asked: say 101 with these headers, and pass bytes both ways.

        `rest` is what came behind the upstream's head. `exchange.tunnel_over` is called at the end.
        """
        ...

    def pause_request(self) -> None:
        """Deliver no more of the request's body for now."""
        ...

    def resume_request(self) -> None:
        """Deliver the request's body, from now on or again."""
        ...
