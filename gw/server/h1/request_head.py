"""The head of a request: llhttp (httptools) parses it, and what llhttp lets pass is refused here.

The caller hands over whole heads, one at a time, found by their empty line: so nothing behind a head is ever parsed
before its turn (llhttp cannot pause, and with an upgrade it stops before the body), and the raw bytes are there to be
looked at. Beyond llhttp, RFC 9112 asks us to refuse:

- a request line that is not method SP target SP version: llhttp takes two spaces, and cuts a fragment off;
- versions other than 1.0 and 1.1;
- more than one or an unknown transfer coding, one in HTTP/1.0, or one beside Content-Length (llhttp takes `gzip,
  chunked`); lengths of more digits than all readers can hold;
- two Content-Type or two Host fields (the latter in gw.pipeline.headers, which reads Host);
- an expectation that is none we know (417).

Limits are gunicorn's settings, and their statuses those of RFC 6585: 414 for the request line, 431 for fields.
"""

import re
from typing import Final, NamedTuple

import httptools

from gw.pipeline.fields import Headers
from gw.server.h1.refusal import Refused

# Digits of a length that fits a signed 64-bit number whatever the digits are; 20 would not.
_LENGTH_DIGITS: Final = 18
_METHODS: Final[dict[bytes, str]] = {}
# An unknown method is well-formed, and not ours to serve (RFC 9110 section 15.6.2).
_UNKNOWN_METHOD: Final = re.compile(rb"[A-Z][A-Z0-9_-]{0,31} /[\x21-\x7e]* HTTP/1\.[01]\r\n").match
_BLANK: Final = 0x20
_BAD_TARGET: Final = re.compile(rb"[^\x21-\x7e]|#").search
# Names as they are spelled, to their lower case. The bounds keep a client that invents names from growing the table.
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64
_plain_names: Final[dict[bytes, bytes]] = {}
# What these say is needed before the pipeline reads the head; they are never in the table.
_SPECIAL: Final = frozenset(
    (b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"content-type")
)


class HeadLimits(NamedTuple):
    """Bytes of the request line, number of fields, bytes of one field line, and bytes of the whole head.

    `drops_underscores`: fields with _ in their name are left out, as by nginx's underscores_in_headers.
    """

    line_bytes: int
    fields: int
    field_bytes: int
    head_bytes: int
    drops_underscores: bool = False


