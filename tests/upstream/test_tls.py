"""TLS towards upstreams: real servers, the certificates of tests/data/tls."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gw.model.upstream import Upstream
from gw.upstream import tls as module
from gw.upstream.client import UpstreamClient
from gw.upstream.errors import ConnectFailed
from gw.upstream.fetch import Fetched, Fetcher
from gw.upstream.target import Target, TlsIdentity, TlsMaterial
from gw.upstream.tls import (
    TlsContexts,
    UnusableTls,
    fixed_server_name,
    material_fault,
    read_material,
    server_name_of,
)
from tests.support.edge import OK, PATIENCE_S, ScriptedUpstream, replying, run, scripted_upstream, upstream_dict

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"
CERT, KEY, CA = ((TLS / name).read_text() for name in ("client.pem", "client.key", "ca.pem"))
OTHER_CA, SERVER_KEY = ((TLS / name).read_text() for name in ("other-ca.pem", "server.key"))
# Made with openssl, password `secret`; it guards nothing.
ENCRYPTED_KEY = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhU93n1r9iMqAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPgI/epbt4wYsoFbmquxnzAEgZCX
lwQtDNOKcC5d43Qz82g1L37J0ovhtiFTvurFzEdZRydR+8dt68mNmXakiKZ9ssA/
Jr4sWDf3CKh0rvlpnZQ5BJgtSEKcAUrhCP5NPKeUvNo6kHH2KJxFWf2qt3FNDVts
bIoVn70ro2MbBo1FsCJa2cMbIu0mCF/B0LOcjyP956GLN/d1YE6X0hRnZZaEDeQ=
-----END ENCRYPTED PRIVATE KEY-----
"""


class Server:
    """What clients said as they came: names, and whether each showed a certificate."""

    def __init__(self, *, asks_for_certificate: bool = False) -> None:
        self.names: list[str | None] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        if asks_for_certificate:
            self.context.load_verify_locations(TLS / "ca.pem")
            self.context.verify_mode = ssl.CERT_REQUIRED


class Asking:
    def __init__(self, client: UpstreamClient, upstream: ScriptedUpstream) -> None:
        self.client = client
        self.upstream = upstream

    async def __call__(self, *, host: str = "127.0.0.1", **options: Any) -> Fetched:
        url = f"https://{host}:{self.upstream.port}/"
        return await Fetcher(self.client).fetch("GET", url, timeout_s=PATIENCE_S, **{"ssl_verify": False, **options})


@contextlib.asynccontextmanager
async def asking(server: Server, trusted: Path | None = None) -> AsyncIterator[Asking]:
    client = UpstreamClient(asyncio.get_running_loop(), trusted)
    async with scripted_upstream(replying(OK), tls=server.context) as upstream:
        try:
            yield Asking(client, upstream)
        finally:
            await client.close()


def test_what_is_verified_and_by_whom() -> None:
    async def main() -> None:
        async with asking(Server(), TLS / "ca.pem") as ask:
            for verify, material, server_name, works in [
                (False, None, "anything.test", True),
                (True, None, "localhost", True),
                (True, None, "127.0.0.1", True),
                (True, None, "anything.test", False),
                (True, TlsMaterial(ca_certs=(OTHER_CA,)), "localhost", False),
                (True, TlsMaterial(ca_certs=(OTHER_CA, CA)), "localhost", True),
                (True, TlsMaterial(ca_certs=((TLS / "server.pem").read_text(),)), "localhost", True),
                (True, None, "", False),
            ]:
                with contextlib.nullcontext() if works else pytest.raises(ConnectFailed):
                    await ask(ssl_verify=verify, material=material, server_name=server_name)

    run(main())


