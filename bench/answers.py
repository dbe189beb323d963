"""Where an HTTP/1.1 answer ends: as much of a parser as a load generator needs, a few microseconds an answer."""

from __future__ import annotations

from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


class AnswerScanner:
    """Takes the bytes of one answer after the other. `feed` says when one is whole; then `status` and `closes` are set.

    The bodies measured with are ours: a chunked one never holds what looks like its own end.
    """

    __slots__ = ("_body_bytes", "_chunked", "_head", "_missing_bytes", "_tail", "closes", "status")

    def __init__(self) -> None:
        self.status = 0
        self.closes = False
        self._reset()

    def feed(self, data: bytes) -> bool:
        """Whether the answer ends with these bytes."""
        if self._missing_bytes >= 0:
            self._missing_bytes -= len(data)
        elif self._chunked:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        else:
            self._head += data
            self._read_head()
        if self._missing_bytes > 0 or (self._missing_bytes < 0 and not self._ends_in_chunks()):
            return False
        self._reset()
        return True

    def _reset(self) -> None:
        self._head: bytes = b""
        self._missing_bytes = -1  # not known, or told by chunks
        self._chunked = False
        self._tail: bytes = b""

    def _ends_in_chunks(self) -> bool:
        return self._chunked and self._tail == _LAST_CHUNK

    def _read_head(self) -> None:
        end = self._head.find(_HEAD_END)
        if end < 0:
            return
        head, body = self._head[:end].lower(), self._head[end + len(_HEAD_END) :]
        self.status = int(head[9:12])
        self.closes = b"\r\nconnection: close" in head
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            line_end = head.find(b"\r\n", at + 2)
            self._missing_bytes = int(head[at + 17 : line_end if line_end > 0 else len(head)]) - len(body)
        elif b"\r\ntransfer-encoding: chunked" in head:
            self._chunked, self._tail = True, body[-len(_LAST_CHUNK) :]
        else:
            self._missing_bytes = 0
