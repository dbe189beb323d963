"""All resources as one document over the Admin API: the flows of APISIX's own tests (t/admin/standalone.spec.ts)."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gateway import ADMIN_KEY, Gateway, Reply, request, running_gateway
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import wait_until

CONFIG = {
    "deployment": {
        "role": "traditional",
        "role_traditional": {"config_provider": "yaml"},
        "admin": {
            "admin_key": [
                {"name": "admin", "key": ADMIN_KEY, "role": "admin"},
                {"name": "viewer", "key": "a-viewers-key-0123456789", "role": "viewer"},
            ]
        },
    },
    "gw": {"limits": {"document": "1m"}},
}
YAML = "application/yaml"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for the tests that leave nothing behind but the versions of kinds."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), CONFIG) as gateway:
        yield gateway


class Client:
    """Puts documents under digests of their own."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.digest = ""

    def call(self, method: str, path: str = "", body: Any = None, **headers: str) -> Reply:
        raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"X-API-KEY": ADMIN_KEY} | {name.replace("_", "-"): value for name, value in headers.items()}
        return request(self.gateway.admin_port, method, f"/apisix/admin/configs{path}", raw, sent)

    def put(self, body: Any, path: str = "", **headers: str) -> Reply:
        self.digest = f"digest {uuid.uuid4()}"
        return self.call("PUT", path, body, X_Digest=self.digest, **headers)

    def put_yaml(self, body: Any) -> Reply:
        return self.put(yaml.safe_dump(body).encode(), Content_Type=YAML)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET").json()
        return found

    def versions(self) -> set[int]:
        """Of all kinds but routes."""
        return {
            version
            for name, version in self.document().items()
            if name.endswith("_conf_version") and name != "routes_conf_version"
        }


def route(upstream: Upstream, uri: str, **more: Any) -> dict[str, Any]:
    node = {"nodes": {f"127.0.0.1:{upstream.port}": 1}, "type": "roundrobin"}
    return {"id": "r1", "uri": uri, "upstream": node, **more}


def test_the_normal_flows(tmp_path: Path, upstream: Upstream) -> None:
    with running_gateway(tmp_path, CONFIG) as gateway:
        client = Client(gateway)
        empty = client.call("GET")
        assert (empty.status, empty.headers["content-type"]) == (200, "application/json")
        assert {"x-digest", "x-last-modified"}.isdisjoint(empty.headers)
        assert empty.json()["routes_conf_version"] == 0
        assert client.versions() == {0}
        as_yaml = client.call("GET", Accept=YAML)
        assert as_yaml.headers["content-type"] == YAML
        assert yaml.safe_load(as_yaml.body) == empty.json()
        assert "x-digest" not in client.call("HEAD").headers

        first = {"routes": [route(upstream, "/r1")]}
        reply = client.put(first)
        assert (reply.status, reply.body) == (202, b"")
        assert reply.headers["x-digest"] == client.digest
        assert int(reply.headers["x-last-modified"]) > 0
        assert client.call("PUT", body={"routes": []}, X_Digest=client.digest).status == 204
        head = client.call("HEAD")
        assert (head.status, head.headers["x-digest"]) == (200, client.digest)
        assert head.headers["x-last-modified"] == reply.headers["x-last-modified"]
        assert client.document()["routes"] == first["routes"]
        assert client.versions() == {1}
        text = client.call("GET", Accept=YAML).body.decode()
        assert "routes:\n" in text
        assert "id: r1" in text
        assert not text.startswith("---")
        gateway.wait_served("/r1")

        assert client.put_yaml({"routes": [route(upstream, "/r2", id="r2")]}).status == 202
        assert client.versions() == {2}
        gateway.wait_served("/r2")
        gateway.wait_served("/r1", 404)

        assert client.put({}).status == 202
        gateway.wait_served("/r2", 404)
        for version, others in ((15, 4), (17, 5)):
            assert client.put_yaml({"routes_conf_version": version}).status == 202
            assert client.document()["routes_conf_version"] == version
            assert client.versions() == {others}

        # Items are taken by their index. With wait, 200 says that every worker serves it.
        for uri, index, served in (("/r1", 1, "/r1"), ("/r2", 1, "/r1"), ("/r2", 2, "/r2")):
            assert client.put({"routes": [route(upstream, uri, modifiedIndex=index)]}, "?wait=60000").status == 200
            assert {each: gateway.call(each).status for each in ("/r1", "/r2")} == {
                each: 200 if each == served else 404 for each in ("/r1", "/r2")
            }
            assert client.document()["routes"][0]["uri"] == uri


