"""Where the keys come from: the configuration, and for an embedded store a file that is made at the first start."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Final

from gw.schema import PluginSchemas
from gw.settings import AgentSettings, Refused
from gw.settings.encryption import PUBLISHED_KEYS, check_encryption_key
from gw.settings.rules import is_document as is_document_store
from sync_agent.encryption.protection import Protection
from sync_agent.encryption.scheme import Keyring
from sync_agent.private_file import ensure_secret, refuse_content

log = logging.getLogger(__name__)

# In hexadecimal 32 characters: an AES-256 key with 128 random bits, which is as much as the vector has.
_KEY_BYTES: Final = 16
_WHAT: Final = "the keyring"


def load_protection(settings: AgentSettings, plugins: PluginSchemas) -> Protection:
    """What protects the secrets in the store of these settings.

    Makes the keyring of an embedded store where there is none. Raises ConfigError for one that cannot be used.
    """
    data = settings.data_encryption
    # Configured keys go first: who moves from the made keyring to one of the configuration can still read.
    generated = _generated_keys(settings)
    keys = [*data.keyring, *generated]
    # Documents are written by people, and in clear; as in APISIX (enable_gde in apisix/plugin.lua).
    is_document = is_document_store(settings.store_url)
    if not keys and data.enable_encrypt_fields is None and not is_document:
        log.warning(
            "apisix.data_encryption.keyring is empty: secrets lie in the store in clear, and a resource with a secret "
            "that looks encrypted is refused. Name the key in agent.yaml, or say enable_encrypt_fields: false"
        )
    return Protection(
        Keyring(keys),
        plugins,
        ssl_keyring=Keyring(keys, also_read=settings.ssl.key_encrypt_salt),
        encrypts_fields=data.enable_encrypt_fields is not False and not is_document,
    )


def ensure_keyring(path: Path) -> tuple[str, ...]:
    """The keys in the file, one in a line; the first encrypts. Made with a new key (mode 0600) when there is no file.

    Raises ConfigError when the file cannot be made or read, belongs to another user, is open to others, or holds a line
    that is no key.
    """
    text = ensure_secret(path, _WHAT, lambda: secrets.token_hex(_KEY_BYTES))
    try:
        keys = tuple(check_encryption_key(line.strip()) for line in text.splitlines())
    except Refused as refused:
        raise refuse_content(path, _WHAT, f"has a line that {refused.reason}") from None
    if not keys or keys[0] in PUBLISHED_KEYS:
        raise refuse_content(path, _WHAT, "must begin with a key of your own")
    return keys


def _generated_keys(settings: AgentSettings) -> tuple[str, ...]:
    path = settings.keyring_file
    if path is None or not (settings.generate_keyring or path.exists()):
        return ()
    if not path.exists():
        log.info("making a keyring for the secrets in the store: %s. Back it up with the store", path)
    return ensure_keyring(path)
