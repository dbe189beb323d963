"""The request's body on its way through an exchange: from the client to a connection, or to a plugin that wants it.

The part of `gw.pipeline.exchange` that knows who waits for the body, and so when the client is to go on or to stop.
What was written and may be needed again is `gw.pipeline.request_body`'s.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from gw.pipeline.fields import Headers
from gw.pipeline.forwarding import NO_TRAILERS, Forwarding
from gw.pipeline.headers import announces_more_than
from gw.pipeline.reply import BODY_TOO_LARGE, Reply
from gw.pipeline.request_body import BodyTooLarge, KeptBody, RequestBody


class Uploading(Forwarding):
    """See the module's rules."""

    _body_waiter: asyncio.Future[None] | None = None

    @abstractmethod
    def _break_off(self, reply: Reply) -> None:
        """The request cannot be completed: say so while there is a way to."""

    # What the client side calls.

    @property
    def wants_body(self) -> bool:
        """After `start`: the request has a body of which not all came."""
        return self._body is not None and not self._body.ended

    def request_body(self, piece: bytes) -> None:
        """A piece of the request's body. Before `start`, too: it is held until there is somewhere to write it."""
        if self.finished or not piece:
            return
        body = self._added(piece)
        if body is None:
            return
        if self._connection is not None:
            self._write_body(self._connection, body)
        elif body.wanted_bytes is None:
            if self._client is not None:
                self._client.pause_request()
        elif body.is_larger_than_wanted:
            self._wake_reader()

    def request_end(self, last: bytes = b"", trailers: Headers = NO_TRAILERS) -> None:
        """The request's body is complete with its `last` piece. Before `start`, too: nobody is paused for it."""
        if self.finished:
            return
        body = self._added(last)
        if body is None:
            return
        body.ended = True
        body.trailers = trailers
        self._wake_reader()
        if self._connection is not None:
            self._write_body(self._connection, body)
            self._end_request(self._connection, body)

    def _added(self, piece: bytes) -> RequestBody | None:
        """The body with one more piece; None where that is too much, which has been answered."""
        body = self._body
        if body is None:
            body = self._body = RequestBody(self._gateway.max_body_bytes)
        if piece:
            try:
                body.add(piece)
            except BodyTooLarge:
                self._break_off(BODY_TOO_LARGE)
                return None
        return body

    # What plugins call.

    @property
    def max_body_to_match_bytes(self) -> int:
        """See gw.pipeline.context.Context."""
        return self._gateway.max_body_to_match_bytes

    @property
    def max_graphql_bytes(self) -> int:
        """See gw.pipeline.context.Context."""
        return self._gateway.max_graphql_bytes

    async def read_body(self, limit_bytes: int) -> bytes:
        """See gw.pipeline.context.Context."""
        body = self._body
        if body is None:
            return b""
        if announces_more_than(self.request.content_length, limit_bytes):
            raise BodyTooLarge
        body.wanted_bytes = limit_bytes
        try:
            while not body.ended and not body.is_larger_than_wanted:
                if self._client is not None:
                    self._client.resume_request()
                self._body_waiter = self._gateway.loop.create_future()
                await self._body_waiter
                self._body_waiter = None
            if body.is_larger_than_wanted:
                raise BodyTooLarge
        finally:
            body.wanted_bytes = None
        return body.whole()

    def _wake_reader(self) -> None:
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)

    def replace_body(self, body: bytes) -> None:
        """See gw.pipeline.context.Context."""
        if self._body is None:
            self._body = RequestBody(0)
        elif not self._body.ended:
            raise RuntimeError("replace_body before all of the body came: await ctx.read_body first")
        self._body.replace(body)
        self.request.content_length = b"%d" % len(body)
        self.request.is_chunked = False

    def keep_body(self, limit_bytes: int) -> None:
        """See gw.pipeline.context.Context."""
        if self._body is not None and KeptBody not in self.state:
            kept = self.state[KeptBody] = KeptBody(limit_bytes)
            self._body.keep(kept)

    @property
    def kept_body(self) -> bytes:
        """See gw.pipeline.context.Context."""
        return bytes(self.state.get(KeptBody, b""))
