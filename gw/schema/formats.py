"""Texts that a schema asks for: its patterns in Python's dialect, and the formats that no pattern says well.

A pattern in a schema is ECMA's: `$` is the end of the text. Python's `$` also matches before a last newline, so it is
translated; without that `"a\\n"` would pass for an id. The patterns in use have no nested or overlapping repeats, so
their cost grows with the text and not faster.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

from gw.expr import parse_network

_END: Final = re.compile(r"(?<!\\)\$")


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern of a schema as Python's expression, to be used with `search`."""
    return re.compile(_END.sub(r"\\Z", pattern))


def is_ip_or_cidr(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, alone or as a network in CIDR notation.

    Host bits may be set, as in APISIX's documentation (`fe80::1/64`).
    """
    try:
        parse_network(text)
    except ValueError:
        return False
    return True


# What a failed format is called in a reason, and its check.
FORMATS: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    "ip-or-cidr": ("IP address or CIDR", is_ip_or_cidr),
}
