"""Admin API, secrets, the agent's socket and what is found lying about, against a running gateway.

The rows of shared/advisories.md: "Admin", "Secrets", "Store", and what of "DoS" is not parsing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gw.shm.names import SegmentNames
from gw.shm.segment import SHM_DIR
from tests.support.canary import Answer, Canary, ask, running_canary
from tests.support.etcd import Etcd
from tests.support.gateway import Gateway, request, running_gateway
from tests.support.memory import resident_mb
from tests.support.metrics import METRICS_PATH
from tests.support.waiting import wait_until

ADMIN_KEY = "planted-admin-key-8c41f0d2a97b"
VIEWER_KEY = "planted-viewer-key-3b77e5"
STORE_PASSWORD = "planted-store-password-51ac09"
ADMIN_CONFIG = {
    "admin_key": [
        {"name": "admin", "key": "${{PLANTED_ADMIN_KEY}}", "role": "admin"},
        {"name": "viewer", "key": VIEWER_KEY, "role": "viewer"},
    ]
}


@dataclass
class World:
    gateway: Gateway
    canary: Canary

    def admin(
        self, method: str, target: str, body: bytes = b"", *, key: str | None = ADMIN_KEY, fields: str = "",
        host: str = "127.0.0.1",
    ) -> Answer:  # fmt: skip
        """One request to the Admin API, its target byte for byte."""
        shown = f"X-API-KEY: {key}\r\n" if key is not None else ""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{shown}{fields}{length}\r\n"
        return ask(self.gateway.admin_port, head.encode("latin-1") + body, to_head=method == "HEAD")

    def route(self, **more: Any) -> bytes:
        nodes = {f"127.0.0.1:{self.canary.port}": 1}
        return json.dumps({"uri": "/x", "upstream": {"type": "roundrobin", "nodes": nodes}, **more}).encode()

    def rss_mb(self) -> float:
        """Of the agent and the worker together."""
        return resident_mb(self.gateway.agent_pid(), *self.gateway.worker_pids())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """At log level debug, with the admin's key in a variable of the environment."""
    config = {"deployment": {"admin": ADMIN_CONFIG}, "gw": {"log_level": "debug"}}
    with (
        pytest.MonkeyPatch.context() as patch,
        running_canary() as canary,
    ):
        patch.setenv("PLANTED_ADMIN_KEY", ADMIN_KEY)
        with running_gateway(tmp_path_factory.mktemp("gateway"), config, workers=1) as gateway:
            world = World(gateway, canary)
            assert world.admin("PUT", "/apisix/admin/routes/all", world.route(uri="/*")).status == 201
            gateway.wait_served("/warm")
            before = gateway.worker_pids(), gateway.agent_pid()
            yield world
            assert (gateway.worker_pids(), gateway.agent_pid()) == before, "a process died"
            assert "Traceback" not in gateway.output()
            for secret in (ADMIN_KEY, VIEWER_KEY):
                assert secret not in gateway.output()


# CVE-2020-13945, CVE-2021-45232: nothing without a key.

TARGETS = [
    f"/apisix/admin/{rest}"
    for rest in (
        *("", "routes", "routes/", "routes/all", "services", "upstreams/x", "routes/all/uri", "nothing", "//routes"),
        *("routes/%61ll", "./routes", "../admin/routes", "schema/validate/routes", "plugins/reload"),
        *("consumers/jack/credentials", "consumers/jack/credentials/x", "secrets/vault/x", "secrets/vault/x/token"),
        *("ssl/x", "ssls/x", "proto", "stream_routes/x", "plugin_metadata/x", "plugins/list", "schema/plugins/x"),
    )
]
TARGETS += ["/", "/apisix", "//apisix/admin/routes", "/apisix/admin", "/APISIX/ADMIN/routes", "/v1/convergence"]
TARGETS += ["http://127.0.0.1/apisix/admin/routes"]
WRONG_KEYS = (None, "", "wrong", ADMIN_KEY[:-1], ADMIN_KEY + "x", ADMIN_KEY.upper(), "edd1c9f034335f136f87ad84b625c8f1")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_no_method_and_no_path_is_had_without_a_key(world: World, method: str) -> None:
    override = "X-HTTP-Method-Override: GET\r\nX-Original-URL: /apisix/admin/routes\r\n"
    for target in TARGETS:
        for key in WRONG_KEYS:
            assert world.admin(method, target, key=key, fields=override).status in (400, 401), (target, key)
        if method not in ("GET", "HEAD"):
            assert world.admin(method, target, key=VIEWER_KEY).status in (400, 401), target


