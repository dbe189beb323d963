"""How a resource is named: (kind, id), and the key it has in a store below the prefix.

The layout is APISIX's (`<prefix>/routes/1`), so an existing etcd can be pointed at.
"""

from typing import Final, NamedTuple

# Kinds that are published to workers. A store may hold others (APISIX's own, or a neighbour's): they are left alone.
KINDS: Final = ("routes", "services", "upstreams", "plugin_configs", "global_rules", "plugin_metadata")


class ResourceKey(NamedTuple):
    """What a resource is known by everywhere. `kind` is APISIX's plural; `id` is never empty for the kinds here."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


def parse_store_key(key: str) -> ResourceKey | None:
    """The resource behind a store key that is relative to the prefix (`routes/1`).

    None for what is not a resource of ours: other kinds, and the directory placeholders (`routes/`) that APISIX's
    `init_etcd` leaves with the value `init_dir`.
    """
    kind, slash, id = key.partition("/")
    if kind not in KINDS or not slash or not id:
        return None
    return ResourceKey(kind, id)
