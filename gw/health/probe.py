"""One probe of one target, on a connection of its own: all it wants is the status line.

Source: run_single_check of lua-resty-healthcheck. The answer is the status, 0 for a status line that cannot be read,
None for a TCP probe that connected; TimeoutError and any other OSError say what else happened.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from gw.health.checker import Target
from gw.health.checks import UNREADABLE, ActiveChecks, ProbeType
from gw.model.upstream import split_address

Probe = Callable[[Target, ActiveChecks], Awaitable[int | None]]

_STATUS_LINE: Final = re.compile(rb"HTTP/\d+\.\d+\s+(\d{3})\b")


class StreamProbe:
    """Probes with asyncio's streams. `trusted_certificates`: PEM file of authorities; None: those of the host."""

    def __init__(self, trusted_certificates: Path | None = None) -> None:
        self._trusted_certificates = trusted_certificates
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def __call__(self, target: Target, active: ActiveChecks) -> int | None:
        """Probe once, within `active.timeout_s`. Raises TimeoutError or another OSError."""
        async with asyncio.timeout(active.timeout_s):
            secure = active.type is ProbeType.HTTPS
            reader, writer = await asyncio.open_connection(
                target.host,
                target.port,
                ssl=self._context(active.verify) if secure else None,
                server_hostname=split_address(target.host_header)[0] if secure else None,
            )
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

    def _context(self, verify: bool) -> ssl.SSLContext:
        if verify not in self._contexts:
            context = ssl.create_default_context(cafile=self._trusted_certificates if verify else None)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # as for the traffic: gw/upstream/client.py says why
            if not verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._contexts[verify] = context
        return self._contexts[verify]


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