class RequestHead:
    """Reads one head after the other. After `read`, the attributes are those of the head that was read.

    `length` is the Content-Length, None without one. `keeps_alive`: what the client asks for. `upgrade`: the protocol
    it asks to switch to, b"" for none.
    """

    __slots__ = (
        "_is_complete",
        "_limits",
        "_parser",
        "_specials",
        "expects_continue",
        "headers",
        "is_chunked",
        "keeps_alive",
        "length",
        "method",
        "target",
        "upgrade",
        "version",
    )

    _is_complete: bool
    headers: Headers
    target: bytes
    method: str
    version: str
    length: int | None
    is_chunked: bool
    keeps_alive: bool
    expects_continue: bool
    upgrade: bytes

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._parser: httptools.HttpRequestParser | None = None
        self._specials: Headers = []

    def read(self, head: bytes) -> None:
        """Read one head with its empty line. Raises Refused."""
        parser = self._parser
        if parser is None:
            # It holds bound methods of ours, a cycle that `close` breaks.
            parser = self._parser = httptools.HttpRequestParser(self)
        self.target, self.headers, self._is_complete = b"", [], False
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = None
        except httptools.HttpParserError as error:
            self._parser = None
            is_unknown = str(error).startswith("Invalid method") and _UNKNOWN_METHOD(head)
            raise Refused(501 if is_unknown else 400, str(error)) from None
        if not self._is_complete:
            self._parser = None
            raise Refused(400, "head without an end")
        self._judge(head, parser)

    def close(self) -> None:
        """Let go of the parser, which calls us back."""
        self._parser = None

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp takes blanks off the beginning of a value, not off its end; below the blank only a tab passes it.
        if value and value[-1] <= _BLANK:
            value = value.rstrip(b" \t")
        plain = _plain_names.get(name)
        if plain is None:
            plain = self._unknown(name, value)
        self.headers.append((plain, value))

    def on_headers_complete(self) -> None:
        self._is_complete = True

    # What it makes of it.

    def _unknown(self, name: bytes, value: bytes) -> bytes:
        plain = name.lower()
        if plain in _SPECIAL:
            self._specials.append((plain, value))
        elif len(_plain_names) < _MAX_REMEMBERED_NAMES and len(name) <= _MAX_REMEMBERED_BYTES:
            _plain_names[name] = plain
        return plain

    def _judge(self, head: bytes, parser: httptools.HttpRequestParser) -> None:
        raw_method = parser.get_method()
        method = _METHODS.get(raw_method)
        if method is None:
            method = _METHODS[raw_method] = raw_method.decode("ascii")
        self.method = method
        target = self.target
        # PERF: the line that nearly all have is compared first, since the parser spells its version anew each time.
        if head.startswith(b"%b %b HTTP/1.1\r\n" % (raw_method, target)):
            version = "1.1"
        else:
            version = parser.get_http_version()
            if version not in ("1.1", "1.0"):
                raise Refused(505, f"version {version}")
            if not head.startswith(b"%b %b HTTP/1.0\r\n" % (raw_method, target)):
                raise Refused(400, "malformed request line")
        if _BAD_TARGET(target):
            raise Refused(400, "malformed request line")
        self.version = version
        limits = self._limits
        if len(self.headers) > limits.fields:
            raise Refused(431, "too many header fields")
        if len(head) > limits.field_bytes or len(head) > limits.line_bytes:
            _check_lines(head, limits)
        if limits.drops_underscores:
            self.headers = [pair for pair in self.headers if b"_" not in pair[0]]
        self.length = None
        self.is_chunked = self.expects_continue = False
        self.upgrade = b""
        if self._specials:
            self._take_specials()
        else:
            self.keeps_alive = version == "1.1"

    def _take_specials(self) -> None:
        specials, self._specials = self._specials, []
        connection = upgrade = b""
        content_types = 0
        for name, value in specials:
            if name == b"connection":
                connection += b"," + value.lower()
            elif name == b"content-length":
                if self.length is not None or not value.isdigit() or len(value) > _LENGTH_DIGITS:
                    raise Refused(400, "malformed or repeated Content-Length")
                self.length = int(value)
            elif name == b"transfer-encoding":
                self._take_coding(value.lower())
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise Refused(417, "unknown expectation")
                self.expects_continue = self.version == "1.1"
            elif name == b"upgrade":
                upgrade += value
            else:
                content_types += 1
        if content_types > 1:
            raise Refused(400, "more than one Content-Type")
        if self.is_chunked and self.length is not None:
            raise Refused(400, "Content-Length beside Transfer-Encoding")
        if self.is_chunked or self.length:
            self._parser = None  # it waits for the body, which it is not given
        options = {option.strip(b" \t") for option in connection.split(b",")}
        self.keeps_alive = b"close" not in options and (self.version == "1.1" or b"keep-alive" in options)
        if upgrade and b"upgrade" in options and self.version == "1.1":
            self.upgrade = upgrade

    def _take_coding(self, value: bytes) -> None:
        if value != b"chunked" or self.is_chunked or self.version != "1.1":
            # A coding that is none we know, and does not claim to frame, is only not implemented.
            is_unknown = b"chunked" not in value and value.replace(b"-", b"").isalnum() and value != b"identity"
            raise Refused(501 if is_unknown else 400, "unsupported Transfer-Encoding")
        self.is_chunked = True


def _check_lines(head: bytes, limits: HeadLimits) -> None:
    line, _, fields = head.partition(b"\r\n")
    if len(line) > limits.line_bytes:
        raise Refused(414, "request line too long")
    if any(len(field) > limits.field_bytes for field in fields.split(b"\r\n")):
        raise Refused(431, "header field too long")
    if len(head) > limits.head_bytes:
        raise Refused(431, "head too large")


def too_large(partial: bytes | bytearray, limits: HeadLimits) -> Refused | None:
    """What to say to a head that has no end yet, None while it may still get one."""
    line_end = partial.find(b"\r\n")
    if line_end < 0 and len(partial) > limits.line_bytes:
        return Refused(414, "request line too long")
    return Refused(431, "head too large") if len(partial) > limits.head_bytes else None
