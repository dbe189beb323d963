"""Which nodes a balancer is built from, when some are down."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from gw.model.upstream import Node


def serving_nodes(nodes: tuple[Node, ...], down: AbstractSet[str]) -> tuple[Node, ...]:
    """The nodes that are not down; all of them where that leaves none that takes traffic.

    One of weight 0 takes no traffic, but where it is the only one left it does: better than those that are down.
    `down` are names (`Node.authority`), as a `Watch` has them. Source: fetch_health_nodes in apisix/balancer.lua, and
    lua-resty-balancer, where a node that is alone is picked whatever its weight.
    """
    if not down:
        return nodes
    left = tuple(node for node in nodes if node.authority not in down)
    return left if len(left) == 1 or any(node.weight > 0 for node in left) else nodes
