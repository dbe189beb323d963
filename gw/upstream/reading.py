"""What an upstream says on one connection, response after response, as llhttp (httptools) finds it.

The half of `gw.upstream.connection` that knows HTTP, and nothing of sockets and time. Heads and pieces go to the
connection's sink as they are found; that a response is complete is noted here, and the connection's to tell.

What llhttp does not know or do is done here:
- that a response answers HEAD and so has no body: the parser, which waits for one, is to be replaced;
- interim responses (1xx) come before the response; 100 is skipped (our side answers Expect itself), and 101 is an
  error unless another protocol was asked for;
- limits on the head; versions other than 1.0 and 1.1; bytes behind the end of a response.
"""

import asyncio
import logging
from typing import Final

import httptools

from gw.errors import UpstreamError
from gw.upstream.contract import Sink
from gw.upstream.errors import BadResponse
from gw.upstream.response import Headers, HeadReader, ResponseHead

logger = logging.getLogger(__name__)

# All heads of one exchange together, interim ones included; behind the head, what comes without a piece of the body:
# trailers, which llhttp holds, and chunk extensions. nginx takes 4 to 8 KB, Envoy 60 KB; a read is larger than this, so
# the limit is on what was parsed, and memory is bounded by it plus one read.
MAX_HEAD_BYTES: Final = 64 * 1024
# A longer phrase is left out, and the usual one stands: no limit of a head counts it, and written ones are remembered.
_MAX_REASON_BYTES: Final = 256
# Whatever Content-Length says there, no body follows.
_BODILESS: Final = frozenset((204, 304))
# Of those behind it llhttp does not know that they have no body.
_LAST_KNOWN_INTERIM: Final = 103
# Of a head that is kept: far more than usual ones have.
_REMEMBERED_HEAD_BYTES: Final = 2048
_NOTHING_KNOWN: Final = ResponseHead(0, b"", [])


