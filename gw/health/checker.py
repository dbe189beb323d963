"""What is checked: the targets of one upstream, with its checks. Equal in every worker that holds the same resource.

A target is what a state belongs to: a node's host, with the port that is probed. Nodes that are probed on one port of
one host share a target, as in APISIX (create_checker in apisix/healthcheck_manager.lua).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgpack

from gw.health.checks import Checks
from gw.model.hosts import is_address
from gw.model.keys import ResourceKey
from gw.model.upstream import Node, Upstream

MARK_BYTES: Final = 8


class Target(NamedTuple):
    """Where a probe goes, and the Host it sends. `host` is a name or an address, IPv6 without brackets."""

    host: str
    port: int
    host_header: str

    @property
    def name(self) -> str:
        """host:port, with IPv6 in brackets: the target's name on the board."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Checker:
    """One upstream's checks and targets. `key` is that of the resource the upstream is written in.

    `written` are the checks as the resource has them, to be handed on to other processes.
    """

    key: ResourceKey
    checks: Checks
    written: Mapping[str, Any]
    targets: tuple[Target, ...]

    @cached_property
    def mark(self) -> bytes:
        """The key in 8 bytes: ids may be longer than a key of the store."""
        return mark_of(self.key)

    @cached_property
    def packed(self) -> bytes:
        """What another process makes an equal checker of. Compressed: names of a thousand nodes are much alike."""
        targets = [tuple(target) for target in self.targets]
        return zlib.compress(msgpack.packb((self.key.kind, self.key.id, self.written, targets)), level=1)


def mark_of(key: ResourceKey) -> bytes:
    """A resource's key in 8 bytes."""
    return blake2b(f"{key.kind}\0{key.id}".encode("utf-8", "surrogatepass"), digest_size=MARK_BYTES).digest()


def unpack_checker(packed: bytes) -> Checker:
    """The checker behind `Checker.packed`."""
    kind, id, written, targets = msgpack.unpackb(zlib.decompress(packed), strict_map_key=True)
    return Checker(
        ResourceKey(kind, id), Checks.from_dict(written), written, tuple(Target(*target) for target in targets)
    )


def checker_of(key: ResourceKey, upstream: Upstream) -> Checker | None:
    """What to check of an upstream; None where it has no checks, or no nodes.

    One node takes the traffic whether it is healthy or not, but whoever watches it wants to know.
    """
    if upstream.checks is None or not upstream.nodes:
        return None
    checks = Checks.from_dict(upstream.checks)
    targets = {target_name(node, checks): _target(node, checks, upstream) for node in upstream.nodes}
    return Checker(key, checks, upstream.checks, tuple(targets.values()))


def target_name(node: Node, checks: Checks) -> str:
    """The name of the target that a node's health is that of."""
    return Target(node.host, checks.active.port or node.port, "").name


def _target(node: Node, checks: Checks, upstream: Upstream) -> Target:
    """Which Host a probe sends: pass_host goes before `checks.active.host`, and a port is never named, as in APISIX."""
    header = checks.active.host or node.host
    if upstream.pass_host == "rewrite" and upstream.upstream_host:  # noqa: S105 - a mode, not a password
        header = upstream.upstream_host
    elif upstream.pass_host == "node" and not is_address(node.host):  # noqa: S105
        header = node.host
    return Target(node.host, checks.active.port or node.port, header)
