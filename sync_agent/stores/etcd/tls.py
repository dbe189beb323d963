"""Channel credentials from TLS options. Reads files; with `verify` off, also asks the server for its certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

from gw.errors import StoreError
from sync_agent.stores.etcd.options import Address, TlsOptions
from sync_agent.stores.etcd.rpc import grpc


async def load_credentials(options: TlsOptions, address: Address, timeout_s: float) -> tuple[Any, str | None]:
    """gRPC's channel credentials, and the name to expect in the certificate (None: the host's).

    Raises StoreError naming the file that cannot be read, or the endpoint that shows no certificate.
    """
    authorities = _read(options.ca if options.ca is not None else _system_authorities(), "ca")
    expected_name = options.sni
    if not options.verify:
        authorities, expected_name = await asyncio.to_thread(_shown_certificate, options, address, timeout_s)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authorities,
        private_key=_read(options.key, "key"),
        certificate_chain=_read(options.cert, "cert"),
    )
    return credentials, expected_name


def _read(path: Path | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"the TLS file {path} for etcd (deployment.etcd.tls, {name}): {error.strerror}") from error


def _system_authorities() -> Path | None:
    """The system's bundle; None leaves it to the one that gRPC brings."""
    bundle = ssl.get_default_verify_paths().cafile
    return Path(bundle) if bundle is not None else None


def _shown_certificate(options: TlsOptions, address: Address, timeout_s: float) -> tuple[bytes, str | None]:
    """The certificate the server shows, and a name in it: trusted, gRPC accepts that server.

    gRPC itself knows no connection without verification.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        shown = _handshake(context, options, address, timeout_s)[0]
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a leaf alone may be the anchor
        context.load_verify_locations(cadata=shown)
        names = _handshake(context, options, address, timeout_s)[1]
    except OSError as error:  # ssl.SSLError is one
        raise StoreError(f"etcd {address.url}: no TLS certificate to be had: {error}") from error
    return ssl.DER_cert_to_PEM_cert(shown).encode(), names[0] if names else None


def _handshake(
    context: ssl.SSLContext, options: TlsOptions, address: Address, timeout_s: float
) -> tuple[bytes, tuple[str, ...]]:
    if options.cert is not None:
        context.load_cert_chain(options.cert, options.key)
    with (
        socket.create_connection((address.host, address.port), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=options.sni or address.host) as wrapped,
    ):
        shown = wrapped.getpeercert(binary_form=True)
        if shown is None:
            raise ssl.SSLError("the server shows no certificate")
        # Empty unless verified, which is why there are two handshakes.
        alternatives: Any = (wrapped.getpeercert() or {}).get("subjectAltName", ())
        return shown, tuple(value for kind, value in alternatives if kind in ("DNS", "IP Address"))
