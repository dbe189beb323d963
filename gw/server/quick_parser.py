"""The strict parser, quick for heads that come whole: llhttp takes them apart, and the strict parser judges the parts.

The strict parser reads a head byte by byte in Python. What a head of one read says is found by llhttp, in the way of
our own protocol (gw.server.h1.request_head); its framing is then judged by the strict parser as ever. What llhttp or
that reader refuses, and every target that is more than a path, is read by the strict parser alone, so that nothing is
let pass that it refuses, and it words every refusal (tests/server/test_quick_parser.py).
"""

from __future__ import annotations

import re
from typing import Any, Final

from gw.pipeline.fields import Headers
from gw.server.h1.refusal import Refused
from gw.server.h1.request_head import HeadLimits, RequestHead
from gw.server.parser import RequestParser

_HEAD_END: Final = b"\r\n\r\n"
_CR: Final = 0x0D
_VERSIONS: Final = {"1.1": (1, 1), "1.0": (1, 0)}
_NO_FIELDS: Final[Headers] = []
_PATH: Final = re.compile(rb"/[!-~]*").fullmatch


class QuickParser(RequestParser):
    """`head`: the bytes of the present request's head, where it came in one read and nothing behind it; else b""."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.head = b""
        self.limits = HeadLimits(
            self._limit_request_line,
            self._limit_request_fields,
            self._limit_request_field_size - len(b"\r\n"),  # gunicorn counts the line's end
            self._head_limit_bytes,
        )
        self._reader = RequestHead(self.limits)

    @property
    def has_partial_head(self) -> bool:
        """Whether a head has begun and is not complete, or bytes of another request wait behind a complete one."""
        return bool(self._buffer) or self._state == "headers"

    @property
    def is_bare(self) -> bool:
        """Whether neither a body nor a wish to upgrade belongs to `head`."""
        reader = self._reader
        return reader.is_plain or not (reader.length or reader.is_chunked or reader.upgrade)

    def feed(self, data: bytes) -> None:
        if self._state == "request_line" and not self._buffer and data[0] != _CR:
            end = data.find(_HEAD_END) + len(_HEAD_END)
            if end >= len(_HEAD_END) and self._take_head(data if end == len(data) else data[:end]):
                if end == len(data):
                    self.head = data
                self._finalize_headers()
                data = data[end:]
        if data:
            super().feed(data)

    def hold(self) -> None:
        """A request has come that was not read here: what comes now is behind it."""
        self._state = "complete"
        self.is_complete = True

    def release(self) -> bytes:
        """Begin anew; what came behind the last request is returned."""
        rest = bytes(self._buffer)
        self.head = b""
        self.reset()
        return rest

    def close(self) -> None:
        """Let go of llhttp, which calls us back."""
        self._reader.close()

    def _take_head(self, head: bytes) -> bool:
        """Whether the head is read, all but its framing."""
        reader = self._reader
        try:
            reader.read(head)
        except Refused:
            return False
        if not _PATH(reader.target):
            return False
        self.method = reader.method.encode("ascii")
        self.path = reader.target
        self.http_version = _VERSIONS[reader.version]
        self._headers_list = headers = reader.headers
        self._header_count = len(headers)
        reader.headers = _NO_FIELDS  # while the connection is idle, nobody needs them
        self._empty_line_skipped = True
        return True
