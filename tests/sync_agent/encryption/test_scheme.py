"""APISIX's scheme, by what its own tests find in etcd, and which key it was."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_agent.encryption.scheme import Keyring, looks_encrypted

APISIX_KEY = "edd1c9f0985e76a2"
KEY_16 = "0123456789abcdef"
KEY_32 = "fedcba98765432100123456789abcdef"

# t/node/data_encrypt.t and data_encrypt2.t of APISIX.
VECTORS = [
    ("bar", "77+NmbYqNfN+oLm0aX5akg=="),
    ("auth-two", "vU/ZHVJw7b0XscDJ1Fhtig=="),
    ("abc123", "7ipXoKyiZZUAgf3WWNPI5A=="),
    ("def456", "3hlZu5mwUbqROm+cy0Vi9A=="),
]


@pytest.mark.parametrize(("text", "stored"), VECTORS)
def test_what_apisix_has_in_etcd(text: str, stored: str) -> None:
    ring = Keyring([APISIX_KEY])
    assert ring.encrypt(text) == stored
    assert ring.decrypt(stored) == text


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")), st.sampled_from([KEY_16, KEY_32, "ключключ"]))
def test_what_is_encrypted_looks_so_and_comes_back(text: str, key: str) -> None:
    ring = Keyring([key])
    stored = ring.encrypt(text)
    assert looks_encrypted(stored)
    assert ring.decrypt(stored) == text
    assert ring.encrypt(text) == stored


def test_a_key_of_32_bytes_means_aes_256_with_its_first_half_as_the_vector() -> None:
    encryptor = Cipher(AES(KEY_32.encode()), CBC(KEY_32[:16].encode())).encryptor()
    padded = b"secret" + b"\x0a" * 10
    assert Keyring([KEY_32]).encrypt("secret") == base64.b64encode(encryptor.update(padded)).decode()


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new = Keyring([KEY_16]), Keyring([KEY_32, KEY_16])
    assert new.decrypt(old.encrypt("a")) == "a"
    assert new.encrypt("a") == Keyring([KEY_32]).encrypt("a")
    reading = Keyring([], also_read=[KEY_16])
    assert reading.decrypt(old.encrypt("a")) == "a"
    assert (bool(reading), reading.can_encrypt, bool(Keyring([]))) == (True, False, False)


@pytest.mark.parametrize(
    "plain",
    ["", "bar", "0123456789abcdef", "not base64 at all, and 32 chars!!", "AAAAAAAAAAAAAAAAAAAAAAA", "Ä" * 24, "A" * 28],
)
def test_what_cannot_be_ciphertext_is_told_by_its_form(plain: str) -> None:
    assert not looks_encrypted(plain)
    assert Keyring([KEY_16]).decrypt(plain) is None


def test_a_plain_key_may_look_encrypted_and_is_not_opened() -> None:
    for plain in ("ab" * 32, base64.b64encode(bytes(range(32))).decode()):
        assert looks_encrypted(plain)
        assert Keyring([KEY_16, KEY_32]).decrypt(plain) is None


def test_a_wrong_key_whose_padding_fits_by_chance_is_not_believed() -> None:
    """APISIX takes the first key with valid padding: 1 in 256 of all ciphertexts of another key."""
    right, both = Keyring([KEY_16]), Keyring([KEY_32, KEY_16])
    wrong = Cipher(AES(KEY_32.encode()), CBC(KEY_32[:16].encode()))
    fitting = 0
    for number in range(3000):
        stored = right.encrypt(f"secret-{number}")
        decryptor = wrong.decryptor()
        last = decryptor.update(base64.b64decode(stored))[-1]
        fitting += last == 1
        assert both.decrypt(stored) == f"secret-{number}"
    assert fitting > 0


def test_text_with_control_characters_is_taken_when_no_key_gives_better() -> None:
    odd = "\x01\x02"
    assert Keyring([KEY_16]).decrypt(Keyring([KEY_16]).encrypt(odd)) == odd
    pem = "-----BEGIN\n\tx\r\n"
    assert Keyring([KEY_32, KEY_16]).decrypt(Keyring([KEY_16]).encrypt(pem)) == pem


def test_no_key_in_a_repr() -> None:
    assert KEY_16 not in repr(Keyring([KEY_16])) + str(vars(Keyring([KEY_16])))
