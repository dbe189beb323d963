"""The keys that secrets in the store are encrypted with, for the agent alone. No key shows in a repr."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gw.settings import kinds
from gw.settings.declare import Context, Kind, Refused, setting
from gw.settings.unknown import Problem

# The defaults of APISIX (apisix/cli/config.lua), so known to everyone who meets a store or a backup of it.
PUBLISHED_KEYS: Final = frozenset({"qeddd145sfvddff3", "edd1c9f0985e76a2"})
# AES-128 and AES-256.
KEY_BYTES: Final = (16, 32)


def check_encryption_key(key: str) -> str:
    """The key, when it can encrypt. Raises Refused, never with the key in the reason."""
    if len(key.encode()) not in KEY_BYTES:
        raise Refused("must be 16 or 32 bytes long (AES-128, AES-256). Make one: openssl rand -hex 16")
    return key


def _keys() -> Kind[tuple[str, ...]]:
    form = "a list of keys of 16 or 32 bytes, or one such key"
    text = kinds.text("a string of 16 or 32 bytes", secret=True)
    key = Kind(text.form, lambda raw, context: check_encryption_key(text.parse(raw, context)), secret=True)
    several = kinds.list_of(key, form)

    def parse(raw: object, context: Context) -> tuple[str, ...]:
        # One key may stand without brackets, as in APISIX; what a variable leaves empty is none.
        if isinstance(raw, str):
            return (key.parse(raw, context),) if raw else ()
        return several.parse(raw, context)

    return Kind(form, parse, secret=True)


@dataclass(frozen=True, slots=True)
class DataEncryption:
    """Encryption of secrets in the store."""

    enable_encrypt_fields: bool | None = setting(
        kinds.optional(kinds.boolean()),
        default=None,
        help="Whether the secrets in configurations of plugins are encrypted in the store. null: where there is a key "
        "to do so. (Private keys of certificates are encrypted wherever there is a key.)",
    )
    keyring: tuple[str, ...] = setting(
        _keys(),
        default=[],
        help="Keys for what is encrypted in the store. The first encrypts, all decrypt; the first may not be one that "
        "APISIX published. Empty: with the embedded store one is made at the first start and laid into "
        "<data_dir>/keyring, with another store nothing is encrypted.",
    )


@dataclass(frozen=True, slots=True)
class AgentSsl:
    """What the agent alone may know about certificates."""

    key_encrypt_salt: tuple[str, ...] = setting(
        _keys(),
        default=[],
        help="Keys that decrypt private keys of certificates, beside the keyring: those that APISIX before 3.8 wrote.",
    )


def encryption_problems(data: DataEncryption, *, is_shared: bool) -> Iterator[Problem]:
    """What stops a start. `is_shared`: the store is one that others write to, so no key can be made for it."""
    path = "apisix.data_encryption"
    if data.keyring and data.keyring[0] in PUBLISHED_KEYS:
        yield Problem(
            f"{path}.keyring[0]",
            "is a default key that APISIX published: what it encrypts, anyone can decrypt. Put a key of your own "
            "before it (openssl rand -hex 16); what was encrypted with it can be read all the same",
        )
    if data.enable_encrypt_fields and not data.keyring and is_shared:
        yield Problem(
            f"{path}.keyring",
            "is empty, but enable_encrypt_fields is true: all who share the store must have the same key, so none is "
            "made here. Make one: openssl rand -hex 16",
        )


def encryption_warnings(data: DataEncryption) -> Iterator[str]:
    """What is accepted, but should be known."""
    if any(key in PUBLISHED_KEYS for key in data.keyring):
        yield (
            "apisix.data_encryption.keyring has a key that APISIX published. It only decrypts here, but what it "
            "encrypted is open to all who get hold of it: docs/secrets.md says how to encrypt that anew"
        )
