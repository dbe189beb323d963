"""response-rewrite: the client gets another status, other headers or another body than the upstream sent.

Answers of the gateway itself are changed like an upstream's. Without `body` and `filters` an instance is no body
filter: bodies pass untouched and keep their length. `filters` need the whole body, so it is held, up to a limit; what
is longer, or not encoded as it says, breaks off: the filters may be there to keep something from the client. For the
same reason the upstream is asked for no encoding that cannot be unpacked here.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from typing import Any, Final

from gw.pipeline.conditions import compile_condition
from gw.pipeline.context import Context, Response
from gw.plugins.api import Plugin
from gw.plugins.rewriting.encodings import DECODERS, BodyTooLong, Decode, narrowed
from gw.plugins.rewriting.header_edits import HeaderEdits, compile_edits
from gw.plugins.rewriting.substitution import Substitute, compile_substitution

log = logging.getLogger(__name__)

# What JSON answers and pages stay below; a regular expression over more would hold the loop for tens of milliseconds.
_DEFAULT_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_ACCEPT_ENCODING: Final = b"accept-encoding"
# They are the old body's.
_OF_THE_BODY: Final = frozenset((b"content-length", b"content-encoding", b"last-modified", b"etag"))


class _Held:
    """What came so far of a body that is to be filtered."""

    __slots__ = ("decode", "pieces", "size")

    def __init__(self, decode: Decode | None) -> None:
        self.decode = decode
        self.pieces: list[bytes] = []
        self.size = 0


class ResponseRewrite(Plugin):
    """Change what the client gets: status, headers, body."""

    name = "response-rewrite"
    priority = 899
    unconditional_phases = frozenset(("rewrite",))

    def prepare(self) -> None:
        conf = self.conf
        self._status: int | None = conf.get("status_code")
        self._applies: Callable[[Context], bool] | None = compile_condition(conf["vars"]) if conf.get("vars") else None
        self._edits: HeaderEdits = compile_edits(conf.get("headers", {}), f"response-rewrite of {self.owner}")
        self._body: bytes | None = _decoded(conf) if "body" in conf else None
        self._filters: tuple[Substitute, ...] = tuple(map(compile_substitution, conf.get("filters", ())))
        self._max_body_bytes = self._limit()
        self._undecodable_seen = False
        if self._body is None and not self._filters:
            self.body_filter = None  # type: ignore[assignment, method-assign]
        if not self._filters:
            self.rewrite = None  # type: ignore[assignment, method-assign]

    def rewrite(self, ctx: Context) -> None:
        headers = ctx.request.headers
        accepted = [value for name, value in headers if name == _ACCEPT_ENCODING]
        if accepted and accepted != [narrow := narrowed(b", ".join(accepted))]:
            headers[:] = [pair for pair in headers if pair[0] != _ACCEPT_ENCODING]
            headers.append((_ACCEPT_ENCODING, narrow))

    def header_filter(self, ctx: Context) -> None:
        if self._applies is not None and not self._applies(ctx):
            return
        response = ctx.response
        if self._status is not None:
            ctx.status = response.status = self._status
        if self._body is not None:
            ctx.state[self] = self._body
            _forget_body(response)
        elif self._filters:
            self._begin_filtering(ctx, response)
        if self._edits:
            self._edits(ctx, response.headers)

    def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        work: bytes | _Held | None = ctx.state.get(self)
        if work is None:
            return piece
        if isinstance(work, bytes):
            return work if is_last else b""
        work.size += len(piece)
        if work.size > self._max_body_bytes:
            del ctx.state[self]
            raise BodyTooLong(self._max_body_bytes)
        if piece:
            work.pieces.append(piece)
        return self._filtered(work) if is_last else b""

    def _filtered(self, held: _Held) -> bytes:
        body = b"".join(held.pieces)
        held.pieces.clear()
        if held.decode is not None:
            body = held.decode(body, self._max_body_bytes)
        for substitute in self._filters:
            body = substitute(body)
        return body

    def _begin_filtering(self, ctx: Context, response: Response) -> None:
        """Decide what is done with the body; it comes out of its encoding, and its head says so."""
        encoding = (response.header("content-encoding") or "identity").strip().lower()
        decode = DECODERS.get(encoding)
        if decode is None and encoding != "identity":
            if not self._undecodable_seen:
                self._undecodable_seen = True
                log.warning(
                    "response-rewrite of %s: filters do nothing for the content encoding %a, which is not known here "
                    "(said once): let the upstream send gzip or plain, such as by proxy-rewrite's "
                    "headers.set.Accept-Encoding",
                    self.owner,
                    encoding,
                )
            return
        ctx.state[self] = _Held(decode)
        _forget_body(response)

    def _limit(self) -> int:
        """The configuration's own, or else that of all."""
        own: int | None = self.conf.get("max_resp_body_size")
        if own is not None:
            return own
        limit: Any = self.env.attr(self.name).get("max_body_bytes", _DEFAULT_MAX_BODY_BYTES)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit <= 0:
            raise ValueError(f"plugin_attr.{self.name}.max_body_bytes must be a number of bytes over 0, not {limit!r}")
        return limit


def _forget_body(response: Response) -> None:
    response.headers[:] = [pair for pair in response.headers if pair[0] not in _OF_THE_BODY]


def _decoded(conf: Any) -> bytes:
    body: str = conf["body"]
    if not conf["body_base64"]:
        return body.encode()
    try:
        decoded = base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    if not decoded:
        raise ValueError("invalid base64 content")
    return decoded
