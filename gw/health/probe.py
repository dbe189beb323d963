"""One probe of one target, on a connection of its own: all it wants is the status line.

Source: run_single_check of lua-resty-healthcheck. The answer is the status, 0 for a status line that cannot be read,
None for a TCP probe that connected; TimeoutError and any other OSError say what else happened.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from gw.health.checker import Target
from gw.health.checks import UNREADABLE, ActiveChecks, ProbeType
from gw.model.hosts import is_address
from gw.model.upstream import split_address

Probe = Callable[[Target, ActiveChecks], Awaitable[int | None]]
Addresses = Callable[[str], Awaitable[Sequence[str]]]

_STATUS_LINE: Final = re.compile(rb"HTTP/\d+\.\d+\s+(\d{3})\b")


class StreamProbe:
    """Probes with asyncio's streams.

    `trusted_certificates`: PEM file of authorities; None: those of the host. `addresses` tells those of a name, or
    raises OSError (gw.upstream.resolve.Resolver.addresses); None: the system does. A name is up when any of them is.
    """

    def __init__(self, trusted_certificates: Path | None = None, addresses: Addresses | None = None) -> None:
        self._trusted_certificates = trusted_certificates
        self._addresses = addresses
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def __call__(self, target: Target, active: ActiveChecks) -> int | None:
        """Probe once, within `active.timeout_s`. Raises TimeoutError or another OSError."""
        async with asyncio.timeout(active.timeout_s):
            reader, writer = await self._connect(target, active)
            try:
                if active.type is ProbeType.TCP:
                    return None
                writer.write(request_bytes(target, active))
                return read_status(await reader.readline())
            except ValueError:  # a line without an end
                return UNREADABLE
            finally:
                # At once: a TLS close would wait for an answer, and there is nothing left to send.
                writer.transport.abort()

    async def _connect(self, target: Target, active: ActiveChecks) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = await self._context(active.verify) if active.type is ProbeType.HTTPS else None
        server_name = None if context is None else split_address(target.host_header)[0]
        hosts: Sequence[str] = (target.host,)
        if self._addresses is not None and not is_address(target.host):
            hosts = await self._addresses(target.host)
        for left, host in zip(range(len(hosts) - 1, -1, -1), hosts, strict=True):
            try:
                return await asyncio.open_connection(host, target.port, ssl=context, server_hostname=server_name)
            except OSError:
                if not left:
                    raise
        raise OSError(f"{target.host} has no address")

    async def _context(self, verify: bool) -> ssl.SSLContext:
        if verify not in self._contexts:
            # In a thread: the authorities of a host take some 20 ms to read.
            self._contexts[verify] = await asyncio.to_thread(_tls_context, verify, self._trusted_certificates)
        return self._contexts[verify]


def _tls_context(verify: bool, trusted_certificates: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trusted_certificates if verify else None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as for the traffic: gw/upstream/client.py says why
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def request_bytes(target: Target, active: ActiveChecks) -> bytes:
    """The request of a probe. Nothing in it holds a line break: the schema keeps them out."""
    body = active.body.encode()
    lines = [f"{active.method} {active.path} HTTP/1.1", "Connection: close", *active.header_lines]
    lines.append(f"Host: {target.host_header}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode() + body


def read_status(line: bytes) -> int:
    """The status in a status line, 0 when there is none in it. Raises ConnectionError for a line that was cut off."""
    if not line.endswith(b"\n"):
        raise ConnectionResetError("closed before the end of the status line")
    matched = _STATUS_LINE.match(line)
    return int(matched[1]) if matched else UNREADABLE
