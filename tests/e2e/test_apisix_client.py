"""A client of APISIX's Admin API that others wrote, PyPI's apisix-client, against a running gateway.

It drives what it knows: routes, services, upstreams, consumers (of the other kinds it has names and no code) and the
list of plugins.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from apisix_client import ApisixClient
from apisix_client.consumer.models import Consumer
from apisix_client.route.models import Route
from apisix_client.service.models import Service
from apisix_client.upstream.models import Node, Upstream

from tests.support.both_stores import STORES, store_config
from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway

NODES = [Node(host="127.0.0.1", port=8080, weight=1)]


@pytest.fixture(scope="module", params=STORES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with (
        store_config(request.param, tmp_path_factory.mktemp("store")) as config,
        running_gateway(tmp_path_factory.mktemp("gateway"), config, workers=1) as running,
    ):
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ApisixClient]:
    made = ApisixClient(f"http://127.0.0.1:{gateway.admin_port}/", ADMIN_KEY)
    yield made
    made._httpx_client.close()


def test_upstreams(client: ApisixClient) -> None:
    id = client.upstream.create_with_id_generation(Upstream(name="made", nodes=NODES, labels={"team": "a"}))
    assert id is not None
    assert client.upstream.create_or_update(Upstream(name="named", nodes=NODES, retries=2, scheme="http"), "u1") == "u1"
    found = client.upstream.get("u1")
    assert found is not None
    assert (found.key, found.value.id) == ("/apisix/upstreams/u1", "u1")
    assert (found.value.name, found.value.retries) == ("named", 2)
    assert found.created_index == found.modified_index > 0
    assert client.upstream.create_or_update(Upstream(name="renamed", nodes=NODES), "u1") == "u1"
    changed = client.upstream.get("u1")
    assert changed is not None
    assert changed.created_index == found.created_index < changed.modified_index
    assert (changed.value.name, changed.value.retries) == ("renamed", None)
    assert {each.value.id for each in client.upstream.get_all()} == {id, "u1"}
    assert client.upstream.count() == 2
    assert client.upstream.get("nothing") is None
    assert client.upstream.create_or_update(Upstream(scheme="nonsense", nodes=NODES), "u2") is None
    assert [client.upstream.delete(each) for each in (id, "u1", "u1")] == [1, 1, 0]
    assert client.upstream.count() == 0


def test_services_and_routes(client: ApisixClient) -> None:
    assert client.upstream.create_or_update(Upstream(nodes=NODES), "u1") == "u1"
    assert client.service.create_or_update(Service(name="s", upstream_id="u1", hosts=["a.example"]), "s1") == "s1"
    made = client.service.create_with_id_generation(Service(upstream=Upstream(nodes=NODES)))
    assert made is not None
    id = client.route.create_with_id_generation(Route(uri="/made", service_id="s1"))
    assert id is not None
    assert client.route.create_or_update(Route(uris=["/a", "/b"], upstream_id="u1", methods=["GET"]), "r1") == "r1"
    route = client.route.get("r1")
    assert route is not None
    assert (route.value.uris, route.value.upstream_id, route.value.methods) == (["/a", "/b"], "u1", ["GET"])
    assert {each.value.id for each in client.route.get_all()} == {id, "r1"}
    assert [each.value.id for each in client.route.get_all([1, 10])] == [id, "r1"]
    assert client.route.get_all([2, 10]) == ()
    assert {each.value.id for each in client.service.get_all()} == {"s1", made}
    service = client.service.get("s1")
    assert service is not None
    assert (service.value.name, service.value.hosts) == ("s", ["a.example"])
    assert client.route.create_or_update(Route(uri="/a", service_id="not-there"), "r2") is None
    assert (client.route.count(), client.service.count()) == (2, 2)
    assert all(client.route.delete(each) for each in (id, "r1"))
    assert not client.route.delete("r1")
    assert [client.service.delete(each) for each in ("s1", made)] == [1, 1]
    assert client.upstream.delete("u1") == 1


def test_consumers(client: ApisixClient) -> None:
    assert client.consumer.create_or_update(Consumer(username="jack", desc="first", labels={"team": "a"}))
    assert client.consumer.create_or_update(Consumer(username="jack", desc="second"))
    assert client.consumer.create_or_update(Consumer(username="jill"))
    assert not client.consumer.create_or_update(Consumer(username="no body"))
    assert not client.consumer.create_or_update(Consumer(username="jo", group_id="not-there"))
    found = client.consumer.get("jack")
    assert found is not None
    assert (found.key, found.value.username, found.value.desc) == ("/apisix/consumers/jack", "jack", "second")
    assert [each.value.username for each in client.consumer.get_all([1, 10])] == ["jack", "jill"]
    assert client.consumer.count() == 2
    assert client.consumer.get("nobody") is None
    assert [client.consumer.delete(name) for name in ("jack", "jill", "jill")] == [1, 1, 0]


def test_a_wrong_key_is_told(gateway: Gateway) -> None:
    stranger = ApisixClient(f"http://127.0.0.1:{gateway.admin_port}/", "a-key-that-nobody-gave")
    assert stranger.upstream.create_or_update(Upstream(nodes=NODES), "u1") is None
    stranger._httpx_client.close()
