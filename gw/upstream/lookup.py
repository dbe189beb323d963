"""Addresses of a name, as this host finds them: its own files first, then the DNS servers, each search domain in turn.

As the system's resolver does (resolv.conf(5)), with what it cannot tell: for how long the answer holds. Both types of
address are asked for at once. One type that fails does not take the addresses of the other from us, and is not waited
for long: there are servers that never answer AAAA.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gw.upstream.dns_query import Answer, Server, ServerFailed, query
from gw.upstream.resolve import Found, NoSuchName
from gw.upstream.system_names import (
    HOSTS,
    RESOLV_CONF,
    SystemFile,
    find_local,
    names_to_try,
    parse_hosts,
    parse_resolv_conf,
)

logger = logging.getLogger(__name__)

# /etc/hosts has no TTL; an edit is followed about as fast as one would look for it.
HOSTS_TTL_S: Final = 5.0
# What the second type of address has left when the first has come (RFC 8305 takes 50 ms, with a person waiting).
OTHER_TYPE_S: Final = 0.5
# No server is waited for longer before the next one is asked, or the same one again: APISIX's (core/dns/client.lua).
_TRY_S: Final = 2.0
_ROUNDS: Final = 2
# An alias that the server did not follow is followed by us; glibc and BIND stop at some 16.
_MAX_ALIASES: Final = 8

_TYPES: Final = ("A", "AAAA")


class ResolverOptions(NamedTuple):
    """gw.settings.resolver, as plain values. No `servers`: those of /etc/resolv.conf. `valid_s` replaces every TTL."""

    servers: tuple[Server, ...] = ()
    valid_s: float | None = None
    timeout_s: float = 5.0
    search: bool = True
    ipv6: bool = True


class _Untold(NamedTuple):
    """No server could tell."""

    reason: str
    addresses: tuple[str, ...] = ()
    ttl_s: float = 0.0


class SystemLookup:
    """One per worker. `await lookup(name)` asks; it remembers nothing but which server answered last."""

    def __init__(
        self, options: ResolverOptions | None = None, *, hosts: Path = HOSTS, resolv_conf: Path = RESOLV_CONF
    ) -> None:
        self._options = options = options or ResolverOptions()
        self._types = _TYPES if options.ipv6 else _TYPES[:1]
        self._hosts = SystemFile(hosts, parse_hosts)
        self._resolv_conf = SystemFile(resolv_conf, parse_resolv_conf)
        self._answered: Server | None = None

    async def __call__(self, name: str) -> Found:
        """Return at least one address, IPv4 first. Raises NoSuchName when there is none, OSError if nobody can tell."""
        local = find_local(await self._hosts.content(), name)
        if not self._options.ipv6:
            local = tuple(address for address in local if ":" not in address)
        if local:
            return Found(_ipv4_first(local), HOSTS_TTL_S)
        system = await self._resolv_conf.content()
        servers = self._options.servers or system.servers
        search = system.search if self._options.search else ()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                for full_name in names_to_try(name, search, system.ndots):
                    if (found := await self._ask(full_name, servers)) is not None:
                        return found
        except TimeoutError:
            asked = ", ".join(server[0] for server in servers)
            raise TimeoutError(f"no answer from {asked} within {self._options.timeout_s:g} s") from None
        raise NoSuchName(f"{name} has no address")

    async def _ask(self, name: str, servers: Sequence[Server]) -> Found | None:
        """Ask for all types; None when the servers say that there is no address. Raises OSError when they cannot."""
        asking = [asyncio.create_task(self._ask_type(name, each, servers), name=f"dns {name}") for each in self._types]
        try:
            first, pending = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                got_addresses = any(task.result().addresses for task in first)
                await asyncio.wait(pending, timeout=OTHER_TYPE_S if got_addresses else None)
        finally:
            for task in asking:
                task.cancel()
        outcomes = [task.result() for task in asking if task.done() and not task.cancelled()]
        addresses = tuple(address for outcome in outcomes for address in outcome.addresses)
        if addresses:
            ttl_s = min(outcome.ttl_s for outcome in outcomes if outcome.addresses)
            return Found(addresses, self._options.valid_s or ttl_s)
        for outcome in outcomes:
            if isinstance(outcome, _Untold):
                raise OSError(outcome.reason)
        return None

    async def _ask_type(self, name: str, record_type: str, servers: Sequence[Server]) -> Answer | _Untold:
        """Follow aliases to an answer. Raises nothing: both tasks end with an outcome."""
        ttl_s = float("inf")
        for _ in range(_MAX_ALIASES):
            try:
                answer = await self._ask_servers(name, record_type, servers)
            except OSError as error:
                return _Untold(str(error))
            ttl_s = min(ttl_s, answer.ttl_s)
            if answer.addresses or not answer.alias_of:
                return answer._replace(ttl_s=ttl_s)
            name = answer.alias_of
        return _Untold(f"more than {_MAX_ALIASES} aliases")

    async def _ask_servers(self, name: str, record_type: str, servers: Sequence[Server]) -> Answer:
        """The first server that answers has the last word. Raises OSError with what the last one said."""
        try_s = min(_TRY_S, self._options.timeout_s / len(servers) / _ROUNDS)
        # The one that answered last goes first: a dead one costs its time once, and not for each name.
        order = sorted(servers, key=lambda server: server != self._answered)
        failure = ""
        for server in (*order, *order):
            try:
                answer = await query(server, name, record_type, try_s)
            except TimeoutError:
                failure = f"no answer from {server[0]}"
            except OSError as error:
                failure = f"{error} from {server[0]}"
            else:
                self._answered = server
                return answer
        raise ServerFailed(failure)


def _ipv4_first(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(addresses, key=lambda address: ":" in address))
