"""Secrets from end to end: in clear where they are used, encrypted where they lie, and nowhere else.

The rows of shared/advisories.md on what leaves the process, with secrets planted in resources; APISIX's own values in a
real etcd; rotating keys as docs/secrets.md has it.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gw.shm.segment import SHM_DIR
from sync_agent.encryption import Keyring
from tests.support.canary import Canary, running_canary
from tests.support.etcd import Etcd
from tests.support.gateway import Gateway, request, running_gateway
from tests.support.metrics import METRICS_PATH
from tests.support.waiting import wait_until

TLS = Path(__file__).parents[1] / "data" / "tls"
CERT, PRIVATE_KEY = ((TLS / name).read_text() for name in ("server.pem", "server.key"))
# A line of it that no certificate has.
KEY_LINE = PRIVATE_KEY.splitlines()[1]

PLANTED = "Bearer planted-71f0c4d8"
PASSWORD = "planted-redis-password-40c1"
BAD = "planted-in-a-bad-request-9d2e"
OLD, NEW, STRANGERS = "an-older-key-456", "fedcba98765432100123456789abcdef", "someone else key"
PUBLISHED = "edd1c9f0985e76a2"
# As `openssl rand -hex 32` makes them: of the form of a ciphertext.
HEX_KEY = "0f1e" * 16


def logging_route(canary: Canary, auth_header: str = PLANTED, uri: str = "/logged") -> dict[str, Any]:
    logger = {"uri": f"http://127.0.0.1:{canary.port}/logs", "auth_header": auth_header, "batch_max_size": 1}
    upstream = {"type": "roundrobin", "nodes": {f"127.0.0.1:{canary.port}": 1}}
    return {"uri": uri, "upstream": upstream, "plugins": {"http-logger": logger}}


def limited() -> dict[str, Any]:
    limit = {"count": 1, "time_window": 60, "policy": "redis", "redis_host": "h.invalid", "redis_password": PASSWORD}
    return {"plugins": {"limit-count": limit}}


def log_headers(gateway: Gateway, canary: Canary, path: str = "/logged") -> set[str]:
    """With which Authorization the log of a request is sent."""
    before = len(canary.requests)
    gateway.call(path)

    def sent() -> list[str] | None:
        logs = [seen for seen in canary.requests[before:] if seen.target == "/logs"]
        return [value for seen in logs for value in seen.values("authorization")]

    return set(wait_until(sent, what="the log to arrive"))


# --- the embedded store


class World:
    def __init__(self, gateway: Gateway, canary: Canary) -> None:
        self.gateway = gateway
        self.canary = canary

    def stored(self, key: str) -> dict[str, Any]:
        with sqlite3.connect(self.gateway.directory / "data" / "config.db") as connection:
            [(value,)] = connection.execute(
                "SELECT value FROM config WHERE key = ?", (key,)
            ).fetchall()
        found: dict[str, Any] = json.loads(value)
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """At log level debug, with a keyring that it made itself. Nothing of it is ever in the output."""
    with running_canary() as canary:
        directory = tmp_path_factory.mktemp("gateway")
        with running_gateway(directory, {"gw": {"log_level": "debug"}}, workers=1) as gateway:
            gateway.apply({"routes_1": logging_route(canary), "services_s": limited(), "consumer_groups_g": limited()})
            yield World(gateway, canary)
            keyring = (directory / "data" / "keyring").read_text().strip()
            for secret in (PLANTED, PASSWORD, BAD, KEY_LINE, keyring):
                assert secret not in gateway.output()


def test_a_secret_is_used_and_shown_in_clear_and_lies_encrypted(world: World) -> None:
    gateway = world.gateway
    assert log_headers(gateway, world.canary) == {PLANTED}
    for path in ("/routes/1", "/routes"):
        assert PLANTED in gateway.admin("GET", path).body.decode()
    ring = Keyring([(gateway.directory / "data" / "keyring").read_text().strip()])
    stored = world.stored("routes/1")["plugins"]["http-logger"]["auth_header"]
    assert ring.decrypt(stored) == PLANTED
    assert ring.decrypt(world.stored("services/s")["plugins"]["limit-count"]["redis_password"]) == PASSWORD
    for file in (gateway.directory / "data").glob("config.db*"):
        assert PLANTED.encode() not in file.read_bytes()


def test_answers_to_writes_show_what_was_sent(world: World) -> None:
    route = logging_route(world.canary, uri="/written")
    written = world.gateway.admin("PUT", "/routes/written", route).json()
    assert written["value"]["plugins"] == route["plugins"]
    patched = world.gateway.admin("PATCH", "/routes/written", {"desc": "d"}).json()
    assert patched["value"]["plugins"] == route["plugins"]
    posted = world.gateway.admin("POST", "/routes", route).json()
    assert posted["value"]["plugins"] == route["plugins"]
    for id in ("written", posted["value"]["id"]):
        assert world.gateway.admin("DELETE", f"/routes/{id}").status == 200


def test_an_edit_of_something_else_keeps_the_secret_as_it_is(world: World) -> None:
    gateway = world.gateway
    before = world.stored("routes/1")["plugins"]
    for body in ({"desc": "a"}, {"desc": "b"}, {"plugins": {"http-logger": {"timeout": 5}}}):
        assert gateway.admin("PATCH", "/routes/1", body).status == 200
    assert gateway.admin("PATCH", "/routes/1/desc", b'"c"').status == 200
    after = world.stored("routes/1")["plugins"]
    assert after["http-logger"]["auth_header"] == before["http-logger"]["auth_header"]
    assert gateway.admin("PATCH", "/routes/1/plugins/http-logger/auth_header", b'"Bearer two"').status == 200
    assert gateway.admin("GET", "/routes/1").json()["value"]["plugins"]["http-logger"]["auth_header"] == "Bearer two"
    gateway.apply({"routes_1": logging_route(world.canary)})


def test_keys_of_certificates_are_never_shown(world: World) -> None:
    gateway = world.gateway
    body = {"cert": CERT, "key": PRIVATE_KEY, "snis": ["a.example"]}
    answers = [gateway.admin("PUT", "/ssls/1", body), gateway.admin("PATCH", "/ssls/1", {"snis": ["b.example"]})]
    answers += [gateway.admin("GET", path) for path in ("/ssls/1", "/ssls")]
    for answer in answers:
        assert answer.status in (200, 201), answer
        assert KEY_LINE not in answer.body.decode()
    assert "key" not in answers[2].json()["value"]
    stored = world.stored("ssls/1")
    assert stored["snis"] == ["b.example"]
    ring = Keyring([(gateway.directory / "data" / "keyring").read_text().strip()])
    assert ring.decrypt(stored["key"]) == PRIVATE_KEY


def test_the_key_for_an_upstream_may_be_sent_back_as_it_was_shown(world: World) -> None:
    gateway = world.gateway
    body = {"nodes": {"127.0.0.1:1": 1}, "scheme": "https", "tls": {"client_cert": CERT, "client_key": PRIVATE_KEY}}
    shown = gateway.admin("PUT", "/upstreams/tls", body).json()["value"]
    assert KEY_LINE not in json.dumps(shown)
    again = {name: value for name, value in shown.items() if not name.endswith("_time")}
    assert gateway.admin("PUT", "/upstreams/tls", again).status == 200
    ring = Keyring([(gateway.directory / "data" / "keyring").read_text().strip()])
    assert ring.decrypt(world.stored("upstreams/tls")["tls"]["client_key"]) == PRIVATE_KEY


REFUSED = {
    "a wrong type": ("/routes/bad", {"uri": "/b", "plugins": {"http-logger": {"uri": 7, "auth_header": BAD}}}),
    "another field is missing": ("/routes/bad", {"uri": "/b", "plugins": {"http-logger": {"auth_header": BAD}}}),
    "an array in its place": ("/routes/bad", {"plugins": {"http-logger": {"uri": "http://a", "auth_header": [BAD]}}}),
    "a plugin that is not enabled": ("/consumers", {"username": "jack", "plugins": {"no-such-auth": {"key": BAD}}}),
    "no key at all": ("/ssls/bad", {"cert": CERT, "key": BAD, "snis": ["a"]}),
    "keys of another type": ("/ssls/bad", {"cert": CERT, "key": PRIVATE_KEY, "certs": [CERT], "keys": BAD}),
    "of an upstream": ("/upstreams/bad", {"nodes": {}, "tls": {"client_cert": CERT, "client_key": BAD}}),
    "a vault's token": ("/secrets/vault/1", {"uri": "http://127.0.0.1:1", "token": BAD}),
    "what looks encrypted": ("/ssls/bad", {"cert": CERT, "key": Keyring([STRANGERS]).encrypt(BAD * 9), "snis": ["a"]}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_the_place_and_shows_no_secret(world: World, case: str) -> None:
    path, body = REFUSED[case]
    answer = world.gateway.admin("PUT", path, body)
    assert 400 <= answer.status < 500, answer
    told = answer.body.decode()
    for secret in (BAD, KEY_LINE, Keyring([STRANGERS]).encrypt(BAD * 9)[:20]):
        assert secret not in told


def test_nothing_else_shows_a_secret(world: World) -> None:
    """GHSA-2cjc-rgmp-x649, CVE-2022-29266, CVE-2025-62232; what asks for no key shows nothing of a configuration."""
    gateway = world.gateway
    shown = [gateway.gw(*command).stdout for command in (["status"], ["status", "--json"], ["plugins"], ["test"])]
    for port, path in (
        (gateway.control_port, "/v1/convergence"),
        (gateway.control_port, "/v1/healthcheck"),
        (gateway.status_port, "/status"),
        (gateway.metrics_port, METRICS_PATH),
        (gateway.port, "/logged"),
        (gateway.port, "/nowhere"),
    ):
        answer = request(port, "GET", path)
        shown += [answer.body.decode("latin-1"), repr(answer.headers)]
    for pid in gateway.pids():
        shown.append(Path(f"/proc/{pid}/cmdline").read_text())
        shown.append((Path(f"/proc/{pid}/environ")).read_bytes().decode("latin-1"))
    keyring = (gateway.directory / "data" / "keyring").read_text().strip()
    for text in shown:
        assert all(secret not in text for secret in (PLANTED, PASSWORD, KEY_LINE, keyring))


def test_files_with_secrets_in_clear_are_for_the_agent_alone(world: World) -> None:
    gateway = world.gateway
    data = gateway.directory / "data"
    wait_until(lambda: list(data.glob("last-good*")), what="the last good file")
    for file in filter(Path.is_file, data.rglob("*")):
        if PLANTED.encode() in file.read_bytes() or file.name == "keyring":
            assert file.stat().st_mode & 0o077 == 0, file
    assert data.stat().st_mode & 0o077 == 0
    for name in gateway.left_in_shm():
        path = SHM_DIR / name
        if path.is_file():
            assert path.stat().st_mode & 0o007 == 0, path


def test_the_greeting_says_where_the_keyring_lies(world: World) -> None:
    keyring = str(world.gateway.directory / "data" / "keyring")
    wait_until(lambda: world.gateway.output().count(keyring) >= 2, what="the log and the greeting to name the keyring")


# --- an etcd that others write to


def etcd_config(etcd: Etcd, *keys: str, **more: Any) -> dict[str, Any]:
    return {
        "deployment": {"etcd": {"host": [etcd.endpoint], "prefix": "/apisix"}},
        "apisix": {"data_encryption": {"keyring": list(keys), **more}},
    }


def reload_with_agent(gateway: Gateway) -> None:
    before = gateway.agent_pid()
    assert gateway.gw("reload", "--agent").returncode == 0

    def follows() -> bool:
        agent = gateway.status()["agent"]
        return agent["pid"] != before and agent["state"] == "watching"

    wait_until(follows, what="a new agent to follow etcd")


def test_what_apisix_encrypted_in_etcd_is_served_and_what_cannot_be_read_is_named(tmp_path: Path, etcd: Etcd) -> None:
    with running_canary() as canary:
        for id, keys in (("apisix", [PUBLISHED]), ("ours", [NEW]), ("strange", [STRANGERS]), ("plain", [])):
            secret = Keyring(keys).encrypt(f"Bearer {id}") if keys else f"Bearer {id}"
            etcd.put(f"/apisix/routes/{id}", json.dumps(logging_route(canary, secret, f"/{id}")))
        etcd.put("/apisix/ssls/1", json.dumps({"cert": CERT, "key": Keyring([STRANGERS]).encrypt(PRIVATE_KEY)}))
        with running_gateway(tmp_path, etcd_config(etcd, NEW, PUBLISHED), workers=1) as gateway:
            for id in ("apisix", "ours", "plain"):
                gateway.wait_served(f"/{id}")
                assert log_headers(gateway, canary, f"/{id}") == {f"Bearer {id}"}
            assert gateway.call("/strange").status == 404
            rejected = {(item["kind"], item["id"]): item["reason"] for item in gateway.status()["agent"]["rejected"]}
            assert set(rejected) == {("routes", "strange"), ("ssls", "1")}
            assert "no key of apisix.data_encryption.keyring opens it" in rejected["routes", "strange"]
            # Whoever administers it can see what is there, and mend it.
            assert gateway.admin("GET", "/routes/strange").status == 200
            assert gateway.admin("PATCH", "/routes/strange", {"desc": "x"}).status == 400
            path = "/routes/strange/plugins/http-logger/auth_header"
            assert gateway.admin("PATCH", path, b'"Bearer mended"').status == 200
            gateway.wait_served("/strange")
            assert log_headers(gateway, canary, "/strange") == {"Bearer mended"}
            output = gateway.output()
        assert not (tmp_path / "data" / "keyring").exists()
        for secret in ("Bearer", NEW, PUBLISHED, KEY_LINE):
            assert secret not in output


def test_a_shared_store_that_is_to_be_encrypted_needs_a_key(tmp_path: Path, etcd: Etcd) -> None:
    gateway = Gateway(tmp_path, etcd_config(etcd, enable_encrypt_fields=True))
    try:
        gateway.start(ready=False)
        assert gateway.process is not None
        assert gateway.process.wait(60) == 78
        assert "apisix.data_encryption.keyring" in gateway.output()
    finally:
        gateway.kill()


def test_keys_are_rotated_without_anybody_noticing(tmp_path: Path, etcd: Etcd) -> None:
    """The procedure of docs/secrets.md: the new key first, each resource written once, the old key away."""
    with running_canary() as canary:
        gateway = Gateway(tmp_path, etcd_config(etcd, OLD), workers=1)
        text = gateway.config_path.read_text()
        try:
            gateway.start()
            gateway.apply({"routes_1": logging_route(canary), "ssls_1": {"cert": CERT, "key": PRIVATE_KEY, "sni": "a"}})
            version = gateway.status()["agent"]["version"]

            gateway.config_path.write_text(text.replace(f"- {OLD}", f"- {NEW}\n    - {OLD}"))
            reload_with_agent(gateway)
            for path in ("/routes/1", "/ssls/1"):
                reply = gateway.admin("PATCH", f"{path}?wait=10000", {})
                assert reply.status == 200, reply
            for key in ("routes/1", "ssls/1"):
                stored = json.loads(etcd.ctl("get", f"/apisix/{key}", "--print-value-only"))
                secret = stored.get("key") or stored["plugins"]["http-logger"]["auth_header"]
                assert Keyring([NEW]).decrypt(secret) in (PLANTED, PRIVATE_KEY)

            gateway.config_path.write_text(text.replace(f"- {OLD}", f"- {NEW}"))
            reload_with_agent(gateway)
            agent = gateway.status()["agent"]
            assert (agent["rejected"], agent["version"]) == ([], version)
            assert log_headers(gateway, canary) == {PLANTED}
            gateway.stop()
        finally:
            print(gateway.output())
            gateway.kill()


# --- towards upstreams


@contextlib.contextmanager
def asking_for_a_certificate() -> Iterator[tuple[int, list[str]]]:
    """A TLS server whose clients must show a certificate of our authority: its port, and whom it saw."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    context.load_verify_locations(TLS / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            subject: Any = self.connection.getpeercert()["subject"]  # type: ignore[attr-defined]
            seen.append(str(subject))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, seen
        server.shutdown()
        thread.join()


