"""An upstream that names an SSL to show to its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gw.model.merge import Missing
from gw.pipeline.upstream import UpstreamRuntime
from gw.schema import validate
from tests.rebuild.conftest import Memory
from tests.rebuild.test_state import Held

TLS = Path(__file__).parents[1] / "data" / "tls"
CERT, KEY = ((TLS / f"client.{name}").read_text() for name in ("pem", "key"))
OTHER_CERT, OTHER_KEY = ((TLS / f"server.{name}").read_text() for name in ("pem", "key"))


def client(cert: str = CERT, key: str = KEY, **more: Any) -> dict[str, Any]:
    return {"type": "client", "cert": cert, "key": key, **more}


def upstream(certificate_id: Any = "c") -> dict[str, Any]:
    return {"scheme": "https", "nodes": {"127.0.0.1:443": 1}, "tls": {"client_cert_id": certificate_id}}


def resources(**named: Any) -> dict[str, Any]:
    """`ssls__c={...}` as `{"ssls/c": {...}}`, with its defaults."""
    found = {}
    for name, value in named.items():
        kind, _, id = name.partition("__")
        found[f"{kind}/{id}"] = None if value is None else validate(kind, id, value)
    return found


def shown(held: Held, path: str) -> tuple[str, str]:
    runtime = held.upstream_at(path)
    assert isinstance(runtime, UpstreamRuntime)
    assert runtime.unsupported is None
    node = runtime.pick(None)  # type: ignore[arg-type]
    assert node is not None
    assert node.target.tls is not None
    material = node.target.tls.material
    assert material is not None
    return material.client_cert, material.client_key


@pytest.mark.parametrize(
    "more",
    [
        {"routes__1": {"uri": "/a", "upstream": upstream()}},
        {"routes__1": {"uri": "/a", "upstream_id": "u"}, "upstreams__u": upstream()},
        {"routes__1": {"uri": "/a", "service_id": "s"}, "services__s": {"upstream": upstream()}},
        {"routes__1": {"uri": "/a", "upstream": upstream(7)}, "ssls__7": client()},
    ],
    ids=["in a route", "of its own", "in a service", "an id that is a number"],
)
def test_its_nodes_are_shown_what_the_ssl_holds(memory: Memory, more: dict[str, Any]) -> None:
    memory.publish(resources(ssls__c=client(), **more))
    held = Held(memory)
    assert shown(held, "/a") == (CERT, KEY)


def test_another_certificate_reaches_every_route_and_an_unrelated_change_none(memory: Memory) -> None:
    routes = {f"routes__{n}": {"uri": f"/{n}", "upstream_id": "u"} for n in (1, 2)}
    memory.publish(resources(ssls__c=client(), upstreams__u=upstream(), **routes))
    held = Held(memory)
    before = held.upstream_at("/1")
    assert held.upstream_at("/2") is before

    memory.publish(resources(ssls__other=client()))
    held.update()
    assert held.upstream_at("/1") is before

    memory.publish(resources(ssls__c=client(OTHER_CERT, OTHER_KEY)))
    held.update()
    assert shown(held, "/1") == (OTHER_CERT, OTHER_KEY)
    assert held.upstream_at("/2") is held.upstream_at("/1") is not before


@pytest.mark.parametrize(
    ("ssl", "reason"),
    [
        (None, "failed to get ssl cert: ssl id [c] not exits"),
        (client() | {"type": "server", "snis": ["a"]}, "failed to get ssl cert: ssl type should be 'client'"),
        (client(key="$env://NO_SUCH"), "failed to get ssl cert: ssl id [c]: $env://NO_SUCH: "),
    ],
)
def test_what_is_not_there_is_502_until_it_is(memory: Memory, ssl: dict[str, Any] | None, reason: str) -> None:
    first = {} if ssl is None else {"ssls__c": ssl}
    memory.publish(resources(routes__1={"uri": "/a", "upstream": upstream()}, **first))
    held = Held(memory)
    missing = held.upstream_at("/a")
    assert isinstance(missing, Missing)
    assert missing.status == 502
    assert missing.reason.startswith(reason)
    assert list(held.state.problems.values()) == [missing.reason]

    memory.publish(resources(ssls__c=client()))
    held.update()
    assert shown(held, "/a") == (CERT, KEY)
    assert held.state.problems == {}

    memory.publish(resources(ssls__c=None))
    held.update()
    assert isinstance(held.upstream_at("/a"), Missing)


def test_a_key_may_be_a_reference(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_KEY", KEY)
    memory.publish(
        resources(routes__1={"uri": "/a", "upstream": upstream()}, ssls__c=client(key="$env://CLIENT_KEY"))
    )
    assert shown(Held(memory), "/a") == (CERT, KEY)
