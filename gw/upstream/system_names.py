"""What this host itself says about names: /etc/hosts and /etc/resolv.conf, read again when they change.

Parsing is plain functions over text. A file is read in a thread, because an /etc/hosts that blocks advertisers has a
hundred thousand lines; whether it changed is one stat, as often as names are looked up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from gw.model.hosts import is_address

T = TypeVar("T")

HOSTS: Final = Path("/etc/hosts")
RESOLV_CONF: Final = Path("/etc/resolv.conf")
DNS_PORT: Final = 53
# RFC 6761 section 6.3: never asked of a DNS server, which could lead it astray.
_LOCALHOST: Final = "localhost"
_LOOPBACK: Final = ("127.0.0.1", "::1")
# resolv.conf(5): more servers are ignored, and ndots is capped.
_MAX_SERVERS: Final = 3
_MAX_NDOTS: Final = 15

Addresses = dict[str, tuple[str, ...]]


class ResolvConf(NamedTuple):
    """Servers as (IP address, port); suffixes to try, without dots at their ends; dots that make a name a full one."""

    servers: tuple[tuple[str, int], ...]
    search: tuple[str, ...]
    ndots: int


class SystemFile(Generic[T]):
    """The parsed content of a file, as new as the file is. One that cannot be read counts as empty."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._content = parse("")
        self._state: tuple[int, int, int] | None = None

    async def content(self) -> T:
        """The content; waits for a thread when the file changed."""
        state = _state_of(self._path)
        if state != self._state:
            self._content = await asyncio.get_running_loop().run_in_executor(None, self._read)
            self._state = state
        return self._content

    def _read(self) -> T:
        try:
            return self._parse(self._path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return self._parse("")


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def parse_hosts(text: str) -> Addresses:
    """hosts(5): every address of each name, in the order of the file; names in lower case."""
    addresses: dict[str, dict[str, None]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if names and is_address(address):
            for name in names:
                addresses.setdefault(name.lower(), {})[address] = None
    return {name: tuple(found) for name, found in addresses.items()}


def find_local(hosts: Addresses, name: str) -> tuple[str, ...]:
    """Addresses that need no server: those of the hosts file, and of localhost and all below it."""
    plain = name.rstrip(".").lower()
    found = hosts.get(plain)
    if found:
        return found
    return _LOOPBACK if plain == _LOCALHOST or plain.endswith(f".{_LOCALHOST}") else ()


def parse_resolv_conf(text: str) -> ResolvConf:
    """resolv.conf(5), as far as it says whom to ask and for what. Without a server: the one of this host."""
    servers: list[tuple[str, int]] = []
    search: tuple[str, ...] = ()
    ndots = 1
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword == "nameserver" and values and is_address(values[0]):
            servers.append((values[0], DNS_PORT))
        elif keyword in ("search", "domain"):
            # The last of these lines is the one that counts. A dot alone is the root, which is tried in any case.
            search = tuple(value.strip(".").lower() for value in values if value.strip("."))
        elif keyword == "options":
            ndots = _ndots(values, ndots)
    return ResolvConf(tuple(servers[:_MAX_SERVERS]) or (("127.0.0.1", DNS_PORT),), search, ndots)


def _ndots(options: list[str], ndots: int) -> int:
    for option in options:
        name, _, number = option.partition(":")
        if name == "ndots" and number.isdecimal():
            ndots = min(int(number), _MAX_NDOTS)
    return ndots


def names_to_try(name: str, search: tuple[str, ...], ndots: int) -> tuple[str, ...]:
    """Full names that a name may mean, the likeliest first. One that ends in a dot means itself."""
    if name.endswith("."):
        return (name[:-1],)
    beneath = tuple(f"{name}.{suffix}" for suffix in search)
    return (name, *beneath) if name.count(".") >= ndots else (*beneath, name)
