"""The strict parser, quick for heads that come whole: llhttp takes them apart, and what is doubtful is left to it.

The strict parser reads a head byte by byte in Python. What a head of one read says is found by llhttp, in the way of
our own protocol (gw.server.h1.request_head). Where neither a body nor a wish to upgrade belongs to it, as for most, it
is handed over at once; the framing of others is judged by the strict parser as ever. What llhttp or that reader
refuses, and every target that is more than a path, is read by the strict parser alone, so that nothing is let pass that
it refuses, and it words every refusal (tests/server/test_quick_parser.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from gw.pipeline.fields import Headers
from gw.server.h1.refusal import Refused
from gw.server.h1.request_head import HeadLimits, RequestHead
from gw.server.parser import RequestParser

_HEAD_END: Final = b"\r\n\r\n"
_CR: Final = 0x0D
_VERSIONS: Final = {"1.1": (1, 1), "1.0": (1, 0)}
_NO_FIELDS: Final[Headers] = []
# gunicorn's bounds; our reader takes any word.
_METHOD_CHARACTERS: Final = range(3, 21)
_PATH: Final = re.compile(rb"/[!-~]*").fullmatch


class QuickParser(RequestParser):
    """`on_bare_head` is called for a head without a body, which came in one read: its parts are those of the parser.

    `head`: the bytes of such a head, where nothing stands behind it; else b"".
    """

    def __init__(
        self, *, on_bare_head: Callable[[RequestHead], None], drops_underscores: bool = False, **settings: Any
    ) -> None:
        """`drops_underscores`: as in HeadLimits, of bare heads; others are gunicorn's policy's to judge."""
        super().__init__(**settings)
        self._on_bare_head = on_bare_head
        self.head = b""
        self._is_held = False
        self.limits = HeadLimits(
            self._limit_request_line,
            self._limit_request_fields,
            self._limit_request_field_size - len(b"\r\n"),  # gunicorn counts the line's end
            self._head_limit_bytes,
            drops_underscores,
        )
        self._reader = RequestHead(self.limits)

    @property
    def has_partial_head(self) -> bool:
        """Whether a head has begun and is not complete, or bytes of another request wait behind a complete one."""
        return bool(self._buffer) or self._state == "headers"

    def feed(self, data: bytes) -> None:
        if self._state == "request_line" and not self._buffer and data[0] != _CR:
            end = data.find(_HEAD_END) + len(_HEAD_END)
            if end >= len(_HEAD_END) and self._take_head(data if end == len(data) else data[:end], end == len(data)):
                data = data[end:]
        if data:
            super().feed(data)

    def hold(self) -> None:
        """A request without a body has come that the strict parser did not read: what comes now is behind it."""
        self._state = "complete"
        self.is_complete = self._is_held = True

    def release(self) -> bytes:
        """Begin anew; what came behind the last request is returned."""
        self.head = b""
        if self._is_held and not self._buffer:
            self._is_held = self.is_complete = self._empty_line_skipped = False
            self._state = "request_line"
            return b""
        rest = bytes(self._buffer)
        self._is_held = False
        self.reset()
        return rest

    def close(self) -> None:
        """Let go of llhttp, which calls us back."""
        self._reader.close()

    def _take_head(self, head: bytes, is_alone: bool) -> bool:
        """Whether the head is read. Raises what the strict parser does, where the framing is wrong."""
        reader = self._reader
        try:
            reader.read(head)
        except Refused:
            reader.close()
            return False
        headers = reader.headers
        # After CONNECT nothing is a request any more, whatever it was answered: the strict parser sees to that.
        method_fits = len(reader.method) in _METHOD_CHARACTERS and reader.method != "CONNECT"
        if not _PATH(reader.target) or _hosts(headers) > 1 or not method_fits:
            return False
        if reader.is_plain or not (reader.length or reader.is_chunked or reader.upgrade):
            self.hold()
            if is_alone:
                self.head = head
            self._on_bare_head(reader)
        else:
            self.method, self.path = reader.method.encode("ascii"), reader.target
            self.http_version = _VERSIONS[reader.version]
            self._headers_list = headers
            self._header_count = len(headers)
            self._empty_line_skipped = True
            self._finalize_headers()
        reader.headers = _NO_FIELDS  # while the connection is idle, nobody needs them
        return True


def _hosts(headers: Headers) -> int:
    return [name for name, _ in headers].count(b"host")