class ResponseReading(asyncio.Protocol):
    """See the module's rules. `response_started`: a byte came of the response that is waited for."""

    __slots__ = (
        "_answers_head",
        "_complete",
        "_extra_bytes",
        "_fed_bytes",
        "_head_done",
        "_head_reader",
        "_head_waits",
        "_interim",
        "_is_1_1",
        "_keep_alive",
        "_known",
        "_known_bytes",
        "_known_head",
        "_may_upgrade",
        "_parser",
        "_parser_spent",
        "_passed",
        "_piece",
        "_reason",
        "_sink",
        "_status",
        "_upgraded",
        "on_header",
        "response_started",
    )

    _answers_head: bool

    def __init__(self) -> None:
        self.response_started = False
        self._may_upgrade = False
        self._sink: Sink | None = None
        self._head_reader = HeadReader()
        self.on_header = self._head_reader.add
        # It holds bound methods of ours: a cycle, which lasts from connection_made to _close.
        self._parser: httptools.HttpResponseParser | None = None
        self._parser_spent = False
        self._complete = self._head_done = self._head_waits = False
        # Of these, what is once set stays so until the connection ends, or goes back by itself.
        self._interim = self._extra_bytes = self._keep_alive = self._is_1_1 = False
        self._upgraded: Headers | None = None
        self._passed: Headers = []
        # The last response that came whole, in one read, with a length: its head, how that was passed on, and how many
        # bytes it had in all.
        self._known = _NOTHING_KNOWN
        self._known_head = b""
        self._known_bytes = 0

    def _begin_response(self, data: bytes) -> None:
        self.response_started = True
        self._is_1_1 = data.startswith(b"HTTP/1.1 ")
        self._reason = self._piece = b""
        self._head_reader.reset()
        self._fed_bytes = 0
        self._head_waits = self._head_done = self._complete = False

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra_bytes = True

    def on_status(self, reason: bytes) -> None:
        if len(reason) <= _MAX_REASON_BYTES:
            self._reason += reason

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        parser = self._parser
        assert parser is not None
        assert self._sink is not None
        status = parser.get_status_code()
        is_1_0 = False
        if not self._is_1_1:  # PERF: llhttp makes a text of the version each time it is asked
            version = parser.get_http_version()
            is_1_0 = version == "1.0"
            if version != "1.1" and not is_1_0:
                raise BadResponse(f"HTTP version {version}")
        if self._fed_bytes > MAX_HEAD_BYTES and self._head_reader.size_bytes > MAX_HEAD_BYTES:
            raise BadResponse("head too large")
        if status < 200:
            self._take_interim(status)
            return
        self._passed = self._head_reader.end_to_end(is_http_1_0=is_1_0)
        self._head_done = True
        self._fed_bytes = 0
        if self._answers_head:
            self._keep_alive = not is_1_0 and not self._head_reader.asks_to_close
            self._parser_spent = True
            self._complete = True
        self._status = status
        self._head_waits = True

    def _pass_head(self) -> None:
        """Report the head, and what waited with it, now that more is to come."""
        self._head_waits = False
        piece, self._piece = self._piece, b""
        if self._sink is not None:
            self._sink.upstream_head(self._status, self._reason, self._passed)
        if piece and self._sink is not None:
            self._sink.upstream_body(piece)

    def _take_interim(self, status: int) -> None:
        """Raises BadResponse."""
        if status < 100:
            raise BadResponse(f"status {status}")
        reader = self._head_reader
        headers = reader.end_to_end(is_http_1_0=False)
        if status > _LAST_KNOWN_INTERIM and (reader.is_chunked or not reader.ends_with_connection(headers)):
            # llhttp would read a body behind it, out of what is the response.
            raise BadResponse(f"{status} with a length")
        reader.reset()
        if status == 101:
            if not self._may_upgrade:
                raise BadResponse("101 to a request without Upgrade")
            self._upgraded = headers
            return
        self._interim = True
        self._is_1_1 = False  # what comes next speaks for itself
        self._reason = b""
        if status != 100 and self._sink is not None:
            # RFC 9110 section 8.6: there is no length in a 1xx, and who believes one waits for a body.
            self._sink.upstream_interim(status, [pair for pair in headers if pair[0] != b"content-length"])

    def on_body(self, piece: bytes) -> None:
        if self._complete:
            self._extra_bytes = True
            return
        self._fed_bytes = 0
        if self._head_waits:
            if not self._piece:
                self._piece = piece
                return
            self._pass_head()
        if self._sink is not None:
            self._sink.upstream_body(piece)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif not self._complete and self._upgraded is None:
            if self._parser is None:
                return  # let go of by whoever got the piece before: a filter failed, say
            self._keep_alive = self._parser.should_keep_alive()
            self._complete = True

    def _remember(self, head: ResponseHead, whole: bytes) -> None:
        """Keep what a response of these bytes is, where its head and length say all of it."""
        head_bytes = len(whole) - len(self._piece)
        # Another end of a head before the last one: an interim response, which would have to be passed on each time.
        if (
            self._is_1_1
            and head.status not in _BODILESS
            and head_bytes <= _REMEMBERED_HEAD_BYTES
            and whole.find(b"\r\n\r\n") == head_bytes - 4
        ):
            self._known = head
            self._known_head = whole[:head_bytes]
            self._known_bytes = len(whole)


def ends_lines_with_lf(data: bytes) -> bool:
    """Whether each line of a head that begins here ends with LF alone (RFC 9112 section 2.2 lets one take that).

    Where some end with CRLF, an LF alone may be a client's, in a value that the upstream repeats.
    """
    end = data.find(b"\n\n")
    head = data if end < 0 else data[:end]
    return b"\n" in data and b"\r" not in head


def lenient_parser(reading: ResponseReading) -> httptools.HttpResponseParser:
    """For a response whose lines end with LF alone."""
    parser = httptools.HttpResponseParser(reading)
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
    return parser


def bad_response(error: httptools.HttpParserError) -> UpstreamError:
    """llhttp's words, or what our own callback raised (llhttp wraps it)."""
    cause = error.__context__
    if isinstance(cause, UpstreamError):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        logger.error("a response callback failed", exc_info=cause)
        return BadResponse("internal error while reading it")
    return BadResponse(str(error))
