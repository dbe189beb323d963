"""Header fields as the wire has them: a list of (lower-case name, value) in order, duplicates kept; with names as text.

The list itself is what both edges and the serialisers walk. Plugins change it through these functions, which refuse
what would not be one field: a name that is no token, a value with a line end or NUL in it.
"""

import re
from collections.abc import Iterable
from typing import Final

Headers = list[tuple[bytes, bytes]]

# A field as a line without its end. PERF: walked in C by map(); bench/request_path.py.
field_line: Final = b": ".join

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_FORBIDDEN: Final = re.compile("[\r\n\0]").search


def get_field(headers: Headers, name: str) -> str | None:
    """The first value of a field, None when it is not there."""
    wanted = name.lower().encode("latin-1", "replace")
    return next((value.decode("latin-1") for each, value in headers if each == wanted), None)


def get_all(headers: Headers, name: str) -> list[str]:
    """All values of a field, in order."""
    wanted = name.lower().encode("latin-1", "replace")
    return [value.decode("latin-1") for each, value in headers if each == wanted]


def set_field(headers: Headers, name: str, value: str) -> None:
    """Let a field have this value alone. Raises ValueError for what is no field."""
    pair = field(name, value)
    headers[:] = [each for each in headers if each[0] != pair[0]]
    headers.append(pair)


def add_field(headers: Headers, name: str, value: str) -> None:
    """Add a value to those that are there. Raises ValueError for what is no field."""
    headers.append(field(name, value))


def remove_field(headers: Headers, name: str) -> None:
    """Take a field away, with all its values."""
    unwanted = name.lower().encode("latin-1", "replace")
    headers[:] = [each for each in headers if each[0] != unwanted]


def vouch_field(headers: Headers, name: bytes, values: Iterable[bytes]) -> None:
    """Let a field have these values alone, under this spelling alone: what a backend that folds `_` and `.` to `-`
    would take for it goes, too. `name` and `values` are bytes of a field that was read, or checked by `field`.
    """
    lower = name.lower()
    plain = folded(lower)
    headers[:] = [each for each in headers if folded(each[0]) != plain]
    headers.extend((lower, value) for value in values)


def folded(name: bytes) -> bytes:
    """A name as CGI, WSGI and PHP fold it: those that come out equal are one header to such a backend."""
    return name.replace(b"_", b"-").replace(b".", b"-")


def field(name: str, value: str) -> tuple[bytes, bytes]:
    """A field as it is held. Text beyond latin-1 leaves as UTF-8. Raises ValueError."""
    if not _TOKEN(name):
        raise ValueError(f"{name!r} is no header name")
    if _FORBIDDEN(value):
        raise ValueError(f"the value of {name} holds a line end or NUL")
    try:
        encoded = value.encode("latin-1")
    except UnicodeEncodeError:
        encoded = value.encode()
    return name.lower().encode("ascii"), encoded.strip(b" \t")
