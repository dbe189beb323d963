"""Who may do what: the admin keys and their roles. The only place that decides it, and it sees every operation.

A key is never kept: what is compared are digests, so that neither the time of a comparison nor a dump of this object
tells the length or the beginning of a key. Every key is compared, also after one has matched.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Protocol

from gw.model.operations import Authorize, Get, List, Operation

# APISIX's roles. A role of any other name may do nothing, so that a slip of the pen does not make an admin.
ADMIN: Final = "admin"
VIEWER: Final = "viewer"


class KeyLike(Protocol):
    """A configured key, as gw.settings.AdminKey has it."""

    @property
    def name(self) -> str:
        """What the key is called in the configuration."""
        ...

    @property
    def key(self) -> str:
        """The secret itself."""
        ...

    @property
    def role(self) -> str:
        """`admin` or `viewer`."""
        ...


class AdminKeys:
    """The configured keys. With `required` off, a caller without a key is an admin (`admin_key_required: false`)."""

    def __init__(self, keys: Iterable[KeyLike], *, required: bool = True) -> None:
        self._roles = tuple((_digest(each.key), each.role) for each in keys if each.key)
        self._required = required

    def refusal(self, api_key: str | None, operation: Operation) -> str | None:
        """Why the holder of this key may not do this, in APISIX's words; None: they may."""
        if not self._required:
            return None
        if not api_key:
            return "missing apikey"
        role = self._role_of(api_key)
        if role == ADMIN or (role == VIEWER and _only_reads(operation)):
            return None
        return "invalid method for role viewer" if role == VIEWER else "wrong apikey"

    def _role_of(self, api_key: str) -> str | None:
        shown = _digest(api_key)
        found = None
        for digest, role in self._roles:
            if hmac.compare_digest(digest, shown):
                found = role
        return found


def _only_reads(operation: Operation) -> bool:
    match operation:
        case Get() | List():
            return True
        case Authorize(write):
            return not write
        case _:
            return False


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).digest()
