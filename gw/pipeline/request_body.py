"""The body of one request on its way: what came and is not written yet, and what was written and may be needed again.

Pure: pieces in, pieces out. A body is streamed; it is held back only while there is no connection to write it to, or a
plugin wants all of it. What was written is remembered up to REPLAY_BYTES, so that a request whose upstream fails can be
sent to another one; beyond that it cannot.
"""

from typing import Final

from gw.pipeline.fields import Headers

# Bodies that fit are nearly all that APIs send; larger ones are uploads, which would fill the memory.
REPLAY_BYTES: Final = 64 * 1024
# What conditions of routes read of a body where nothing else is configured: APISIX's default of graphql.max_size. Its
# own for other bodies, 64 MiB, would take seconds to parse, in which the worker could do nothing else.
TO_MATCH_BYTES: Final = 1 << 20


class BodyTooLarge(Exception):
    """A body is larger than what may pass, or than what a plugin is willing to read. Answered 413."""


class KeptBody:
    """The beginning of a body, for a log: the pieces themselves, not copies, up to `limit_bytes`."""

    __slots__ = ("_pieces", "_room_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._pieces: list[bytes] = []
        self._room_bytes = limit_bytes

    def add(self, piece: bytes) -> None:
        if self._room_bytes > 0:
            self._pieces.append(piece[: self._room_bytes])
            self._room_bytes -= len(self._pieces[-1])

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)


class RequestBody:
    """`ended`: all of it came. `size_bytes`: of what came so far. `trailers`: fields behind a chunked body.

    `wanted_bytes`: somebody waits for the whole of it, and takes that many at most; None: nobody does.
    """

    __slots__ = ("_kept", "_limit_bytes", "_sent", "_waiting", "ended", "size_bytes", "trailers", "wanted_bytes")

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: the largest body that may pass, 0 for any."""
        self._limit_bytes = limit_bytes
        self._waiting: list[bytes] = []
        self._sent: list[bytes] | None = []
        self._kept: KeptBody | None = None
        self.ended = False
        self.wanted_bytes: int | None = None
        self.size_bytes = 0
        self.trailers: Headers = []

    def add(self, piece: bytes) -> None:
        """A piece that came. Raises BodyTooLarge."""
        self.size_bytes += len(piece)
        if self._limit_bytes and self.size_bytes > self._limit_bytes:
            raise BodyTooLarge
        self._waiting.append(piece)
        if self._kept is not None:
            self._kept.add(piece)

    def keep(self, kept: KeptBody) -> None:
        """Let `kept` have what came so far and what comes. Before any of it was taken."""
        self._kept = kept
        for piece in self._waiting:
            kept.add(piece)

    @property
    def is_larger_than_wanted(self) -> bool:
        """Whether who waits for the whole will not get it."""
        return self.wanted_bytes is not None and self.size_bytes > self.wanted_bytes

    @property
    def waiting_bytes(self) -> int:
        """Of what came and was not taken yet."""
        return sum(map(len, self._waiting))

    def take(self) -> list[bytes]:
        """What is to be written now; it counts as written."""
        taken, self._waiting = self._waiting, []
        if self._sent is not None:
            self._sent += taken
            if self.size_bytes > REPLAY_BYTES:
                self._sent = None
        return taken

    @property
    def can_be_sent_again(self) -> bool:
        """Whether all that was ever written is still here."""
        return self._sent is not None

    def rewind(self) -> None:
        """Let what was written be written again, to another upstream."""
        assert self._sent is not None, "asked for only where can_be_sent_again"
        self._waiting, self._sent = self._sent + self._waiting, []

    def whole(self) -> bytes:
        """All of it, once `ended`, before any of it was taken."""
        if len(self._waiting) > 1:
            self._waiting = [b"".join(self._waiting)]
        return self._waiting[0] if self._waiting else b""

    def replace(self, body: bytes) -> None:
        """Let this be the body, whole, before any of it was taken."""
        self._waiting = [body] if body else []
        self.size_bytes = len(body)
        self.ended = True
        self.trailers = []
