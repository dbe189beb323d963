"""The framing of a request's body: bytes in, pieces of the body out. Strict, and bounded. Pure.

Not llhttp's: it cannot be paused, and takes chunk sizes with any number of zeros. RFC 9112 section 7.1: a chunk's size
is hexadecimal digits, its line and its data end with CRLF, and nothing else does; trailers are fields.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from gw.pipeline.fields import Headers
from gw.server.h1.refusal import Refused
from gw.upstream.response import NOT_IN_TRAILERS

# A line of the coding: extensions are dropped, so nobody needs long ones. nginx has no limit, Node 16 KB for all.
_MAX_LINE_BYTES: Final = 4096
# All trailers of a body together, and all its extensions.
_MAX_TRAILER_BYTES: Final = 8192
_MAX_EXTENSION_BYTES: Final = 16 * 1024
# A size and its line end, and some: what is longer has an extension.
_PLAIN_LINE_BYTES: Final = 20
# As many digits as fit a signed 64-bit number whatever they are.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_PLAIN_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n").match
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)").fullmatch
# They would say how to read what has been read already.
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"host", b"connection"))


class _Line(Enum):
    SIZE = 0
    DATA_END = 1
    TRAILER = 2


class Taken(NamedTuple):
    """What a read gave: pieces of the body, how many bytes of the data it used, and whether the body is complete."""

    pieces: list[bytes]
    used_bytes: int
    is_complete: bool


class LengthBody:
    """A body of so many bytes."""

    __slots__ = ("_left_bytes",)

    trailers: Headers = []  # noqa: RUF012 - never any, and never changed

    def __init__(self, length_bytes: int) -> None:
        self._left_bytes = length_bytes

    def take(self, data: bytes) -> Taken:
        """Take what belongs to the body."""
        left = self._left_bytes
        if len(data) < left:
            self._left_bytes = left - len(data)
            return Taken([data], len(data), False)
        self._left_bytes = 0
        return Taken([data if len(data) == left else data[:left]], left, True)


class ChunkedBody:
    """A chunked body. `trailers`: the fields behind it that may be passed on."""

    __slots__ = ("_expects", "_extension_bytes", "_left_bytes", "_line", "_trailer_bytes", "trailers")

    def __init__(self) -> None:
        self._left_bytes = 0  # of the present chunk
        self._line = b""  # begun, not ended
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._expects = _Line.SIZE
        self.trailers: Headers = []

    def take(self, data: bytes) -> Taken:
        """Take what belongs to the body. Raises Refused."""
        pieces: list[bytes] = []
        at = 0
        while at < len(data):
            if self._left_bytes:
                piece = data[at : at + self._left_bytes]
                self._left_bytes -= len(piece)
                pieces.append(piece)
                at += len(piece)
                if not self._left_bytes:
                    self._expects = _Line.DATA_END
                continue
            if self._expects is _Line.SIZE and not self._line and (plain := _PLAIN_SIZE(data, at)) is not None:
                # PERF: a chunk that is all here and without extension; tiny ones would hold the loop.
                start = plain.end()
                stop = start + int(plain[1], 16)
                if stop > start and data.startswith(b"\r\n", stop):
                    pieces.append(data[start:stop])
                    at = stop + 2
                    continue
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end + 1
            self._line += data[at:stop]
            at = stop
            if len(self._line) > _MAX_LINE_BYTES:
                raise Refused(400, "line of the chunked coding too long")
            if end >= 0 and self._end_line():
                return Taken(pieces, at, True)
        return Taken(pieces, at, False)

    def _end_line(self) -> bool:
        """Whether the line that is complete now ends the body. Raises Refused."""
        line, self._line = self._line, b""
        if not line.endswith(b"\r\n"):
            raise Refused(400, "bare LF in the chunked coding")
        if self._expects is _Line.SIZE:
            self._extension_bytes += max(0, len(line) - _PLAIN_LINE_BYTES)
        if self._extension_bytes > _MAX_EXTENSION_BYTES:
            raise Refused(400, "chunk extensions too long")
        line = line[:-2]
        if self._expects is _Line.TRAILER:
            return self._take_trailer(line)
        if self._expects is _Line.DATA_END:
            if line:
                raise Refused(400, "chunk longer than its size")
            self._expects = _Line.SIZE
            return False
        match = _SIZE(line)
        if match is None:
            raise Refused(400, "malformed chunk size")
        self._left_bytes = int(match[1], 16)
        if not self._left_bytes:
            self._expects = _Line.TRAILER
        return False

    def _take_trailer(self, line: bytes) -> bool:
        if not line:
            return True
        self._trailer_bytes += len(line)
        match = _FIELD(line)
        if match is None or self._trailer_bytes > _MAX_TRAILER_BYTES:
            raise Refused(400, "malformed trailer" if match is None else "trailers too large")
        name = match[1].lower()
        if name in _FRAMING:
            raise Refused(400, "trailer that frames")
        if name not in NOT_IN_TRAILERS:
            self.trailers.append((name, match[2].rstrip(b" \t")))
        return False
