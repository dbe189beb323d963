"""How a place inside a resource and a reason are written.

A place is a tuple of steps, names and list positions from 0: `("upstream", "nodes", 0, "port")`. It is written twice:
as a path (`upstream.nodes[0].port`) for machines, and as APISIX's jsonschema words it, from the outside in, with list
items counted from 1 (`property "upstream" validation failed: ... failed to validate item 1: ...`).

Reasons quote what somebody sent, so every quote is bounded and escaped: it ends in log lines and terminals.
"""

import json
import re
from typing import Final, TypeAlias

Step: TypeAlias = str | int
Place: TypeAlias = tuple[Step, ...]

# Enough to recognise a value, too little to flood a log line with it.
MAX_QUOTED_CHARACTERS: Final = 64
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


def quote(text: str) -> str:
    """The text in double quotes, cut to a bounded length, with everything but printable ASCII escaped."""
    return _escaped(_bounded(text))


def quote_value(value: object) -> str:
    """A JSON value as JSON, cut and escaped as `quote` does."""
    return quote(value) if isinstance(value, str) else _bounded(_escaped(value))


def _bounded(text: str) -> str:
    return text if len(text) <= MAX_QUOTED_CHARACTERS else text[:MAX_QUOTED_CHARACTERS] + "..."


def _escaped(value: object) -> str:
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")


def bare(text: str) -> str:
    """As `quote`, without the quotes, where APISIX's wording has none."""
    return quote(text)[1:-1]


def path_of(place: Place) -> str:
    """The place as a path: `upstream.nodes[0].port`, `labels["a b"]`; `""` for the whole."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _PLAIN_NAME.match(step) and len(step) <= MAX_QUOTED_CHARACTERS:
            path += f".{step}" if path else step
        else:
            path += f"[{quote(step)}]"
    return path


def reason_at(place: Place, reason: str) -> str:
    """The reason with the place before it, in APISIX's words."""
    for step in reversed(place):
        if isinstance(step, int):
            reason = f"failed to validate item {step + 1}: {reason}"
        else:
            reason = f'property "{bare(step)}" validation failed: {reason}'
    return reason
