"""A valid resource of each kind, and where the Admin API has it: what tables over all kinds are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gw.model.keys import KINDS
from gw.model.operations import UNSUPPORTED

_TLS: Final = Path(__file__).resolve().parents[1] / "data" / "tls"
UPSTREAM: Final[Mapping[str, Any]] = {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}


@dataclass(frozen=True)
class Example:
    """One resource of a kind. `key` is the one in the store, behind the prefix."""

    kind: str
    collection: str  # path below /apisix/admin
    id: str
    body: Mapping[str, Any] = field(repr=False)
    key: str = ""
    written_id: Any = ...  # member `id` of what is stored; None: there is none

    @property
    def path(self) -> str:
        """Of the resource, below /apisix/admin."""
        return f"{self.collection}/{self.id}"

    @property
    def store_key(self) -> str:
        """The key in the store, relative to its prefix."""
        return self.key or f"{self.kind}/{self.id}"

    @property
    def stored_id(self) -> Any:
        """What is stored as `id`, None for a kind that has none."""
        return self.id if self.written_id is ... else self.written_id

    def can(self, operation: str) -> bool:
        """Is there this operation (`create`, `patch`) for this kind?"""
        return operation not in UNSUPPORTED.get(self.kind, ())


def _examples() -> Iterator[Example]:
    yield Example("routes", "/routes", "r1", {"uri": "/r1", "upstream": UPSTREAM, "labels": {"team": "a"}})
    yield Example("services", "/services", "s1", {"upstream": UPSTREAM, "name": "s1"})
    yield Example("upstreams", "/upstreams", "u1", UPSTREAM)
    yield Example("consumers", "/consumers", "jack", {"username": "jack", "desc": "x"}, written_id=None)
    yield Example("consumer_groups", "/consumer_groups", "g1", {"plugins": {}})
    yield Example(
        "credentials", "/consumers/jack/credentials", "c1", {"desc": "x"}, key="consumers/jack/credentials/c1"
    )
    yield Example("global_rules", "/global_rules", "g1", {"plugins": {"request-id": {}}})
    yield Example("plugin_configs", "/plugin_configs", "p1", {"plugins": {"request-id": {}}})
    yield Example("plugin_metadata", "/plugin_metadata", "http-logger", {"log_format": {"a": "b"}}, written_id=None)
    pair = {"cert": (_TLS / "server.pem").read_text(), "key": (_TLS / "server.key").read_text()}
    yield Example("ssls", "/ssls", "t1", {**pair, "sni": "a.example"})
    yield Example("protos", "/protos", "p1", {"content": 'syntax = "proto3";\nmessage M { string a = 1; }\n'})
    vault = {"uri": "http://127.0.0.1:8200", "prefix": "kv/apisix", "token": "planted-vault-token"}
    yield Example("secrets", "/secrets/vault", "v1", vault, key="secrets/vault/v1", written_id="vault/v1")
    yield Example("stream_routes", "/stream_routes", "s1", {"server_port": 9100, "upstream": UPSTREAM})


# In an order in which each may be written: what it needs comes before it.
EXAMPLES: Final = tuple(_examples())
# The list of plugins is no collection.
assert {example.kind for example in EXAMPLES} == set(KINDS) - {"plugins"}
