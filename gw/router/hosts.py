"""Host names: the form the index compares, wildcards, and what a Host header has around the name."""

from collections.abc import Sequence


def normalise_host(raw: str) -> str:
    """The host of a Host header as the index knows it: lower case, no port, no trailing dot.

    An IPv6 literal keeps its brackets (`[::1]:9080` -> `[::1]`), as in nginx's `$host`; it is not rewritten otherwise.
    Several colons outside brackets are no port but a bare IPv6 address, and stay. Whether the name is a valid one is
    not asked here: the server refuses bad Host headers.
    """
    host = raw.lower()
    if host.startswith("["):
        address, bracket, _ = host.partition("]")
        return address + bracket
    if host.count(":") == 1:
        host = host.partition(":")[0]
    return host.removesuffix(".")


def normalise_pattern(pattern: str) -> str:
    """A host of a route as the index knows it. A port in it stays: such a host is never asked for, so never matches.

    APISIX compares it to the raw Host header in the uri modes, and never matches it in radixtree_host_uri.
    """
    lowered = pattern.lower().removesuffix(".")
    return pattern if lowered == pattern else lowered  # share the caller's string where it can be


def is_wildcard(pattern: str) -> bool:
    """`*.foo.com` (any host that ends in `.foo.com`) and `*foo.com` (`foo.com` itself too)."""
    return pattern.startswith("*")


def reversed_suffix(pattern: str) -> str:
    """The fixed end of a wildcard, last character first: a suffix search is a prefix search on reversed names."""
    return pattern[:0:-1]


def matched_host(hosts: Sequence[str], host: str) -> str | None:
    """Which of a route's hosts let a request's (normalised) host in; the longest wildcard where no host is equal.

    None for a route without hosts.
    """
    if host in hosts:
        return host
    fitting = [pattern for pattern in hosts if is_wildcard(pattern) and host.endswith(pattern[1:])]
    return max(fitting, key=len, default=None)
