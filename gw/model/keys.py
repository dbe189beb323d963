"""How a resource is named: (kind, id), and the key it has in a store below the prefix.

The layout is APISIX's (`<prefix>/routes/1`), so an existing etcd can be pointed at. In most kinds the store key is the
kind and the id. The exceptions:

- a credential lies below its consumer: `consumers/jack/credentials/x` is ("credentials", "jack/x");
- a secret lies below its manager: `secrets/vault/x` is ("secrets", "vault/x");
- the list of plugins is one resource with no id: `plugins` is ("plugins", "");
- APISIX 2.x kept SSLs and protos under other names: `ssl/x` is ("ssls", "x"), `proto/x` is ("protos", "x"). Both names
  may be there; the newer one counts (`has_old_name`).
"""

from typing import Final, NamedTuple

# Kinds that are published to workers. A store may hold others (APISIX's own, or a neighbour's): they are left alone.
KINDS: Final = (
    "routes",
    "services",
    "upstreams",
    "consumers",
    "consumer_groups",
    "credentials",
    "global_rules",
    "plugin_configs",
    "plugin_metadata",
    "plugins",
    "ssls",
    "protos",
    "secrets",
    "stream_routes",
)
# What APISIX 2.x called a kind in store keys and Admin API paths.
OLD_NAMES: Final = {"ssl": "ssls", "proto": "protos"}
# The one resource of its kind has this id.
PLUGINS_ID: Final = ""

_BELOW_CONSUMER: Final = "credentials"


class ResourceKey(NamedTuple):
    """What a resource is known by everywhere. `kind` is APISIX's plural; only the list of plugins has an empty `id`."""

    kind: str
    id: str

    def __str__(self) -> str:
        """The key in the store, relative to the prefix."""
        if self.kind == _BELOW_CONSUMER:
            username, _, id = self.id.partition("/")
            return f"consumers/{username}/{_BELOW_CONSUMER}/{id}"
        return f"{self.kind}/{self.id}" if self.id else self.kind

    @property
    def written_id(self) -> str | None:
        """What the stored resource has as its `id`; None where APISIX stores none (a consumer is its `username`)."""
        match self.kind:
            case "consumers" | "plugin_metadata" | "plugins":
                return None
            case "credentials":
                return self.id.partition("/")[2]
            case _:
                return self.id


def credential_key(username: str, id: str) -> ResourceKey:
    """The key of a consumer's credential."""
    return ResourceKey(_BELOW_CONSUMER, f"{username}/{id}")


def parse_store_key(key: str) -> ResourceKey | None:
    """The resource behind a store key that is relative to the prefix (`routes/1`).

    None for what is not a resource of ours: other kinds, and the directory placeholders (`routes/`) that APISIX's
    `init_etcd` leaves with the value `init_dir`.
    """
    name, slash, id = key.partition("/")
    if key == "plugins":
        return ResourceKey("plugins", PLUGINS_ID)
    kind = OLD_NAMES.get(name, name)
    if kind not in KINDS or kind in ("plugins", _BELOW_CONSUMER) or not slash or not id:
        return None
    if kind == "consumers" and "/" in id:
        return _parse_below_consumer(id)
    return ResourceKey(kind, id)


def has_old_name(key: str) -> bool:
    """Whether a store key names its resource as APISIX 2.x did.

    The resource may have a value under its newer name, too, and then that one counts.
    """
    return key.partition("/")[0] in OLD_NAMES


def store_keys(key: ResourceKey) -> tuple[str, ...]:
    """Every store key that a resource may lie under. The first counts where there are several, and is the one to write
    a new resource to."""
    old = (f"{name}/{key.id}" for name, kind in OLD_NAMES.items() if kind == key.kind)
    return (str(key), *old)


def _parse_below_consumer(path: str) -> ResourceKey | None:
    username, _, below = path.partition("/")
    directory, _, id = below.partition("/")
    if directory != _BELOW_CONSUMER or not username or not id:
        return None
    return credential_key(username, id)
