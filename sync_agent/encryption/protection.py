"""What becomes of a resource's secrets: opened for publishing, sealed for the store, kept back from answers.

A plain value and one whose key is missing cannot always be told apart. A value is taken for encrypted when it has the
form (`looks_encrypted`); if then no key opens it, the resource is refused by name. APISIX would use the ciphertext as
if it were the secret. Values of any other form are plain: written before encryption was switched on, or past the Admin
API. With `enable_encrypt_fields: false` no field is refused for its form, since then plain values are what is expected.
"""

from __future__ import annotations

from typing import Any, Final

from gw.errors import InvalidResource
from gw.model.keys import ResourceKey
from gw.schema import NO_PLUGINS, PluginSchemas
from gw.schema.secret_places import Sort, change_secrets
from gw.schema.wording import Place, bare, path_of, reason_at
from sync_agent.encryption.scheme import Keyring, looks_encrypted

# APISIX takes for a private key in clear what begins with three dashes. Text before the first line of PEM is allowed
# (openssl writes some), and such a key is to lie no more openly than others; base64 has no dashes.
_PEM: Final = "-----BEGIN"
_REFERENCE_BEGINS: Final = "$"
# Of an SSL; no answer has them.
_NEVER_SHOWN: Final = frozenset({"key", "keys"})

_UNREADABLE: Final = (
    "it looks encrypted, and no key of apisix.data_encryption.keyring opens it. Add the key that it was encrypted with "
    "at the keyring's end, or write a new value through the Admin API"
)
_UNREADABLE_FIELD: Final = (
    f"{_UNREADABLE}. If nothing in the store is encrypted, say so: apisix.data_encryption.enable_encrypt_fields: false"
)


class _Unreadable(str):
    """A stored value that no key opens, on its way through an edit: it may be replaced, but not written back."""

    __slots__ = ()


class Protection:
    """The secrets of resources, by one keyring. `plugins` say which of their fields are secrets."""

    def __init__(
        self,
        keyring: Keyring,
        plugins: PluginSchemas,
        *,
        ssl_keyring: Keyring | None = None,
        encrypts_fields: bool = True,
    ) -> None:
        """`ssl_keyring` is for private keys, where other keys read these; `encrypts_fields` is enable_encrypt_fields.

        Without a key nothing is encrypted, whatever `encrypts_fields` says.
        """
        self._fields = keyring
        self._ssl = keyring if ssl_keyring is None else ssl_keyring
        self._plugins = plugins
        self._is_strict = encrypts_fields
        self._encrypts_fields = encrypts_fields and keyring.can_encrypt

    def opened(self, key: ResourceKey, stored: dict[str, Any]) -> dict[str, Any]:
        """The resource with its secrets in clear.

        Raises InvalidResource, with the place and without the value, for one that looks encrypted and cannot be opened.
        """

        def open_one(sort: Sort, place: Place, text: str) -> str:
            found = self._open(sort, text)
            if found is None:
                raise _unreadable(key, sort, place)
            return found

        return change_secrets(*key, stored, self._plugins, open_one)

    def opened_for_editing(self, key: ResourceKey, stored: dict[str, Any]) -> dict[str, Any]:
        """As `opened`, but what cannot be opened stays and fails in `sealed`, unless it is replaced before."""

        def open_one(sort: Sort, place: Place, text: str) -> str:
            found = self._open(sort, text)
            return _Unreadable(text) if found is None else found

        return change_secrets(*key, stored, self._plugins, open_one)

    def sealed(self, key: ResourceKey, resource: dict[str, Any]) -> dict[str, Any]:
        """The resource as it is stored. Each field is encrypted once, whatever it looks like; of private keys only PEM
        text is, so that what an answer showed encrypted may be sent back.

        Raises InvalidResource for a value that `opened_for_editing` could not open.
        """

        def seal_one(sort: Sort, place: Place, text: str) -> str:
            if isinstance(text, _Unreadable):
                raise _unreadable(key, sort, place)
            return self._seal(sort, text)

        return change_secrets(*key, resource, self._plugins, seal_one)

    def shown(self, key: ResourceKey, stored: dict[str, Any]) -> dict[str, Any]:
        """The resource as an answer has it, the same object where it has no secrets.

        Fields of plugins in clear, as in APISIX; one that cannot be opened as it is stored. The keys of an SSL never,
        the key of an upstream encrypted where there is a key to do so.
        """
        if key.kind == "ssls":
            return {name: value for name, value in stored.items() if name not in _NEVER_SHOWN}

        def show_one(sort: Sort, place: Place, text: str) -> str:
            if sort is Sort.CLIENT_KEY:
                return self._seal(sort, text)
            found = self._open(sort, text)
            return text if found is None else found

        return change_secrets(*key, stored, self._plugins, show_one)

    def _open(self, sort: Sort, text: str) -> str | None:
        """None: it looks encrypted, and cannot be opened."""
        is_field = sort is Sort.FIELD
        if not is_field and (_PEM in text or text.startswith(_REFERENCE_BEGINS)):
            return text
        found = (self._fields if is_field else self._ssl).decrypt(text)
        if found is not None:
            return found
        may_be_plain = is_field and not self._is_strict
        return text if may_be_plain or not looks_encrypted(text) else None

    def _seal(self, sort: Sort, text: str) -> str:
        if sort is Sort.FIELD:
            return self._fields.encrypt(text) if self._encrypts_fields else text
        return self._ssl.encrypt(text) if _PEM in text and self._ssl.can_encrypt else text


def _unreadable(key: ResourceKey, sort: Sort, place: Place) -> InvalidResource:
    path = path_of(place)
    if sort is Sort.FIELD:
        return InvalidResource(key.kind, bare(key.id), path, reason_at(place, _UNREADABLE_FIELD))
    # As APISIX begins (validate in apisix/ssl.lua).
    reason = f"failed to decrypt previous encrypted key: {path}: {_UNREADABLE}"
    return InvalidResource(key.kind, bare(key.id), path, reason, stands_alone=True)


# Of whoever has no keys and no plugins: nothing is encrypted, and only the keys of SSLs are kept back.
PLAIN: Final = Protection(Keyring(()), NO_PLUGINS, encrypts_fields=False)