def test_an_upstream_is_shown_the_certificate_that_it_names(world: World) -> None:
    gateway = world.gateway
    cert, key = ((TLS / f"client.{name}").read_text() for name in ("pem", "key"))
    with asking_for_a_certificate() as (port, seen):
        upstream = {"scheme": "https", "nodes": {f"127.0.0.1:{port}": 1}, "tls": {"client_cert_id": "mtls"}}
        route = {"uri": "/mtls", "upstream": upstream}
        answer = gateway.admin("PUT", "/routes/mtls", route)
        assert answer.status == 400, answer
        gateway.apply({"ssls_mtls": {"type": "client", "cert": cert, "key": key}, "routes_mtls": route})
        assert gateway.call("/mtls").status == 204
        assert len(seen) == 1
        # Neither a certificate that is another key's nor a deletion gets through.
        stranger = (TLS / "other-ca.pem").read_text()
        assert gateway.admin("PATCH", "/ssls/mtls", {"cert": stranger}).status == 400
        assert gateway.admin("DELETE", "/ssls/mtls").status == 400
        gateway.apply({"routes_mtls": None, "ssls_mtls": None})


# --- references


def test_a_variable_of_the_environment_is_used_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GHSA-j8px-rmrx-76h9: what a client sends is no reference. apisix/apisix 13667: nor is one that fails a value."""
    monkeypatch.setenv("PLANTED", PLANTED)
    monkeypatch.setenv("PLANTED_JSON", json.dumps({"logs": "Bearer planted-member", "place": "/placed"}))
    with running_canary() as canary, running_gateway(tmp_path, workers=1) as gateway:
        headers = {"headers": {"set": {"X-Echo": "$http_x_sent"}}}
        echo = {**logging_route(canary, "$env://PLANTED_JSON/logs", "/echo")}
        echo["plugins"]["proxy-rewrite"] = headers
        moved = {**logging_route(canary, uri="/moved"), "plugins": {"proxy-rewrite": {"uri": "$env://PLANTED_JSON/place"}}}
        unfit = {**moved, "uri": "/unfit", "plugins": {"proxy-rewrite": {"uri": "$env://PLANTED"}}}
        gateway.apply(
            {
                "routes_1": logging_route(canary, "$env://PLANTED"),
                "routes_2": logging_route(canary, "$env://NO_SUCH_VARIABLE", "/missing"),
                "routes_3": logging_route(canary, "$secret://vault/1/jack/key", "/managed"),
                "routes_4": echo,
                "routes_5": moved,
                "routes_6": unfit,
            }
        )
        assert log_headers(gateway, canary) == {PLANTED}
        assert log_headers(gateway, canary, "/echo") == {"Bearer planted-member"}
        assert gateway.call("/moved").status == 200
        assert canary.count("/placed") == 1
        for path in ("/missing", "/managed", "/unfit"):
            assert gateway.call(path).status == 500
        wait_until(lambda: gateway.status()["workers"][0]["problems"] == 3, what="all to be reported")
        assert "it does not fit its schema at uri with what its references name" in gateway.output()
        assert "$env://NO_SUCH_VARIABLE: the workers' environment has no variable" in gateway.output()
        assert "secret managers are not supported yet" in gateway.output()

        gateway.call("/echo", headers={"X-Sent": "$env://PLANTED"})
        [seen] = [seen for seen in canary.requests if seen.values("x-sent")]
        assert seen.values("x-echo") == ["$env://PLANTED"]
        # The Admin API knows the reference alone.
        assert PLANTED not in gateway.admin("GET", "/routes").body.decode()
        assert "$env://PLANTED" in gateway.admin("GET", "/routes/1").body.decode()
        assert PLANTED not in gateway.output() + json.dumps(gateway.status())


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_credentials_of_consumers_are_kept_and_found_like_other_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, etcd: Etcd
) -> None:
    """CVE-2026-85595, apisix/apisix 13667: what is not resolved, or cannot be opened, lets nobody in."""
    monkeypatch.setenv("JACKS_KEY", "planted-key-of-jack")
    monkeypatch.setenv("JILLS", json.dumps({"password": "planted-password-of-jill"}))
    stranger = Keyring([STRANGERS]).encrypt("s")
    etcd.put("/apisix/consumers/other", json.dumps({"username": "other", "plugins": {"key-auth": {"key": stranger}}}))
    # As APISIX's own tests find it in etcd (t/node/data_encrypt.t): auth-two and bar.
    foo2 = {"key-auth": {"key": "vU/ZHVJw7b0XscDJ1Fhtig=="}, "basic-auth": {"username": "foo2", "password": "bar"}}
    etcd.put("/apisix/consumers/foo2", json.dumps({"username": "foo2", "plugins": foo2}))
    keyed, named = {"key-auth": {}}, {"basic-auth": {}}
    config = {**etcd_config(etcd, NEW, PUBLISHED), "gw": {"log_level": "debug"}}
    with running_canary() as canary, running_gateway(tmp_path, config, workers=1) as gateway:
        upstream = {"type": "roundrobin", "nodes": {f"127.0.0.1:{canary.port}": 1}}
        consumers: dict[str, Any] = {
            "plain": {"key-auth": {"key": HEX_KEY}, "basic-auth": {"username": "plain", "password": "planted-pw"}},
            "jack": {"key-auth": {"key": "$env://JACKS_KEY"}},
            "jill": {"basic-auth": {"username": "jill", "password": "$ENV://JILLS/password"}},
            "nobody": {"key-auth": {"key": "$env://NO_SUCH"}},
            "none": {"basic-auth": {"username": "none", "password": "$env://NO_SUCH"}},
        }
        for name, plugins in consumers.items():
            answer = gateway.admin("PUT", "/consumers", {"username": name, "plugins": plugins})
            assert answer.status == 201, answer
            shown = gateway.admin("GET", f"/consumers/{name}").json()["value"]["plugins"]
            assert shown == answer.json()["value"]["plugins"] == plugins
        stored = etcd.ctl("get", "/apisix/consumers/plain", "--print-value-only")
        assert HEX_KEY not in stored
        assert "planted-pw" not in stored
        gateway.apply(
            {
                "routes_k": {"uri": "/keyed", "plugins": keyed, "upstream": upstream},
                "routes_n": {"uri": "/named", "plugins": named, "upstream": upstream},
            }
        )
        for key, status in {
            HEX_KEY: 200,
            "planted-key-of-jack": 200,
            "auth-two": 200,
            "$env://JACKS_KEY": 401,
            "$env://NO_SUCH": 401,
            json.loads(stored)["plugins"]["key-auth"]["key"]: 401,
            "vU/ZHVJw7b0XscDJ1Fhtig==": 401,
            stranger: 401,
        }.items():
            assert gateway.call("/keyed", headers={"apikey": key}).status == status, key
        for name, password, status in (
            ("plain", "planted-pw", 200),
            ("jill", "planted-password-of-jill", 200),
            ("foo2", "bar", 200),
            ("jill", "$ENV://JILLS/password", 401),
            ("none", "$env://NO_SUCH", 401),
            ("none", "", 401),
        ):
            assert gateway.call("/named", headers=basic(name, password)).status == status, (name, password)
        # Two consumers with one key, of which each lies encrypted.
        answer = gateway.admin("PUT", "/consumers", {"username": "twin", "plugins": {"key-auth": {"key": HEX_KEY}}})
        assert answer.status == 400, answer
        assert HEX_KEY not in answer.body.decode()
        answer = gateway.admin("PUT", "/consumers", {"username": "twin", "plugins": {"key-auth": {"key": "auth-two"}}})
        assert answer.status == 400, answer
        for secret in (HEX_KEY, "planted", "auth-two", basic("plain", "planted-pw")["Authorization"]):
            assert secret not in gateway.output()
