"""Texts that a schema asks for: its patterns in Python's dialect, and the formats that no pattern says well.

A pattern in a schema is ECMA's: `$` is the end of the text. Python's `$` also matches before a last newline, so it is
translated; without that `"a\\n"` would pass for an id. The patterns in use have no nested or overlapping repeats, so
their cost grows with the text and not faster.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import AddressValueError, IPv4Network, IPv6Address, IPv6Network, NetmaskValueError
from typing import Final

_END: Final = re.compile(r"(?<!\\)\$")
_IPV6_BITS: Final = 128
# ::ffff:0:0/96 is where IPv4 lives inside IPv6.
_MAPPED_PREFIX_BITS: Final = 96


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The pattern of a schema as Python's expression, to be used with `search`."""
    return re.compile(_END.sub(r"\\Z", pattern))


def is_ip_or_cidr(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, alone or as a network in CIDR notation.

    Host bits may be set, as in APISIX's documentation (`fe80::1/64`). A network of IPv4-mapped addresses that is wider
    than they are (`::ffff:10.0.0.0/8`) is refused: read as written it would hold all of IPv4 and far more. So are zone
    ids (`fe80::1%eth0`) and netmasks in place of a length.
    """
    address, slash, bits = text.partition("/")
    if slash and not (bits.isascii() and bits.isdigit() and len(bits) <= len(str(_IPV6_BITS))):
        return False
    try:
        if ":" not in address:
            IPv4Network(text, strict=False)
            return True
        if "%" in address:
            return False
        network = IPv6Network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        return False
    return IPv6Address(address).ipv4_mapped is None or network.prefixlen >= _MAPPED_PREFIX_BITS


# What a failed format is called in a reason, and its check.
FORMATS: Final[Mapping[str, tuple[str, Callable[[str], bool]]]] = {
    "ip-or-cidr": ("IP address or CIDR", is_ip_or_cidr),
}