@pytest.mark.parametrize(
    "fields",
    [
        f"X_API_KEY: {ADMIN_KEY}\r\n",
        f"X-API-KEY: wrong\r\nX-API-KEY: {ADMIN_KEY}\r\n",
        f"X-API-KEY: {ADMIN_KEY}\r\nX-API-KEY: wrong\r\n",
        f"Cookie: X-API-KEY={ADMIN_KEY}; x-api-key={ADMIN_KEY}\r\n",
        f"Authorization: Bearer {ADMIN_KEY}\r\n",
        "X-API-KEY: \xff\xfe\r\n",
    ],
)
def test_a_key_counts_in_its_header_alone_and_once(world: World, fields: str) -> None:
    assert world.admin("GET", "/apisix/admin/routes", key=None, fields=fields).status == 401
    assert world.admin("GET", f"/apisix/admin/routes?api_key={ADMIN_KEY}", key=None).status == 401


def test_a_websocket_is_no_way_around_the_gate(world: World) -> None:
    handshake = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    gateway = world.gateway
    for port, target in (
        (gateway.admin_port, "/apisix/admin/routes"),
        (gateway.control_port, "/v1/convergence"),
        (gateway.status_port, "/status"),
        (gateway.metrics_port, METRICS_PATH),
    ):
        raw = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {ADMIN_KEY}\r\n{handshake}\r\n"
        assert ask(port, raw.encode()).status == 403


# CVE-2025-23217, CVE-2021-33190, CVE-2026-27589, CVE-2020-11710: from where it can be reached.


@pytest.mark.parametrize("listener", ["admin_port", "control_port", "status_port", "metrics_port"])
def test_no_inner_listener_is_reached_through_the_data_port(world: World, listener: str) -> None:
    port = getattr(world.gateway, listener)
    for target in ("/apisix/admin/routes", "/v1/convergence", "/status", METRICS_PATH, f"http://127.0.0.1:{port}/apisix/admin/routes"):
        before = len(world.canary.requests)
        raw = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-API-KEY: {ADMIN_KEY}\r\n\r\n"
        answer = ask(world.gateway.port, raw.encode())
        # It is a path like any other: the route's upstream gets it.
        assert (answer.status, len(world.canary.requests) - before) == (200, 1)
        assert "x-api-version" not in answer.fields


def test_a_node_that_is_the_admin_listener_still_asks_for_the_key(world: World) -> None:
    node = {f"127.0.0.1:{world.gateway.admin_port}": 1}
    route = {"uri": "/apisix/admin/*", "upstream": {"type": "roundrobin", "nodes": node, "pass_host": "node"}}
    world.admin("PUT", "/apisix/admin/routes/loop", json.dumps(route).encode())
    raw = b"GET /apisix/admin/routes HTTP/1.1\r\nHost: a.example\r\n\r\n"
    wait_until(lambda: ask(world.gateway.port, raw).status == 401, what="the route to the Admin API")
    # And behind a page's own name, not even the key helps.
    route["upstream"] = {"type": "roundrobin", "nodes": node}
    world.admin("PUT", "/apisix/admin/routes/loop", json.dumps(route).encode())
    keyed = f"GET /apisix/admin/routes HTTP/1.1\r\nHost: a.example\r\nX-API-KEY: {ADMIN_KEY}\r\n\r\n".encode()
    wait_until(lambda: ask(world.gateway.port, keyed).status == 403, what="the Host to be refused")
    assert world.admin("DELETE", "/apisix/admin/routes/loop").status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "a@127.0.0.1", "[::1"])
