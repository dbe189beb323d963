"""basic-auth: a consumer's user name and password say who a request comes from. See docs/plugins/basic-auth.md.

RFC 7617. What is wrong is never told apart by the time it takes: an unknown user's password is compared, too.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from hashlib import blake2b
from hmac import compare_digest
from typing import ClassVar, Final, NamedTuple

from gw.plugins.api import Caller, Context, Plugin, Reply, attach, is_credential
from gw.plugins.shared.anonymous import Anonymous, challenge

_AUTHORIZATION: Final = b"authorization"
_BASIC: Final = b"basic "

_MISSING: Final = "Missing authorization in request"
_INVALID: Final = "Invalid authorization in request"
_REFUSED: Final = "Invalid user authorization"
# Compared with what an unknown user shows.
_NOBODY: Final = ""


class _Shown(NamedTuple):
    user: str
    password: bytes


class BasicAuth(Plugin):
    """Let in who shows a consumer's user name and password."""

    name: ClassVar[str] = "basic-auth"
    priority: ClassVar[int] = 2520
    attaches_consumers = True
    credential_field: ClassVar[str] = "username"

    def prepare(self) -> None:
        realm: str = self.conf["realm"]
        self._hides: bool = self.conf["hide_credentials"]
        self._refusals = {message: challenge("Basic", realm, message) for message in (_MISSING, _INVALID, _REFUSED)}
        self._anonymous = Anonymous(self, "Basic", realm)

    def rewrite(self, ctx: Context) -> Reply | None:
        headers = ctx.request.headers
        shown = _shown([value for name, value in headers if name == _AUTHORIZATION])
        caller = self._find(shown) if isinstance(shown, _Shown) else None
        if self._hides and shown is not _MISSING:
            headers[:] = [pair for pair in headers if pair[0] != _AUTHORIZATION]
        if caller is not None:
            attach(ctx, caller)
            return None
        return self._anonymous.let_in(ctx, self._refusals[_REFUSED if isinstance(shown, _Shown) else shown])

    def _find(self, shown: _Shown) -> Caller | None:
        caller = self.env.consumers.by_credential(self.name, shown.user)
        conf = {} if caller is None else caller.credentials.get(self.name, {})
        password = conf.get("password")
        expected = password if isinstance(password, str) else _NOBODY
        is_right = compare_digest(_hash(expected.encode("utf-8", "surrogateescape")), _hash(shown.password))
        # Whoever has no password, or one that nobody could resolve, is not to be had for the asking.
        return caller if is_right and is_credential(expected) else None


def _shown(values: list[bytes]) -> _Shown | str:
    """What the Authorization headers say, or what is wrong. Of two of them neither counts."""
    if not values:
        return _MISSING
    written = values[0]
    if len(values) > 1 or written[: len(_BASIC)].lower() != _BASIC:
        return _INVALID
    try:
        user, colon, password = b64decode(written[len(_BASIC) :].strip(b" "), validate=True).partition(b":")
    except (ValueError, binascii.Error):
        return _INVALID
    return _Shown(user.decode("utf-8", "surrogateescape"), password) if colon else _INVALID


def _hash(password: bytes) -> bytes:
    """Of one length, whatever the password's."""
    return blake2b(password, digest_size=32).digest()
