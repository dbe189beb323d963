"""TLS towards upstreams: what an upstream's `tls` asks for, which name is sent, and the contexts.

A context is expensive (one that trusts the host's authorities: 20 to 70 ms to load, 0.8 MB), so it is made once for
what it depends on, in a thread, and shared: names belong to connections. What cannot be loaded fails the connections
that need it, with a reason, and nothing else.

What APISIX does (apisix/upstream.lua; apisix/cli/ngx_tpl.lua with proxy_ssl_name; pull request 13863 for `ca_certs`):
the server name is the Host that goes upstream, without its port; nothing is verified unless `verify` says so; the
client's certificate is `client_cert` and `client_key` (what `client_cert_id` names is put there by
gw.rebuild.certificates).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from gw.model.upstream import Node, Upstream
from gw.upstream.target import TlsIdentity, TlsMaterial

# Contexts in memory; beyond it the one that was made first is made again when it is needed.
MAX_CONTEXTS: Final = 256
_MAX_CHECKED: Final = 4096

_ContextKey = tuple[bool, TlsMaterial | None]


class UnusableTls(OSError):
    """What an upstream's `tls` asks for cannot be done. Its text says which field, and why; no secret is in it."""


def read_material(tls: Mapping[str, Any] | None) -> TlsMaterial | None:
    """What `tls` of an upstream says beside `verify`; None when that is nothing.

    Raises UnusableTls for a `client_cert_id` that nobody has put certificate and key in the place of. What is in the
    texts is looked at by `material_fault`.
    """
    fields = tls or {}
    cert, key = fields.get("client_cert", ""), fields.get("client_key", "")
    if fields.get("client_cert_id") is not None:
        # gw.rebuild.certificates does. Without it a node would be asked without the certificate it is to see.
        raise UnusableTls(f"tls.client_cert_id: certificate {fields['client_cert_id']} was not looked up")
    # Without `verify` nobody looks at them: two upstreams that differ in them alone share contexts and pools.
    authorities = tuple(fields.get("ca_certs", ())) if fields.get("verify") else ()
    return TlsMaterial(cert, key, authorities) if cert or authorities else None


def fixed_server_name(upstream: Upstream, node: Node) -> str | None:
    """The name for TLS that the configuration settles; None when it is the request's Host (`pass_host: pass`)."""
    if upstream.pass_host == "rewrite" and upstream.upstream_host:  # noqa: S105 - a mode, not a password
        return server_name_of(upstream.upstream_host)
    return server_name_of(node.host) if upstream.pass_host == "node" else None  # noqa: S105 - as above


def server_name_of(host: str) -> str:
    """The name in a Host: without port, brackets, and the dot that ends a full name (RFC 6066 section 3)."""
    name, colon, port = host.rpartition(":")
    has_port = colon and (port.isdecimal() or not port) and (":" not in name or name.endswith("]"))
    return (name if has_port else host).removeprefix("[").removesuffix("]").removesuffix(".")


def name_fault(server_name: str) -> str | None:
    """Why TLS cannot carry a name; None when it can. Looked at before, because loops log what ssl raises for it.

    It may be what a client sent as its Host.
    """
    try:
        server_name.encode("idna")
    except UnicodeError as error:
        return str(error)
    return "it begins with a dot, or holds a NUL" if server_name.startswith(".") or "\0" in server_name else None


@lru_cache(_MAX_CHECKED)
def material_fault(material: TlsMaterial) -> str | None:
    """Why connections with it will fail, for the report of a route; None when they need not."""
    try:
        build_context(TlsIdentity("", verify=bool(material.ca_certs), material=material), None)
    except UnusableTls as error:
        return str(error)
    return None


def build_context(identity: TlsIdentity, trusted: Path | None) -> ssl.SSLContext:
    """A context for connections of this identity, whatever their server name. Raises UnusableTls.

    Not ssl's default context: that is stricter from Python 3.13 on (VERIFY_X509_STRICT) than nginx, and private
    authorities often fail by it.

    `trusted`: PEM file of the authorities to verify by where the upstream lists none; None: those of the host.
    """
    material = identity.material
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # First, because it is cheap where the authorities are not.
    if material is not None and material.client_cert:
        _present(context, material)
    if not identity.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif material is not None and material.ca_certs:
        _trust(context, material.ca_certs)
    else:
        _trust_file(context, trusted)
    return context


def _trust(context: ssl.SSLContext, authorities: tuple[str, ...]) -> None:
    # What the operator lists is trusted, whether or not it is a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for number, text in enumerate(authorities):
        try:
            context.load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError, TypeError) as error:
            raise UnusableTls(f"tls.ca_certs[{number}] is no certificate in PEM: {error}") from None


def _trust_file(context: ssl.SSLContext, trusted: Path | None) -> None:
    if trusted is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(cafile=trusted)
    except OSError as error:
        raise UnusableTls(f"apisix.ssl.ssl_trusted_certificate: {trusted} cannot be read: {error}") from None


def _present(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Load the client's certificate and key, which ssl only takes from a file: from one that is in no directory."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=True) as file:
        file.write(f"{material.client_cert.strip()}\n{material.client_key.strip()}\n".encode())
        file.flush()
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=lambda: "")
        except (OSError, ValueError) as error:
            raise UnusableTls(f"tls.client_cert and client_key cannot be used: {error}") from None


class TlsContexts:
    """The contexts of one worker. Verification is by `trusted`, or by what an upstream brings with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trusted: Path | None) -> None:
        self._loop = loop
        self._trusted = trusted
        self._contexts: dict[_ContextKey, ssl.SSLContext] = {}
        self._building: dict[_ContextKey, asyncio.Future[ssl.SSLContext | str]] = {}

    async def get_context(self, identity: TlsIdentity) -> ssl.SSLContext:
        """The context, at once when it is known. Raises UnusableTls."""
        key = (identity.verify, identity.material)
        context = self._contexts.get(key)
        if context is not None:
            return context
        building = self._building.get(key)
        if building is None:
            building = self._building[key] = self._loop.run_in_executor(None, self._build, identity)
            building.add_done_callback(lambda _: self._building.pop(key, None))
        outcome = await asyncio.shield(building)
        if isinstance(outcome, str):
            raise UnusableTls(outcome)
        self._keep(key, outcome)
        return outcome

    def _build(self, identity: TlsIdentity) -> ssl.SSLContext | str:
        try:
            return build_context(identity, self._trusted)
        except UnusableTls as error:
            return str(error)

    def _keep(self, key: _ContextKey, context: ssl.SSLContext) -> None:
        if key not in self._contexts and len(self._contexts) >= MAX_CONTEXTS:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[key] = context

    def __len__(self) -> int:
        return len(self._contexts)
