"""gunicorn's parser of HTTP/1.1 requests, stricter where a request could mean two things or hold too much.

gunicorn's Python parser refuses most of what smuggling is made of. Added here (RFC 9112):
- Transfer-Encoding is one `chunked` and nothing else: gunicorn takes `identity, chunked` and `gzip, chunked`;
- a Content-Length is a number that all readers can hold: gunicorn takes any number of digits, and raises ValueError at
  4301 of them;
- the same for the size of a chunk;
- a line of the chunked coding (size and extensions, trailer) is no longer than a header line, also when it comes whole
  in one read; a trailer line is a header field;
- a head has a total size: gunicorn bounds each line and their number, 0.8 MB together, which a stalled client holds.

A refusal is gunicorn's own error, so it is answered and the connection closed as for all others. Names of gunicorn's
that are relied on are pinned by tests/server/test_worker_upstream.py. Thin, as gw.server.protocol is.
"""

from __future__ import annotations

from typing import Any, Final

from gunicorn.asgi.parser import InvalidChunkSize, InvalidHeader, LimitRequestHeaders, PythonProtocol

# nginx takes 32 KB of header lines (large_client_header_buffers 4 8k), and APISIX leaves that as it is.
MAX_HEAD_BYTES: Final = 32 * 1024
# Digits of a length that fits a signed 64-bit number whatever the digits are; 20 would not.
_LENGTH_DIGITS: Final = 18
# The same for a chunk's size in hexadecimal digits.
_CHUNK_SIZE_DIGITS: Final = 15


class RequestParser(PythonProtocol):
    """See the module's rules. `limit_request_field_size` above MAX_HEAD_BYTES lets one such line in."""

    __slots__ = ("_head_bytes", "_head_limit_bytes")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._head_bytes = 0
        self._head_limit_bytes = max(MAX_HEAD_BYTES, 2 * self._limit_request_field_size)

    def reset(self) -> None:
        super().reset()
        self._head_bytes = 0

    def _find_line(self, limit: int, error: Exception) -> int:
        at: int = super()._find_line(limit, error)
        if at == -1:
            return at
        if self._state == "headers":
            self._head_bytes += at + 2
            if self._head_bytes > self._head_limit_bytes:
                raise LimitRequestHeaders("Request header is too large")
        elif self._state == "chunked":
            if at > limit:
                raise error
            self._check_chunked_line(at)
        return at

    def _check_chunked_line(self, at: int) -> None:
        line = self._buffer[:at]
        if self._chunk_state == "size":
            if at > _CHUNK_SIZE_DIGITS and len(line.partition(b";")[0].rstrip(b" \t")) > _CHUNK_SIZE_DIGITS:
                raise InvalidChunkSize("chunk size has too many digits")
        elif line:
            name, colon, value = line.partition(b":")
            if not colon or not self._is_valid_token(name) or self._has_invalid_header_chars(value):
                raise InvalidHeader("malformed trailer field")

    def _finalize_headers(self) -> None:
        codings = 0
        for name, value in self._headers_list:
            if name == b"transfer-encoding":
                codings += 1
                # What is no coding at all is gunicorn's to answer, with 501.
                if codings > 1 or (value.lower() != b"chunked" and b"chunked" in value.lower()):
                    raise InvalidHeader("Transfer-Encoding is not one chunked")
            elif name == b"content-length" and len(value) > _LENGTH_DIGITS:
                raise InvalidHeader("Content-Length has too many digits")
        super()._finalize_headers()
