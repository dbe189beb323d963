"""The fields of a multipart/form-data body (RFC 7578), for those who only ask what stands in them. Pure.

What has no boundary, or no name, is no field; nothing here repairs what is malformed, since who reads it next might
repair it in another way. One thing is taken that the RFC does not have: lines that end with LF alone, all of them, as
APISIX takes them (t/admin/routes_request_body.t).
"""

from __future__ import annotations

import re
from typing import Final

_PARAMETER: Final = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";]*))')
_ESCAPED: Final = re.compile(r"\\(.)")
# Of all parts together, a thousand fields' worth. As many take 25 ms to read where somebody wants them to.
_MOST_HEAD_BYTES: Final = 128 * 1024
# RFC 2046 section 5.1.1.
_LONGEST_BOUNDARY: Final = 70


def parse_multipart(body: bytes, content_type: str, most_fields: int) -> dict[str, str] | None:
    """Field names and texts, of several with one name the first; None where there is more to read than in any form.

    `content_type`: the header's value as it came, for its boundary. Bytes that are no UTF-8 become surrogates.
    """
    boundary = _parameter(content_type, "boundary")
    if not boundary or len(boundary) > _LONGEST_BOUNDARY:
        return {}
    dashed = b"--" + boundary.encode("latin-1", "replace")
    line_end = b"\n" if body.startswith(dashed + b"\n") else b"\r\n"
    parts = (line_end + body).split(line_end + dashed, most_fields + 2)[1:]
    if len(parts) > most_fields + 1:
        return None
    fields: dict[str, str] = {}
    head_bytes = 0
    for part in parts:
        if part.startswith(b"--"):
            break
        head, end, text = part.partition(line_end * 2)
        head_bytes += len(head)
        if head_bytes > _MOST_HEAD_BYTES:
            return None
        name = _field_name(head, line_end) if end else None
        if name is not None:
            fields.setdefault(name, text.decode("utf-8", "surrogateescape"))
    return fields


def _field_name(head: bytes, line_end: bytes) -> str | None:
    for line in head.decode("utf-8", "surrogateescape").split(line_end.decode()):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition":
            return _parameter(value, "name")
    return None


def _parameter(value: str, wanted: str) -> str | None:
    """Read from left to right, so that what stands within quotes is never taken for another parameter."""
    for match in _PARAMETER.finditer(value):
        if match[1].lower() == wanted:
            return match[3] if match[2] is None else _ESCAPED.sub(r"\1", match[2])
    return None
