"""APISIX's scheme of encrypting values, and a ring of keys for it (apisix/core/data_encryption.lua and ssl.lua, 3.x).

AES in CBC mode with PKCS #7 padding, in base64. A key of 16 bytes means AES-128, one of 32 AES-256, and its first 16
bytes are the initialisation vector, too. So equal texts have equal ciphertexts, and nothing shows that a ciphertext was
changed: it keeps values from those who read a store or its backups, and not from those who write to it. That is what an
existing etcd holds, and what other gateways on it must be able to read.

Padding alone tells too little of whether a key was the right one: it is right by chance for one wrong key in 256. Hence
a decrypted value must also be UTF-8, and one with control characters in it is taken only when no other key gives
a better one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

BLOCK_BYTES: Final = 16
# 4 characters of base64 for each 3 bytes of at least one block.
_SHORTEST_CHARS: Final = 24
# Line breaks and tabs stand in keys and certificates.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Keyring:
    """Keys of which the first encrypts and all decrypt. Never shows them."""

    def __init__(self, keys: Iterable[str], *, also_read: Iterable[str] = ()) -> None:
        """Each key is 16 or 32 bytes of UTF-8. `also_read` are keys that decrypt, after the others."""
        own = [_cipher(key) for key in keys]
        self._writer = own[0] if own else None
        self._readers = (*own, *map(_cipher, also_read))

    def __bool__(self) -> bool:
        return bool(self._readers)

    @property
    def can_encrypt(self) -> bool:
        """Whether there is a key to encrypt with."""
        return self._writer is not None

    def encrypt(self, text: str) -> str:
        """The text as it is stored. Only for a ring that can."""
        assert self._writer is not None, "there is no key to encrypt with"
        padder = PKCS7(BLOCK_BYTES * 8).padder()
        padded = padder.update(text.encode()) + padder.finalize()
        encryptor = self._writer.encryptor()
        return base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode("ascii")

    def decrypt(self, stored: str) -> str | None:
        """The text behind a stored value; None for one that no key of the ring encrypted."""
        ciphertext = _ciphertext(stored)
        if ciphertext is None:
            return None
        texts = list(self._texts(ciphertext))
        return min(texts, key=lambda text: _CONTROL.search(text) is not None, default=None)

    def _texts(self, ciphertext: bytes) -> Iterator[str]:
        for cipher in self._readers:
            decryptor = cipher.decryptor()
            unpadder = PKCS7(BLOCK_BYTES * 8).unpadder()
            try:
                padded = decryptor.update(ciphertext) + decryptor.finalize()
                yield (unpadder.update(padded) + unpadder.finalize()).decode()
            except ValueError:
                continue


def looks_encrypted(stored: str) -> bool:
    """Whether a value has the form of one that is encrypted: whole blocks in base64. Some plain keys have it, too."""
    return _ciphertext(stored) is not None


def _ciphertext(stored: str) -> bytes | None:
    if len(stored) < _SHORTEST_CHARS or len(stored) % 4 or not stored.isascii():
        return None
    try:
        decoded = base64.b64decode(stored, validate=True)
    except binascii.Error:
        return None
    return decoded if len(decoded) % BLOCK_BYTES == 0 else None


def _cipher(key: str) -> Cipher[CBC]:
    raw = key.encode()
    return Cipher(AES(raw), CBC(raw[:BLOCK_BYTES]))
