"""Upstreams that speak TLS, with a certificate that no system trusts (tests/data/tls)."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge import OK, Wire, compiled, edge, get, replying, run, scripted_upstream, upstream_dict

pytestmark = pytest.mark.usefixtures("each_edge")

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"


def https(port: int, **fields: Any) -> Any:
    return compiled("1", upstream_dict(port, scheme="https", **fields))


def test_not_verified_unless_asked_for_and_never_the_same_connection() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")

    async def main() -> None:
        async with scripted_upstream(replying(OK), tls=context) as upstream:
            routes = {
                "/open": https(upstream.port),
                "/verified": https(upstream.port, tls={"verify": True}),
                "/other-name": https(upstream.port, pass_host="rewrite", upstream_host="upstream.test"),
            }
            async with edge(routes) as running:
                for _ in range(2):
                    assert (await running.ask(get("/open"))).body == b"ok"
                answer = await running.ask(get("/verified"))
                assert answer.status == 502, "the pool's unverified connection was not used for it"
                assert (await running.ask(get("/other-name"))).body == b"ok"
                assert upstream.connections == 2

    run(main())


def test_verified_by_the_authorities_that_are_configured() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")

    async def main() -> None:
        async with scripted_upstream(replying(OK), tls=context) as upstream:
            for authorities, status in (("ca.pem", 200), ("other-ca.pem", 502), ("absent.pem", 502)):
                routes = {"/": https(upstream.port, tls={"verify": True}, pass_host="node")}
                async with edge(routes, trusted_certificates=TLS / authorities) as running:
                    assert (await running.ask(get())).status == status, authorities

    run(main())


@pytest.mark.parametrize("raw", [OK, b"HTTP/1.1 200 OK\r\n\r\n"])
def test_plain_text_instead_of_a_handshake_is_502(raw: bytes) -> None:
    async def speak_plainly(wire: Wire) -> None:
        wire.send(raw)
        await wire.rest()

    async def main() -> None:
        async with scripted_upstream(speak_plainly) as upstream, edge({"/": https(upstream.port)}) as running:
            answer = await running.ask(get())
            assert (answer.status, answer.body) == (502, b'{"error_msg":"502 Bad Gateway"}\n')

    run(main())
