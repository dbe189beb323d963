"""Replaces what a pattern finds in a body, as ngx.re.sub and ngx.re.gsub do, in bounded time (SearchTooLong)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gw.expr.pattern import BoundedPattern, compile_bytes_pattern, compile_pattern, is_unicode
from gw.expr.replacement import Parts, parse_replacement

Substitute: TypeAlias = Callable[[bytes], bytes]


def compile_substitution(written: Mapping[str, Any]) -> Substitute:
    """Settle one of `filters`: `{regex, replace, scope, options}`. Raises ExpressionError."""
    count = 1 if written["scope"] == "once" else 0
    regex, options = written["regex"], written["options"]
    if is_unicode(options):
        return _on_text(compile_pattern(regex, options), written["replace"], count)
    pattern = compile_bytes_pattern(regex, options)
    replace = _replacing_bytes(parse_replacement(written["replace"], pattern.groups))
    return lambda body: pattern.sub(replace, body, count)


def _replacing_bytes(parts: Parts) -> Callable[[re.Match[bytes]], bytes]:
    settled = tuple(part if isinstance(part, int) else part.encode() for part in parts)
    if len(settled) == 1 and isinstance(only := settled[0], bytes):
        return lambda match: only
    return lambda match: b"".join([part if isinstance(part, bytes) else match[part] or b"" for part in settled])


def _on_text(pattern: BoundedPattern[str], written: str, count: int) -> Substitute:
    """What is no UTF-8 stays as it is, and is matched by `.` alone."""
    parts = parse_replacement(written, pattern.groups)

    def replace(match: re.Match[str]) -> str:
        return "".join([part if isinstance(part, str) else match[part] or "" for part in parts])

    def substitute(body: bytes) -> bytes:
        text = body.decode("utf-8", "surrogateescape")
        return pattern.sub(replace, text, count).encode("utf-8", "surrogateescape")

    return substitute
