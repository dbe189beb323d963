"""One resource of each kind, as a store holds it: two good values that differ, and a bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

_TLS: Final = Path(__file__).resolve().parent.parent / "data" / "tls"
_NODES: Final = {"127.0.0.1:80": 1}
_SSL: Final = {"cert": (_TLS / "server.pem").read_text(), "key": (_TLS / "server.key").read_text()}
_VAULT: Final = {"uri": "http://127.0.0.1:8200", "prefix": "kv", "token": "t"}
_GCP: Final = {"client_email": "a@b", "private_key": "k", "project_id": "p"}


class Sample(NamedTuple):
    """`bad` lacks what makes it one of its kind, or has what nobody may have there."""

    good: Any
    other: Any
    bad: Any


# By store key.
SAMPLES: Final[dict[str, Sample]] = {
    "routes/1": Sample({"uri": "/a", "upstream_id": "1"}, {"uri": "/b", "service_id": "1"}, {"uri": "/a"}),
    "services/1": Sample({"upstream": {"nodes": _NODES}}, {"name": "n"}, {"hosts": []}),
    "upstreams/1": Sample({"nodes": _NODES}, {"nodes": {"127.0.0.1:81": 1}}, {}),
    "consumers/jack": Sample({"username": "jack"}, {"username": "jack", "desc": "d"}, {"username": "rose"}),
    "consumer_groups/1": Sample({"plugins": {}}, {"plugins": {}, "name": "n"}, {}),
    "consumers/jack/credentials/1": Sample(
        {"plugins": {"key-auth": {"key": "a"}}}, {"plugins": {"key-auth": {"key": "b"}}}, {"username": "jack"}
    ),
    "global_rules/1": Sample({"plugins": {}}, {"plugins": {"a": {}}}, {"plugins": [1]}),
    "plugin_configs/1": Sample({"plugins": {}}, {"plugins": {}, "desc": "d"}, {"plugins": 1}),
    "plugin_metadata/syslog": Sample({"a": 1}, {"a": 2}, {"create_time": "x"}),
    "plugins": Sample([{"name": "a"}], [{"name": "b", "stream": True}], ["a"]),
    "ssls/1": Sample(_SSL | {"sni": "a.com"}, _SSL | {"snis": ["b.com"]}, _SSL),
    "ssl/2": Sample(_SSL | {"sni": "c.com"}, _SSL | {"sni": "d.com"}, _SSL | {"sni": "a b"}),
    "protos/1": Sample({"content": "message A {}"}, {"content": "message B {}"}, {"content": "message A {"}),
    "proto/2": Sample({"content": "message C {}"}, {"content": "message D {}"}, {"content": ""}),
    "secrets/vault/1": Sample(_VAULT, _VAULT | {"prefix": "p"}, _VAULT | {"uri": "nowhere"}),
    "secrets/aws/1": Sample(
        {"access_key_id": "a", "secret_access_key": "b"},
        {"access_key_id": "c", "secret_access_key": "d"},
        {"access_key_id": "a"},
    ),
    "secrets/gcp/1": Sample({"auth_config": _GCP}, {"auth_file": "/a"}, {}),
    "secrets/kubernetes/1": Sample({}, {"ssl_verify": False}, {"ssl_verify": 1}),
    "stream_routes/1": Sample({"server_port": 9100}, {"sni": "a.com"}, {"server_addr": "a.com"}),
}