def test_the_clients_certificate() -> None:
    async def main() -> None:
        async with asking(Server(asks_for_certificate=True)) as ask:
            assert (await ask(material=TlsMaterial(CERT, KEY))).status == 200
            assert (await ask(material=TlsMaterial(CERT, KEY), ssl_verify=False)).status == 200
            assert ask.upstream.connections == 1, "equal material is one identity"
            # TLS 1.3: the server's refusal comes with the first read.
            with pytest.raises(Exception, match=r"closed|alert|reset"):
                await ask()

    run(main())


@pytest.mark.parametrize(
    ("server_name", "sent"),
    [("a.test", "a.test"), ("127.0.0.1", None), ("::1", None), ("", None), ("under_score.test", "under_score.test")],
)
def test_the_name_that_is_sent(server_name: str, sent: str | None) -> None:
    server = Server()

    async def main() -> None:
        async with asking(server) as ask:
            await ask(server_name=server_name)

    run(main())
    assert server.names == [sent]


@pytest.mark.parametrize("server_name", [".a.test", "a..b", "x" * 64, "a\0b", "\udc80"])
def test_a_name_that_cannot_be_sent_fails_its_request_alone(
    server_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be what a client sent as its Host, so it must not fill the log either."""

    async def main() -> None:
        async with asking(Server()) as ask:
            with pytest.raises(ConnectFailed, match="server name"):
                await ask(server_name=server_name)
            assert (await ask()).status == 200

    run(main())
    assert [record.message for record in caplog.records if record.name.startswith("gw.")] == []


BAD_MATERIAL = [
    (TlsMaterial(CERT, "nonsense"), "tls.client_cert and client_key"),
    (TlsMaterial("nonsense", KEY), "tls.client_cert and client_key"),
    (TlsMaterial(CERT, SERVER_KEY), "tls.client_cert and client_key"),
    (TlsMaterial(CERT, ENCRYPTED_KEY), "tls.client_cert and client_key"),
    (TlsMaterial(ca_certs=(CA, "nonsense")), r"tls.ca_certs\[1\]"),
    (TlsMaterial(ca_certs=("",)), r"tls.ca_certs\[0\]"),
    (TlsMaterial(ca_certs=("\u00e4",)), r"tls.ca_certs\[0\]"),
]


@pytest.mark.parametrize(("material", "reason"), BAD_MATERIAL)
def test_what_cannot_be_loaded_fails_with_a_reason_and_nothing_else(material: TlsMaterial, reason: str) -> None:
    async def main() -> None:
        async with asking(Server()) as ask:
            with pytest.raises(ConnectFailed, match=reason) as caught:
                await ask(material=material, ssl_verify=bool(material.ca_certs))
            assert "BEGIN" not in str(caught.value)
            assert (await ask()).status == 200

    run(main())
    assert material_fault(material)


def test_what_is_well_has_no_fault() -> None:
    assert material_fault(TlsMaterial(CERT, KEY, (CA, OTHER_CA))) is None
    assert material_fault(TlsMaterial(CERT, KEY + CA)) is None


def test_authorities_of_the_configuration_that_are_not_there() -> None:
    async def main() -> None:
        async with asking(Server(), TLS / "absent.pem") as ask:
            with pytest.raises(ConnectFailed, match=r"ssl_trusted_certificate: .*absent\.pem cannot be read"):
                await ask(ssl_verify=True)
            assert (await ask()).status == 200

    run(main())


def test_no_secret_shows() -> None:
    material = TlsMaterial(CERT, "the key", (CA,))
    target = Target("a", 1, TlsIdentity("a", verify=True, material=material))
    for shown in (repr(material), str(material), repr(target)):
        assert "the key" not in shown
        assert "BEGIN" not in shown


def test_identity_is_what_the_texts_say() -> None:
    assert TlsMaterial(CERT, KEY) == TlsMaterial(CERT, KEY)
    assert hash(TlsMaterial(CERT, KEY)) == hash(TlsMaterial(CERT, KEY))
    assert len({TlsMaterial(), TlsMaterial("a"), TlsMaterial("", "a"), TlsMaterial("", "", ("a",)), None}) == 5


def test_contexts_are_shared_made_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONTEXTS", 3)

    async def main() -> None:
        contexts = TlsContexts(asyncio.get_running_loop(), None)
        identity = TlsIdentity("a", verify=False)
        first, second = await asyncio.gather(*(contexts.get_context(identity) for _ in range(2)))
        assert first is second is await contexts.get_context(TlsIdentity("b", verify=False))
        for number in range(5):
            material = TlsMaterial(ca_certs=(CA + "\n" * number,))
            await contexts.get_context(TlsIdentity("a", verify=True, material=material))
        assert len(contexts) == 3
        assert await contexts.get_context(identity) is not first

    run(main())


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (None, None),
        ({"verify": True}, None),
        ({"client_cert": "c", "client_key": "k"}, TlsMaterial("c", "k")),
        ({"verify": True, "ca_certs": ["a", "b"]}, TlsMaterial(ca_certs=("a", "b"))),
        ({"verify": False, "ca_certs": ["a"]}, None),
        ({"ca_certs": ["a"], "client_cert": "c", "client_key": "k"}, TlsMaterial("c", "k")),
    ],
)
def test_what_an_upstream_asks_for(tls: dict[str, Any] | None, expected: TlsMaterial | None) -> None:
    assert read_material(tls) == expected


@pytest.mark.parametrize("id", ["x", 1])
def test_a_certificate_that_was_not_looked_up(id: Any) -> None:
    with pytest.raises(UnusableTls, match=f"client_cert_id: certificate {id} was not looked up"):
        read_material({"client_cert_id": id, "client_cert": "c", "client_key": "k"})


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"pass_host": "pass"}, None),
        ({"pass_host": "node"}, "127.0.0.1"),
        ({"pass_host": "rewrite", "upstream_host": "a.test:8443"}, "a.test"),
    ],
)
def test_whose_name_is_sent(fields: dict[str, Any], name: str | None) -> None:
    upstream = Upstream.from_dict(upstream_dict(1, scheme="https", **fields))
    assert fixed_server_name(upstream, upstream.nodes[0]) == name


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a", "a"),
        ("a:1", "a"),
        ("a:", "a"),
        ("a.test.:1", "a.test"),
        ("[::1]:1", "::1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("a:b", "a:b"),
        ("", ""),
    ],
)
def test_the_name_in_a_host(host: str, name: str) -> None:
    assert server_name_of(host) == name


def test_a_target_under_another_name() -> None:
    target = Target("a", 1, TlsIdentity("a", verify=True, material=TlsMaterial("c", "k")))
    assert target.named("a") is target
    assert target.named("b") == Target("a", 1, TlsIdentity("b", verify=True, material=TlsMaterial("c", "k")))
    assert Target("a", 1).named("b") == Target("a", 1)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("last_words", [OK, b""])
def test_what_an_idle_connection_holds_unread_is_no_answer(tls: bool, last_words: bytes) -> None:
    """It came, or the end did, since the loop last looked: the next request would be answered by it."""
    goes_on = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with Server().context.wrap_socket(peer, server_side=True) if tls else peer as stream:
            stream.recv(65536)
            stream.sendall(OK)
            goes_on.wait(PATIENCE_S)
            if last_words:
                stream.sendall(last_words)
                with contextlib.suppress(ConnectionError):
                    stream.recv(1)

    async def main() -> None:
        client = UpstreamClient(asyncio.get_running_loop())
        fetch = Fetcher(client).fetch
        url = f"http{'s' * tls}://127.0.0.1:{listener.getsockname()[1]}/"
        assert (await fetch("GET", url, timeout_s=PATIENCE_S, ssl_verify=False)).status == 200
        (connection,) = client._connections
        goes_on.set()
        # The loop is held here, as by other work.
        readable = select.select([connection._transport.get_extra_info("socket").fileno()], [], [], PATIENCE_S)[0]
        assert readable
        assert client.take_idle(connection.target) is None
        assert connection.closed
        await client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        run(main())
        server.join()