def test_it_survives_agent_and_gateway(tmp_path: Path, upstream: Upstream) -> None:
    path = tmp_path / "data" / "standalone"
    with running_gateway(tmp_path, CONFIG) as gateway:
        client = Client(gateway)
        assert client.put({"routes": [route(upstream, "/kept", modifiedIndex=1)]}).status == 202
        assert client.put({"routes": [route(upstream, "/not-taken", modifiedIndex=1)]}, "?wait=60000").status == 200
        before = client.document()
        path = tmp_path / "data" / f"standalone.{gateway.name}.json"
        assert path.stat().st_mode & 0o777 == 0o600

        agent = gateway.agent_pid()
        version = gateway.status()["agent"]["version"]
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: gateway.agent_pid() != agent, what="another agent")
        wait_until(lambda: client.call("GET").status == 200, what="the Admin API")
        assert client.document() == before
        assert gateway.status()["agent"]["version"] == version

        gateway.stop()
        gateway.start()
        gateway.wait_served("/kept")
        gateway.wait_served("/not-taken", 404)
        assert client.document() == before
        assert client.call("PUT", body={}, X_Digest=client.digest).status == 204

        # A damaged file takes nothing away, and the next document mends it.
        gateway.stop()
        path.write_text('{"document"')
        gateway.start()
        gateway.wait_served("/kept")
        assert "is not used" in gateway.status()["agent"]["problem"]
        assert client.call("GET").status == 503
        assert client.put({"routes": [route(upstream, "/mended")]}).status == 202
        gateway.wait_served("/mended")
        gateway.wait_served("/kept", 404)


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b'{"routes": []}', {}, 400, "missing digest header"),
        (b"", {"X_Digest": "x"}, 400, "invalid request body: empty request body"),
        (b"{abcd", {"X_Digest": "x"}, 400, "invalid request body: invalid JSON"),
        (b"[1]", {"X_Digest": "x"}, 400, "invalid request body: must hold a mapping"),
        (b'{"routes": [], "routes": []}', {"X_Digest": "x"}, 400, "duplicate name"),
        (b'{"routes": {}}', {"X_Digest": "x"}, 400, "routes: must be a list"),
        (b"invalid: yaml: [", {"X_Digest": "x", "Content_Type": YAML}, 400, "invalid request body: line 1"),
        (b'{"routes_conf_version": "adc"}', {"X_Digest": "x"}, 400, "routes_conf_version must be a number"),
        (b'{"routes": [{"id": "1", "uri": 123}]}', {"X_Digest": "x"}, 400, "invalid routes at index 0, err: invalid"),
        (b'{"routes": [7]}', {"X_Digest": "x"}, 400, "invalid routes at index 0, err: "),
        (
            b'{"services": [{"id": "s1", "plugins": {"invalid-plugin": {}}}]}',
            {"X_Digest": "x"},
            400,
            "invalid services at index 0, err: unknown plugin [invalid-plugin]",
        ),
        (
            b'{"upstreams": [{"id": 1, "nodes": {}, "type": "roundrobin"}, {"id": "1", "nodes": {}}]}',
            {"X_Digest": "x"},
            400,
            "found duplicate id 1 in upstreams",
        ),
        (b" " * ((1 << 20) + 1), {"X_Digest": "x"}, 413, "invalid request body: request size"),
        (b"{}", {"X_Digest": "x", "X_API_KEY": "wrong"}, 401, "failed to check token"),
        (b"{}", {"X_Digest": "x", "X_API_KEY": "a-viewers-key-0123456789"}, 401, "failed to check token"),
    ],
)
def test_what_is_refused_changes_nothing(
    shared: Gateway, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    client = Client(shared)
    before = client.document()
    reply = client.call("PUT", "", body, **headers)
    assert reply.status == status, reply
    assert reply.json()["error_msg"].startswith(reason) or reason in reply.json()["error_msg"]
    assert client.document() == before


def test_a_lower_version_is_refused(shared: Gateway) -> None:
    client = Client(shared)
    current = client.document()["routes_conf_version"] + 100
    assert client.put({"routes_conf_version": current}).status == 202
    reply = client.put({"routes_conf_version": current - 1})
    assert reply.status == 400
    assert reply.json() == {"error_msg": f"routes_conf_version must be greater than or equal to ({current})"}


@pytest.mark.parametrize("digest", ["", "é", 'a "quoted" \\ one', "x" * 4000])
def test_a_digest_is_any_text(shared: Gateway, digest: str) -> None:
    client = Client(shared)
    assert client.call("PUT", body={}, X_Digest=digest).status == 202
    assert client.call("PUT", body={}, X_Digest=digest).status == 204
    shown = client.call("HEAD").headers["x-digest"]
    assert shown == client.document()["X-Digest"] == digest


def test_resources_are_read_one_by_one_and_not_written_so(shared: Gateway, upstream: Upstream) -> None:
    client = Client(shared)
    assert client.put({"routes": [route(upstream, "/one")]}, "?wait=60000").status == 200
    assert shared.admin("GET", "/routes/r1").json()["value"]["uri"] == "/one"
    for method, path in (("PUT", "/routes/r1"), ("POST", "/routes"), ("DELETE", "/routes/r1")):
        reply = shared.admin(method, path, None if method == "DELETE" else {"uri": "/x", "upstream": {"nodes": {}}})
        assert reply.status == 400
        assert "PUT /apisix/admin/configs" in reply.json()["error_msg"]
    assert client.call("POST", body={}).status == 405
    # A document holds secrets that a single resource is shown without.
    viewer = {"X_API_KEY": "a-viewers-key-0123456789"}
    assert [client.call(method, **viewer).status for method in ("GET", "HEAD", "PUT")] == [401, 401, 401]
    assert shared.admin("GET", "/routes/r1", key=viewer["X_API_KEY"]).status == 200


VALID = {
    "routes": [
        {"id": "r1", "uri": "/r1", "upstream_id": "u1"},
        {"id": "r2", "uri": "/r2", "modifiedIndex": 3, "upstream_id": "not-there"},
    ],
    "services": [{"id": "s1", "upstream": {"nodes": {"127.0.0.1:1980": 1}, "type": "roundrobin"}}],
    "services_conf_version": 1,
}


@pytest.mark.parametrize("as_yaml", [False, True])
def test_a_valid_document_is_found_valid_and_not_kept(shared: Gateway, as_yaml: bool) -> None:
    client = Client(shared)
    before = client.document()
    headers = {"Content_Type": YAML} if as_yaml else {}
    text = yaml.safe_dump(VALID).encode() if as_yaml else VALID
    reply = client.call("POST", "/validate", text, **headers)
    assert (reply.status, reply.json()) == (200, {})
    assert client.document() == before


def test_all_that_is_wrong_is_told(shared: Gateway) -> None:
    good = {"nodes": {"127.0.0.1:1980": 1}, "type": "roundrobin"}
    document = {
        "routes": [
            {"id": "r1", "uri": "/r1", "upstream": good},
            {"id": "r1", "uri": "/r2", "upstream": {**good, "invalid_field": "x"}},
            {"uri": "/r3", "plugins": {"invalid-plugin": {}}},
        ],
        "upstreams": [{**good, "id": "u", "type": "chash", "hash_on": "vars", "key": "args_invalid"}],
        "routes_conf_version": "not_a_number",
    }
    reply = Client(shared).call("POST", "/validate", document)
    assert reply.status == 400
    answer = reply.json()
    assert answer["error_msg"] == "Configuration validation failed"
    told = [(error["resource_type"], error.get("resource_id"), error.get("index")) for error in answer["errors"]]
    assert told == [
        ("routes", None, None),
        ("routes", "r1", 1),
        ("routes", "r1", 1),
        ("routes", None, 2),
        ("upstreams", "u", 0),
    ]
    texts = [error["error"] for error in answer["errors"]]
    assert texts[0] == "routes_conf_version must be a number, got string"
    assert texts[1].startswith("invalid routes at index 1, err: invalid configuration: ")
    assert texts[2] == "found duplicate id r1 in routes"
    assert texts[3] == "invalid routes at index 2, err: unknown plugin [invalid-plugin]"
    assert "failed to match pattern" in texts[4]


@pytest.mark.parametrize(("body", "reason"), [(b"", "empty request body"), (b"{", "invalid JSON")])
def test_what_cannot_be_checked(shared: Gateway, body: bytes, reason: str) -> None:
    reply = Client(shared).call("POST", "/validate", body)
    assert reply.status == 400
    assert reply.json()["error_msg"].startswith("invalid request body: ")
    assert reason in reply.json()["error_msg"]


def test_consumers_and_their_credentials(shared: Gateway, upstream: Upstream) -> None:
    client = Client(shared)
    credentials = [
        {"id": f"john_1/credentials/{name}", "plugins": {"key-auth": {"key": f"key-{name}"}}} for name in ("a", "b")
    ]
    document = {"consumers": [{"username": "john_1"}, *credentials]}
    assert client.call("POST", "/validate", document).status == 200
    twice = client.call("POST", "/validate", {"consumers": [*credentials, credentials[0]]})
    assert "found duplicate credential id john_1/credentials/a in consumers" in twice.body.decode()
    twice = client.call("POST", "/validate", {"consumers": [{"username": "jack"}, {"username": "jack"}]})
    assert "found duplicate username jack in consumers" in twice.body.decode()


def test_consumers_and_credentials_let_in_whom_the_document_names(shared: Gateway, upstream: Upstream) -> None:
    client = Client(shared)
    guarded = [route(upstream, "/guarded", plugins={"key-auth": {}})]

    def statuses(*keys: str) -> list[int]:
        return [shared.call("/guarded", headers={"apikey": key}).status for key in keys]

    def put(*consumers: dict[str, Any]) -> None:
        assert client.put({"routes": guarded, "consumers": list(consumers)}, "?wait=60000").status == 200

    def jack(key: str, index: int) -> dict[str, Any]:
        return {"username": "jack", "modifiedIndex": index, "plugins": {"key-auth": {"key": key}}}

    put(jack("jack-key", 10))
    assert statuses("jack-key", "new-key", "wrong") == [200, 401, 401]
    put(jack("new-key", 10))
    assert statuses("jack-key", "new-key") == [200, 401]
    put(jack("new-key", 11))
    assert statuses("jack-key", "new-key") == [401, 200]
    put(
        {"username": "john_1"},
        {"id": "john_1/credentials/john-a", "plugins": {"key-auth": {"key": "auth-a"}}},
        {"id": "john_1/credentials/john-b", "plugins": {"key-auth": {"key": "auth-b"}}},
    )
    assert statuses("auth-a", "auth-b", "new-key") == [200, 200, 401]


def test_documents_are_checked_and_not_taken_where_resources_are_put_one_by_one(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        client = Client(gateway)
        assert client.call("POST", "/validate", VALID).status == 200
        assert client.call("POST", "/validate", {"routes": [{"uri": 7}]}).status == 400
        for method in ("GET", "PUT"):
            assert client.call(method, "", b"{}" if method == "PUT" else None, X_Digest="x").status == 404
