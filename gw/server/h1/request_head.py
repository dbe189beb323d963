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
_VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_VERSION_BYTES: Final = len("HTTP/1.1")
_methods: Final[dict[bytes, str]] = {}  # those that came; llhttp knows some fifty, and refuses others
_BLANK: Final = 0x20
# A line whose method llhttp may not know. PRI is no method of a request (RFC 9113 section 11.6).
_ANY_LINE: Final = re.compile(rb"(?!PRI )([A-Z][A-Z0-9_-]{0,31}) [^ \r\n]+ HTTP/1\.[01]\r\n").match
# A method that llhttp knows, and takes as any other.
_STAND_IN: Final = b"POST"
# Names as they are spelled, to their lower case. The bounds keep a client that invents names from growing the table.
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64
_plain_names: Final[dict[bytes, bytes]] = {}
# What these say is needed before the pipeline reads the head; they are never in the table.
_SPECIAL: Final = frozenset(
    (
        *(b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"content-type"),
        b"proxy-connection",
    )
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
    """Reads one head after the other. After `read`, the attributes are those of the head that was read; where it
    `is_plain`, without a field that speaks of connection or body, those of such fields are of an earlier one.

    `length` is the Content-Length, None without one. `keeps_alive`: what the client asks for. `upgrade`: the protocol
    it asks to switch to, b"" for none.
    """

    __slots__ = (
        "_limits",
        "_parser",
        "_plain_bytes",
        "_specials",
        "expects_continue",
        "headers",
        "is_chunked",
        "is_plain",
        "keeps_alive",
        "length",
        "method",
        "target",
        "upgrade",
        "version",
    )

    headers: Headers
    target: bytes
    method: str
    version: str
    length: int | None
    is_chunked: bool
    is_plain: bool
    keeps_alive: bool
    expects_continue: bool
    upgrade: bytes

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        # A head of no more keeps all limits: a field takes at least four bytes.
        shortest = min(limits.line_bytes, limits.field_bytes, 4 * limits.fields)
        self._plain_bytes = 0 if limits.drops_underscores else shortest
        self._parser: httptools.HttpRequestParser | None = None
        self._specials: Headers = []

    def read(self, head: bytes) -> None:
        """Read one head with its empty line. Raises Refused."""
        parser = self._parser
        if parser is None:
            # It holds bound methods of ours, a cycle that `close` breaks.
            parser = self._parser = httptools.HttpRequestParser(self)
        self.target, self.headers = b"", []
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._parser = None
        except httptools.HttpParserError as error:
            self._parser = None
            self._read_otherwise(head, error)
            return
        # PERF: method and version out of the raw line; llhttp's take three times as long to ask for.
        line_bytes = head.find(b"\r\n")
        version_at = line_bytes - _VERSION_BYTES
        version = _VERSIONS.get(head[version_at:line_bytes])
        method = _methods.get(head[: version_at - len(self.target) - 2])
        if version is None or method is None:
            version, method = self._read_line(head, line_bytes, parser)
        self.version = version
        self.method = method
        if len(head) > self._plain_bytes:
            self._check(head)
        self.is_plain = not self._specials
        if self.is_plain:
            self.keeps_alive = version == "1.1"
        else:
            self._take_specials()

    def _read_otherwise(self, head: bytes, error: httptools.HttpParserError) -> None:
        """Read a head that llhttp refused; where that was for its method, under another. Raises Refused.

        Clients and upstreams may have methods of their own, which nginx hands on, too.
        """
        if any(name == b"transfer-encoding" and _is_unknown(value.lower()) for name, value in self._specials):
            raise Refused(501, str(error)) from None
        line = _ANY_LINE(head) if "method" in str(error) else None
        if line is None or line[1] == _STAND_IN:
            raise Refused(400, str(error)) from None
        self.read(_STAND_IN + head[line.end(1) :])
        self.method = line[1].decode("ascii")

    def _check(self, head: bytes) -> None:
        """What a short head cannot break. Raises Refused."""
        limits = self._limits
        if len(self.headers) > limits.fields:
            raise Refused(431, "too many header fields")
        _check_lines(head, limits)
        if limits.drops_underscores:
            self.headers = [pair for pair in self.headers if b"_" not in pair[0]]

    def _read_line(self, head: bytes, line_bytes: int, parser: httptools.HttpRequestParser) -> tuple[str, str]:
        """The same for a method that is seen for the first time. Raises Refused.

        Two spaces, or a fragment that was cut off, make the line longer than its parts.
        """
        if not self.target:
            self._parser = None
            raise Refused(400, "head without an end")
        version = parser.get_http_version()
        if version not in _VERSIONS.values():
            raise Refused(505, f"version {version}")
        method = parser.get_method()
        is_http = head.startswith(b"HTTP/", line_bytes - _VERSION_BYTES)  # llhttp knows RTSP, too
        if not is_http or line_bytes != len(method) + len(self.target) + 2 + _VERSION_BYTES:
            self._parser = None
            raise Refused(400, "malformed request line")
        return version, _methods.setdefault(method, method.decode("ascii"))

    def close(self) -> None:
        """Let go of the parser, which calls us back, and of what a head that was refused has left.

        Whoever goes on after `Refused` has to call it: llhttp may stand anywhere then.
        """
        self._parser = None
        self._specials = []

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp takes blanks off the beginning of a value, not off its end; below the blank only a tab passes it.
        # PERF: a look at each value's last byte is a tenth of two searches of the head.
        if value and value[-1] <= _BLANK:
            value = value.rstrip(b" \t")
        plain = _plain_names.get(name)
        if plain is None:
            plain = self._unknown(name, value)
        self.headers.append((plain, value))

    # What it makes of it.

    def _unknown(self, name: bytes, value: bytes) -> bytes:
        plain = name.lower()
        if plain in _SPECIAL:
            self._specials.append((plain, value))
        elif len(_plain_names) < _MAX_REMEMBERED_NAMES and len(name) <= _MAX_REMEMBERED_BYTES:
            _plain_names[name] = plain
        return plain

    def _take_specials(self) -> None:
        specials, self._specials = self._specials, []
        self.length = None
        self.is_chunked = self.expects_continue = False
        self.upgrade = connection = upgrade = b""
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
                if value.lower() == b"100-continue":
                    self.expects_continue = self.version == "1.1"
                elif value:
                    raise Refused(417, "unknown expectation")
            elif name == b"upgrade":
                upgrade = upgrade + b"," + value if upgrade else value
            elif name == b"proxy-connection":
                self._parser = None  # it takes it for Connection, and would take no further request
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
            raise Refused(501 if _is_unknown(value) else 400, "unsupported Transfer-Encoding")
        self.is_chunked = True


def _is_unknown(coding: bytes) -> bool:
    """Whether a coding is only not implemented (RFC 9112 section 6.1): none we know, and claiming to frame nothing."""
    return b"chunked" not in coding and coding.replace(b"-", b"").isalnum() and coding != b"identity"


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
    # Of a line's end the first half may be here.
    if line_end < 0 and len(partial) - partial.endswith(b"\r") > limits.line_bytes:
        return Refused(414, "request line too long")
    return Refused(431, "head too large") if len(partial) > limits.head_bytes else None
