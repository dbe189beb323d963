"""How a request is refused before it is one: the status, and the answer's bytes. The connection always ends with it."""

from http import HTTPStatus
from typing import Final

from gw.pipeline.reply import error_reply


class Refused(Exception):
    """What came is no request that can be taken. `reason` is for the log: nothing of the request is quoted back."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


# RFC 6585's and RFC 9110's phrases; Python's differ from release to release for some.
PHRASES: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}


def refusal_bytes(status: int, server: tuple[bytes, bytes], date: bytes) -> bytes:
    """The whole answer to a refused request. `date` is a header line with its end."""
    reply = error_reply(status)
    lines = b"".join(b"%b: %b\r\n" % pair for pair in (*reply.headers, server))
    return b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\n%bconnection: close\r\n\r\n%b" % (
        status,
        PHRASES.get(status, b""),
        lines,
        len(reply.body),
        date,
        reply.body,
    )
