"""Consumers in whole gateways: written to the store, found by every worker, changed while requests come."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.test_failures import etcd_config
from tests.support.etcd import Etcd, has_etcd
from tests.support.gateway import Gateway, Reply, running_gateway
from tests.support.stores import SqliteBackend
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import wait_until


class Place(NamedTuple):
    """`put` writes to the store, past the Admin API, and waits until all workers serve it."""

    gateway: Gateway
    upstream: Upstream
    put: Callable[[dict[str, dict[str, Any]]], None]


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "etcd" and not has_etcd():
        pytest.skip("no etcd is installed")
    with ExitStack() as stack:
        etcd = stack.enter_context(Etcd(tmp_path)) if request.param == "etcd" else None
        upstream = stack.enter_context(running_upstream())
        config = None if etcd is None else etcd_config(etcd.endpoint)
        gateway = stack.enter_context(running_gateway(tmp_path / "gateway", config))
        sqlite = SqliteBackend(gateway.directory / "data")
        write = sqlite.put if etcd is None else lambda key, value: etcd.put(f"/apisix/{key}", value)
        numbers = iter(range(1, 1000))

        def put(resources: dict[str, dict[str, Any]]) -> None:
            for key, resource in resources.items():
                write(key, json.dumps(resource))
            # The last change of all: where it is served, the others are.
            number = next(numbers)
            write("routes/seen", json.dumps({"uri": f"/seen/{number}", "upstream": {"nodes": {"127.0.0.1:1": 1}}}))
            gateway.wait_served(f"/seen/{number}", status=502)

        yield Place(gateway, upstream, put)


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def everywhere(place: Place, path: str, headers: dict[str, str]) -> Reply:
    """The answer, the same of all workers: each connection may be another's."""
    replies = [place.gateway.call(path, headers=headers) for _ in range(12)]
    assert len({reply.status for reply in replies}) == 1
    return replies[-1]


def test_consumers_credentials_groups_and_their_plugins(place: Place):
    nodes = {"upstream": {"nodes": {f"127.0.0.1:{place.upstream.port}": 1}}}
    rewrite = {"headers": {"set": {"x-tier": "$consumer_name"}}}
    place.put(
        {
            "routes/key": {"uri": "/key", "plugins": {"key-auth": {"hide_credentials": True}}, **nodes},
            "routes/basic": {"uri": "/basic", "plugins": {"basic-auth": {"anonymous_consumer": "guest"}}, **nodes},
            "consumer_groups/gold": {"plugins": {"proxy-rewrite": rewrite}},
            "consumers/jack": {"username": "jack", "group_id": "gold", "plugins": {"key-auth": {"key": "jacks-key"}}},
            "consumers/jack/credentials/second": {"plugins": {"basic-auth": {"username": "j", "password": "pw"}}},
            "consumers/guest": {
                "username": "guest",
                "plugins": {"response-rewrite": {"headers": {"set": {"x-guest": "yes"}}}},
            },
        }
    )
    for path, headers, credential in (
        ("/key", {"apikey": "jacks-key"}, None),
        ("/basic", basic("j", "pw"), "second"),
    ):
        reply = everywhere(place, path, headers | {"x-consumer-username": "admin"})
        assert reply.status == 200
        told = reply.json()["headers"]
        assert (told["x-consumer-username"], told["x-tier"]) == ("jack", "jack")
        assert told.get("x-credential-identifier") == credential
        assert "apikey" not in told
    assert everywhere(place, "/key", {"apikey": "wrong"}).json() == {"message": "Invalid API key in request"}
    guest = everywhere(place, "/basic", {})
    assert (guest.status, guest.headers["x-guest"]) == (200, "yes")
    assert guest.json()["headers"]["x-consumer-username"] == "guest"

    changed = {"headers": {"set": {"x-tier": "changed"}}}
    place.put(
        {
            "consumer_groups/gold": {"plugins": {"proxy-rewrite": changed}},
            "consumers/jack": {"username": "jack", "group_id": "gold", "plugins": {"key-auth": {"key": "new-key"}}},
        }
    )
    assert everywhere(place, "/key", {"apikey": "jacks-key"}).status == 401
    assert everywhere(place, "/key", {"apikey": "new-key"}).json()["headers"]["x-tier"] == "changed"

    place.put({"consumers/twin": {"username": "twin", "plugins": {"key-auth": {"key": "new-key"}}}})
    assert everywhere(place, "/key", {"apikey": "new-key"}).json()["headers"]["x-consumer-username"] == "jack"
    wait_until(
        lambda: all(worker["problems"] for worker in place.gateway.status()["workers"]), what="the twin to be reported"
    )
    written = place.gateway.output()
    assert "consumers/twin: key-auth: consumers/jack shows the same key, and counts" in written
    for secret in ("jacks-key", "new-key", basic("j", "pw")["authorization"].split()[1]):
        assert secret not in written
