"""Writes the head of a response, and decides how its body is framed (RFC 9112 section 6)."""

import re
import time
from email.utils import formatdate
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from gw.pipeline.fields import Headers, field_line
from gw.server.h1.refusal import PHRASES

_REASON: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch


class Framing(IntEnum):
    """How the client knows where the body ends."""

    NONE = 0  # there is none: HEAD, 204, 304
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3  # HTTP/1.0, of unknown length: the connection ends with it


@lru_cache(maxsize=512)
def status_line(status: int, reason: bytes) -> bytes:
    """`reason` empty: the usual phrase, if there is one. What is no phrase is left out."""
    phrase = reason if reason and _REASON(reason) else PHRASES.get(status, b"")
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)


class _Date:
    """The Date line, made once a second."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = b"date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")
        return self._line


date_line = _Date().line


# The connection is ours to speak of.
_NEVER: Final = frozenset((b"connection",))
_NEVER_WITHOUT_BODY: Final = frozenset((b"connection", b"content-length"))


class WrittenHead(NamedTuple):
    """The bytes, and what they say. `ages`: they hold the time of writing."""

    data: bytes
    framing: Framing
    keeps_alive: bool
    ages: bool


def response_head(
    status: int, reason: bytes, headers: Headers, *, is_head: bool, is_http_1_0: bool, keeps_alive: bool
) -> WrittenHead:
    """Write a head. `keeps_alive`: whether the connection may go on after it.

    A `connection: close` among the headers ends the connection: that is how a reply asks for it.
    """
    fields = dict(headers)
    no_length = status == 204 or status < 200
    if b"connection" in fields or no_length:
        keeps_alive = keeps_alive and fields.get(b"connection") != b"close"
        dropped = _NEVER_WITHOUT_BODY if no_length else _NEVER
        headers = [pair for pair in headers if pair[0] not in dropped]
    lines = [status_line(status, reason), b"\r\n".join(map(field_line, headers)), b"\r\n" if headers else b""]
    framing = Framing.LENGTH
    if is_head or no_length or status == 304:
        framing = Framing.NONE
    elif b"content-length" not in fields:
        framing = Framing.CLOSE if is_http_1_0 else Framing.CHUNKED
        if is_http_1_0:
            keeps_alive = False
        else:
            lines.append(b"transfer-encoding: chunked\r\n")
    ages = b"date" not in fields
    if ages:
        lines.append(date_line())
    if not keeps_alive:
        lines.append(b"connection: close\r\n\r\n")
    else:
        lines.append(b"connection: keep-alive\r\n\r\n" if is_http_1_0 else b"\r\n")
    return WrittenHead(b"".join(lines), framing, keeps_alive, ages)


def interim_head(status: int, headers: Headers) -> bytes:
    """A 1xx as it is passed on."""
    return status_line(status, b"") + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n"
