"""Hosts of routes: the form the index compares, and wildcards."""


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
