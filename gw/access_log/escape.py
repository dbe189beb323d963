"""Making a value harmless in a line, as nginx's log_format does (ngx_http_log_escape, ngx_escape_json). Pure.

`default`: `"`, `\\` and all bytes outside 0x20 to 0x7e become `\\xXX`, so that a value ends neither quotes nor line.
`json`: what JSON escapes, and nothing else; the result is the inside of a JSON string. nginx copies invalid UTF-8,
which makes the line no JSON; here such a byte becomes U+FFFD.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

Escape: TypeAlias = Callable[[str], str]

_HARMLESS_BYTES: Final = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\')
_DEFAULT_TABLE: Final = [chr(octet) if octet in _HARMLESS_BYTES else f"\\x{octet:02X}" for octet in range(256)]
# ngx_escape_json; 0x7f and what is not ASCII stand for themselves.
_JSON_TABLE: Final = {
    **{octet: f"\\u{octet:04X}" for octet in range(0x20)},
    **{ord(plain): f"\\{letter}" for plain, letter in zip('\n\r\t\b\f"\\', 'nrtbf"\\', strict=True)},
}


def is_harmless(value: str) -> bool:
    """Whether neither form changes a value. PERF: a regular expression takes twice as long (bench/access_log.py)."""
    return value.isascii() and value.isprintable() and '"' not in value and "\\" not in value


def escape_default(encoding: str) -> Escape:
    """For values whose bytes `encoding` gives back: latin-1, or utf-8 with surrogateescape."""

    def escape(value: str) -> str:
        if is_harmless(value):
            return value
        return "".join([_DEFAULT_TABLE[octet] for octet in value.encode(encoding, _on_error(encoding))])

    return escape


def escape_json(encoding: str) -> Escape:
    """For values whose bytes `encoding` gives back."""

    def escape(value: str) -> str:
        if is_harmless(value):
            return value
        octets = value.encode(encoding, _on_error(encoding))
        return octets.decode("utf-8", "replace").translate(_JSON_TABLE)

    return escape


def _on_error(encoding: str) -> str:
    """What a plugin put where a header line was expected may be any text: it is shown, if not exactly."""
    return "replace" if encoding == "latin-1" else "surrogateescape"
