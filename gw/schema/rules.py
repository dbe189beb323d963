"""Rules between fields that a schema cannot say. Plain functions over a resource that already fits its schema.

They are those of APISIX's `check_upstream_conf` (apisix/upstream.lua, 3.x) with its texts, and one of our own: the
addresses that nodes are keyed by must be addresses.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Any, Final

from gw.schema.certificates import certificate_complaints, pair_complaints
from gw.schema.explain import Complaint
from gw.schema.protobuf import content_fault
from gw.schema.wording import bare, quote

MAX_PORT: Final = 65535
# host, host:port, [IPv6], [IPv6]:port
_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|[0-9a-zA-Z._-]+)(?::(?P<port>[0-9]+))?\Z")

# By kind.
_EXCLUSIVE: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "routes": (("host", "hosts"), ("remote_addr", "remote_addrs")),
}

# APISIX's, to the letter, since clients are told them. (`A-z` lets some punctuation through, which does no harm.)
_HEADER_KEY: Final = "^[a-zA-Z0-9-_]+$"
# What chash may hash, by `hash_on`.
KEY_PATTERNS: Final[Mapping[str, str]] = {
    "vars": (
        "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|mqtt_client_id)"
        "|arg_[0-9a-zA-z_-]+)$"
    ),
    "header": _HEADER_KEY,
    "cookie": _HEADER_KEY,
}
_KEYS: Final = {hash_on: re.compile(pattern[:-1] + r"\Z") for hash_on, pattern in KEY_PATTERNS.items()}


def check_rules(kind: str, resource: Mapping[str, Any]) -> Complaint | None:
    """The first rule that the resource breaks, None when it keeps all."""
    for rule in RULES.get(kind, ()):
        for complaint in rule(resource):
            return complaint
    return None


def check_exclusive(kind: str, resource: Any) -> Complaint | None:
    """The first pair of fields of which only one may be there. Asked of a resource that does not fit its schema.

    The schema says so too, but APISIX asks this first, in words of its own (check_conf in apisix/admin/routes.lua).
    """
    if isinstance(resource, dict):
        for one, many in _EXCLUSIVE.get(kind, ()):
            if one in resource and many in resource:
                return Complaint((), f"only one of {one} or {many} is allowed", stands_alone=True)
    return None


def _upstream(upstream: Mapping[str, Any]) -> Iterator[Complaint]:
    nodes = upstream.get("nodes")
    if isinstance(nodes, dict):
        for address in nodes:
            if reason := address_fault(address):
                yield Complaint(("nodes", address), reason, stands_alone=True)
    rewrites = upstream["pass_host"] == "rewrite"  # noqa: S105 - a mode, not a password
    if rewrites and not upstream.get("upstream_host"):
        reason = "`upstream_host` can't be empty when `pass_host` is `rewrite`"
        yield Complaint(("upstream_host",), reason, stands_alone=True)
    tls = upstream.get("tls", {})
    if "client_cert" in tls:
        yield from pair_complaints(
            ("tls", "client_cert"), tls["client_cert"], ("tls", "client_key"), tls["client_key"]
        )
    if upstream["type"] == "chash":
        yield from _chash(upstream)


def _chash(upstream: Mapping[str, Any]) -> Iterator[Complaint]:
    hash_on = upstream["hash_on"]
    if hash_on == "consumer":
        return
    key = upstream.get("key")
    if key is None:
        yield Complaint(("key",), "missing key", stands_alone=True)
    elif hash_on in _KEYS and not _KEYS[hash_on].match(key):
        yield Complaint(("key",), f'failed to match pattern "{KEY_PATTERNS[hash_on]}" with {quote(key)}')


def _own_upstream(resource: Mapping[str, Any]) -> Iterator[Complaint]:
    if "upstream" in resource:
        for complaint in _upstream(resource["upstream"]):
            yield complaint._replace(place=("upstream", *complaint.place))


def address_fault(address: str) -> str | None:
    """What is wrong with the address that a node is keyed by, None when it is one."""
    match = _ADDRESS.match(address)
    literal = match["v6"] if match else address
    if literal is not None and not _is_ipv6(literal):
        return f"invalid node address {quote(address)}: expected host or host:port, IPv6 in brackets"
    port = match["port"] if match else None
    if port is not None and (len(port) > len(str(MAX_PORT)) or not 1 <= int(port) <= MAX_PORT):
        return f"invalid port {bare(port)}"
    return None


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except AddressValueError:
        return False


def _proto(proto: Mapping[str, Any]) -> Iterator[Complaint]:
    if fault := content_fault(proto["content"]):
        yield Complaint(("content",), f"invalid content: {fault}", stands_alone=True)


Rule = Callable[[Mapping[str, Any]], Iterator[Complaint]]
RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "routes": (_own_upstream,),
    "services": (_own_upstream,),
    "upstreams": (_upstream,),
    "ssls": (certificate_complaints,),
    "protos": (_proto,),
    "stream_routes": (_own_upstream,),
}
