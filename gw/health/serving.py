"""Which nodes a balancer is built from, when some are down."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from gw.model.upstream import Node


def serving_nodes(nodes: tuple[Node, ...], down: AbstractSet[str]) -> tuple[Node, ...]:
    """The nodes that are not down; all of them where that leaves none that takes traffic.

    `down` are names (`Node.authority`), as a `Watch` has them. Source: fetch_health_nodes in apisix/balancer.lua, which
    asks whether any node is left, whatever its weight; one of weight 0 takes no traffic and is none.
    """
    if not down:
        return nodes
    left = tuple(node for node in nodes if node.authority not in down)
    return left if any(node.weight > 0 for node in left) else nodes