def test_only_our_own_hosts_are_answered(world: World, host: str) -> None:
    """CVE-2018-14505: a page whose name was pointed at 127.0.0.1."""
    assert world.admin("GET", "/apisix/admin/routes", host=host).status == 403
    for port, target in (
        (world.gateway.control_port, "/v1/convergence"),
        (world.gateway.status_port, "/status/ready"),
        (world.gateway.metrics_port, METRICS_PATH),
    ):
        assert ask(port, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil", "http://127.0.0.2", "x:"])
def test_no_page_from_elsewhere_writes(world: World, origin: str) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
        fields = f"Origin: {origin}\r\nContent-Type: {kind}\r\n"
        answer = world.admin("PUT", "/apisix/admin/routes/evil", world.route(), fields=fields)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.fields
    preflight = f"Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n"
    answer = world.admin("OPTIONS", "/apisix/admin/routes/evil", key=None, fields=preflight)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.fields
    assert world.admin("GET", "/apisix/admin/routes/evil").status == 404


def test_the_socket_decides_who_may_ask_and_defaults_are_loopback(tmp_path: Path) -> None:
    """CVE-2021-33190, CVE-2020-11710: allow_admin without our address, and headers that claim another."""
    config = {"deployment": {"admin": {"allow_admin": ["10.0.0.0/8"]}}}
    with running_gateway(tmp_path / "gateway", config, workers=1) as gateway:
        claims = {"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
        for headers in ({}, claims):
            refused = request(gateway.admin_port, "GET", "/apisix/admin/routes", headers=headers)
            assert refused.status == 403


def test_every_inner_listener_is_bound_to_loopback(world: World) -> None:
    gateway = world.gateway
    for port in (gateway.admin_port, gateway.control_port, gateway.status_port, gateway.metrics_port):
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            with pytest.raises(OSError), socket.create_connection((own, port), timeout=2):
                pass


# CVE-2021-23357: ids.


@pytest.mark.parametrize(
    "id",
    [
        *("../x", "..%2fx", "a%2fb", "a%2Fb", "a%5cb", ".", "..", "%2e", "%2e%2e", "%00", "a%00", "a%0ab", "a%20b"),
        *("%ff", "a;b", "a%3ab", "a" * 65, "*", "a+b", "~"),
    ],
)
@pytest.mark.parametrize("kind", ["routes", "services", "upstreams"])
def test_ids_that_are_none(world: World, kind: str, id: str) -> None:
    before = world.gateway.convergence()["agent"]["revision"]
    for method in ("PUT", "GET", "PATCH", "DELETE"):
        assert world.admin(method, f"/apisix/admin/{kind}/{id}", b'{"uri":"/x"}').status == 400, method
    body = json.dumps({"id": id, "uri": "/x"}).encode()
    assert world.admin("PUT", f"/apisix/admin/{kind}", body).status == 400
    assert world.gateway.convergence()["agent"]["revision"] == before


def test_the_longest_id_is_one(world: World) -> None:
    assert world.admin("PUT", "/apisix/admin/routes/" + "a" * 64, world.route()).status == 201
    assert world.admin("DELETE", "/apisix/admin/routes/" + "a" * 64).status == 200


# Bodies that are too much, or nonsense.

BODIES: dict[str, tuple[bytes, int]] = {
    "100,000 objects deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    "200,000 arrays deep": (b"[" * 200_000, 400),
    "2 MB": (b'{"uri":"/' + b"x" * 2_000_000 + b'"}', 413),
    "a number of 5,000 digits": (b'{"uri":"/x","priority":' + b"9" * 5000 + b"}", 400),
    "1e999": (b'{"uri":"/x","priority":1e999}', 400),
    "NaN": (b'{"uri":"/x","priority":NaN}', 400),
    "CVE-2022-25757 a name twice": (b'{"uri":"/a","uri":"/b"}', 400),
    "CVE-2022-25757 UTF-16": ('{"uri":"/x"}'.encode("utf-16"), 400),
    "CVE-2022-25757 BOM": (b'\xef\xbb\xbf{"uri":"/x"}', 400),
    "CVE-2022-25757 half a surrogate pair": (b'{"uri":"/\\ud800"}', 400),
    "CVE-2022-25757 data behind": (b'{"uri":"/x"} {}', 400),
    "100,000 uris": (b'{"uris":[' + b",".join(b'"/%d"' % n for n in range(100_000)) + b"]}", 400),
    "80,000 members": (b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}", 400),
    "1.2 MB of nodes": (
        b'{"uri":"/x","upstream":{"nodes":{' + b",".join(b'"127.0.0.1:%d":1' % n for n in range(1, 60_000)) + b"}}}",
        400,
    ),
    "null": (b"null", 400),
    "text": (b'"a"', 400),
    "an array": (b"[]", 400),
    "not JSON": (b"uri=/x", 400),
    "msgpack": (b"\x81\xa3uri\xa2/x", 400),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_are_too_much(world: World, case: str) -> None:
    body, status = BODIES[case]
    before = world.rss_mb()
    for method, target in (("PUT", "routes/much"), ("POST", "routes"), ("PATCH", "routes/all")):
        answer = world.admin(method, f"/apisix/admin/{target}", body)
        # A patch may be any JSON; what comes of it is a route, or is not.
        assert answer.status == status, (method, answer)
        assert len(answer.body) < 1000
    assert world.rss_mb() - before < 80
    assert world.admin("GET", "/apisix/admin/routes/much").status == 404


def test_a_template_is_text(world: World) -> None:
    """CVE-2022-22947: nothing in a resource is evaluated."""
    odd = "{{7*7}} ${HOME} #{1+1} %(x)s {0.__class__} $env://HOME ${{HOME}} `id`"
    answer = world.admin("PUT", "/apisix/admin/routes/odd", world.route(desc=odd, labels={"a": "${{HOME}}"}))
    assert answer.status == 201
    value = json.loads(answer.body)["value"]
    assert (value["desc"], value["labels"]) == (odd, {"a": "${{HOME}}"})
    assert world.admin("DELETE", "/apisix/admin/routes/odd").status == 200


def test_stalled_bodies_hold_nobody(world: World) -> None:
    """GHSA-cwjm-3f7h-9hwq: on the Admin API as on the data port."""
    head = f"PUT /apisix/admin/routes/s HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {ADMIN_KEY}\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", world.gateway.admin_port), timeout=10))
            client.sendall(head.encode() + b"Content-Length: 9\r\n\r\n{")
        assert world.admin("GET", "/apisix/admin/routes/all").status == 200


# Secrets.


def test_no_secret_is_where_others_see_it(world: World) -> None:
    """CVE-2021-28235, CVE-2025-62232, GHSA-2cjc: command lines, the workers' environment, answers."""
    gateway = world.gateway
    secrets = [ADMIN_KEY.encode(), VIEWER_KEY.encode()]
    agent = gateway.agent_pid()
    for pid in gateway.pids():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert not any(secret in command for secret in secrets)
        if pid != agent and pid != gateway.process.pid:
            assert not any(secret in environment for secret in secrets), command
    answers = [
        request(gateway.control_port, "GET", "/v1/convergence").body,
        request(gateway.status_port, "GET", "/status").body,
        request(gateway.metrics_port, "GET", METRICS_PATH).body,
        gateway.gw("status", "--json").stdout.encode(),
        gateway.gw("status").stdout.encode(),
        world.admin("GET", "/apisix/admin/routes").body,
        world.admin("GET", "/apisix/admin/routes", key=VIEWER_KEY + "x").body,
        world.admin("PUT", f"/apisix/admin/routes/x?{ADMIN_KEY}", b"{").body,
    ]
    for secret in secrets:
        assert not any(secret in answer for answer in answers)
    in_shm = [path for entry in gateway.left_in_shm() for path in (SHM_DIR / entry, *(SHM_DIR / entry).rglob("*"))]
    for path in filter(Path.is_file, in_shm):
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path


def test_a_stores_password_stays_with_the_agent(tmp_path: Path, etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2021-28235: though the store refuses it, again and again, at log level debug."""
    monkeypatch.setenv("PLANTED_STORE_PASSWORD", STORE_PASSWORD)
    etcd.ctl("user", "add", "root:another-password")
    etcd.ctl("user", "grant-role", "root", "root")
    etcd.ctl("auth", "enable")
    config = {
        "deployment": {
            "role": "traditional",
            "role_traditional": {"config_provider": "etcd"},
            "etcd": {"host": [etcd.endpoint], "user": "root", "password": "${{PLANTED_STORE_PASSWORD}}"},
        },
        "gw": {"log_level": "debug"},
    }
    gateway = Gateway(tmp_path / "gateway", config, workers=1)
    try:
        gateway.start(ready=False)
        wait_until(lambda: gateway.convergence()["agent"]["problem"], what="the agent to say what is wrong")
        seen = [
            gateway.output(),
            json.dumps(gateway.convergence()),
            gateway.gw("status").stdout,
            gateway.admin("GET", "/routes").body.decode(),
        ]
        agent = gateway.agent_pid()
        for pid in gateway.pids():
            seen.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode())
            if gateway.process is not None and pid not in (agent, gateway.process.pid):
                seen.append(Path(f"/proc/{pid}/environ").read_bytes().decode())
        assert not any(STORE_PASSWORD in text for text in seen)
        assert gateway.stop() == 0
        assert STORE_PASSWORD not in gateway.output()
    finally:
        gateway.kill()


@pytest.mark.parametrize("port", ["port", "admin_port", "control_port", "metrics_port"])
def test_what_is_logged_is_one_line_at_level_debug_too(world: World, port: str) -> None:
    """GHSA-33c7-2mpw-hg34."""
    for target in ("/x%0aforged%1b[2J", "/%0d%0aforged", "/apisix/admin/routes/x%0aforged"):
        ask(getattr(world.gateway, port), f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    text = world.gateway.output_path.read_bytes()
    assert b"\x1b" not in text
    assert b"\nforged" not in text


# The agent's socket.


def test_the_agents_socket_takes_no_harm(world: World) -> None:
    """Garbage, giant and half frames, many connections: all by somebody who may connect."""
    path = world.gateway.directory / "run" / f"{world.gateway.name}.agent.sock"
    assert path.stat().st_mode & 0o777 == 0o660
    before = world.rss_mb()
    said = [
        b"\xff" * 8,
        struct.pack("<I", 100) + b"half",
        struct.pack("<I", 0xFFFFFFFF) + b"x" * 1000,
        struct.pack("<I", 0),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<I", 1 << 20) + b"x" * 1000,
        struct.pack("<I", 5) + b"\xdd\xff\xff\xff\xff",  # a msgpack array of 2^32 - 1
        struct.pack("<I", 1000) + b"\x91" * 1000,  # a deep one
        struct.pack("<I", 3) + b"\xd4\x00\x00",  # an extension type
    ]
    with contextlib.ExitStack() as stack:
        for number in range(300):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.settimeout(2)
            # refused when there are too many, or while the others are being refused
            with contextlib.suppress(OSError):
                client.connect(os.fspath(path))
                client.sendall(said[number % len(said)])
        # the worker's connection is one of them
        assert world.admin("GET", "/apisix/admin/routes/all").status == 200
        assert world.rss_mb() - before < 32
    assert world.admin("GET", "/apisix/admin/routes/all").status == 200


def test_an_agent_that_hangs_does_not_hang_the_traffic(world: World) -> None:
    agent = world.gateway.agent_pid()
    os.kill(agent, signal.SIGSTOP)
    try:
        asking = threading.Thread(target=lambda: world.admin("GET", "/apisix/admin/routes/all"))
        asking.start()
        for _ in range(20):
            assert world.gateway.call("/while-it-hangs").status == 200
    finally:
        os.kill(agent, signal.SIGCONT)
    asking.join(20)
    assert not asking.is_alive()
    assert world.admin("GET", "/apisix/admin/routes/all").status == 200


# What lies about when a gateway starts.


def test_what_was_planted_is_not_believed(tmp_path: Path) -> None:
    """"last-good file -> agent", "agent -> shared memory -> worker": damaged, cut, linked, writable by others."""
    with running_canary() as canary:
        gateway = Gateway(tmp_path / "gateway", workers=1)
        try:
            gateway.start()
            gateway.put_route("1", "/kept", canary.port)
            gateway.wait_served("/kept")
            [last_good] = wait_until(lambda: find_last_good(gateway), what="the last good configuration's file")
            assert last_good.stat().st_mode & 0o777 == 0o600
            gateway.stop()
            good = last_good.read_bytes()
            names = SegmentNames(gateway.name)
            for number, plant in enumerate((cut_in_half, make_writable, make_link)):
                last_good.unlink(missing_ok=True)
                last_good.write_bytes(good)
                last_good.chmod(0o600)
                plant(last_good)
                said = gateway.output().count("is not used")
                # Segments of ours, as a crash would leave them: garbage, cut, empty.
                for name in (names.control, names.log, names.workers, names.counters, names.snapshot(1)):
                    leftover = SHM_DIR / name.removeprefix("/")
                    leftover.write_bytes((b"\xff" * 5000, b"", b"\x00" * 100_000)[number])
                    leftover.chmod(0o660 if name in (names.workers, names.counters) else 0o640)
                gateway.start()
                assert gateway.output().count("is not used") == said + 1
                gateway.wait_served("/kept")
                gateway.stop()
                assert gateway.left_in_shm() == []
        finally:
            gateway.kill()


def test_shared_memory_that_is_cut_off_while_it_is_in_use_heals(tmp_path: Path) -> None:
    """Whoever reads it dies of SIGBUS, is started again, and makes it anew. Only its owner can do that."""
    with running_canary() as canary, running_gateway(tmp_path / "gateway") as gateway:
        gateway.put_route("0", "/kept", canary.port)
        gateway.wait_served("/kept")
        names = SegmentNames(gateway.name)
        for number, name in enumerate((names.control, names.log), 1):
            os.truncate(SHM_DIR / name.removeprefix("/"), 0)
            route = {"uri": f"/new/{number}", "upstream": {"nodes": {f"127.0.0.1:{canary.port}": 1}}}

            def is_written(id: str = str(number), route: dict[str, Any] = route) -> bool:
                return gateway.admin("PUT", f"/routes/{id}", route).status in (200, 201)

            wait_until(is_written, what="the agent to be back")
            gateway.wait_served(f"/new/{number}")
            gateway.wait_served("/kept")


def find_last_good(gateway: Gateway) -> list[Path]:
    # Not the hidden file beside it, which a save renames away at any moment.
    found = (gateway.directory / "data").glob("last-good.*")
    return [path for path in found if path.read_bytes()[:8] == b"JWLGOOD2"]


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def make_writable(path: Path) -> None:
    path.chmod(0o666)


def make_link(path: Path) -> None:
    aside = path.with_name("elsewhere")
    path.rename(aside)
    path.symlink_to(aside)
