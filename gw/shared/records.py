"""The byte format of shared state: one LMDB tree, three kinds of keys told apart by their first byte.

    e<key>                      -> expiry u64 LE, serial u64 LE, value                       an entry
    e<479 bytes><blake2b, 32>   -> expiry, serial, key length u32 LE, key, value             one with a longer key
    x<expiry u64 BE><serial BE> -> the entry's key as stored                                 in the order of expiry
    m<name>                     -> u64 LE                                                    counts

Expiry is in microseconds of CLOCK_MONOTONIC, NEVER for none. The serial is the transaction that wrote it (one entry a
transaction), so entries of one expiry, and those without, stand in the order of writing. A counter's value is i64 LE.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final, NamedTuple

# In the names of the files: two formats never meet in one.
FORMAT: Final = 1

# LMDB's compiled-in limit (mdb.c: MDB_MAXKEYSIZE).
LONGEST_STORED_KEY: Final = 511
_DIGEST_BYTES: Final = 32
# So much of a longer key stands in the tree as it is: prefixes up to here are found without reading others.
HEAD_OF_LONG_KEY: Final = LONGEST_STORED_KEY - 1 - _DIGEST_BYTES

NEVER: Final = 2**64 - 1

_ENTRY: Final = b"e"
INDEX_PREFIX: Final = b"x"
EVICTIONS: Final = b"mevictions"

_HEAD: Final = struct.Struct("<QQ")
_KEY_LENGTH: Final = struct.Struct("<I")
_INDEX: Final = struct.Struct(">QQ")
_COUNTER: Final = struct.Struct("<q")
_COUNT: Final = struct.Struct("<Q")
# A counter as it is stored under a short key: expiry, serial, number.
COUNTER_RECORD: Final = struct.Struct("<QQq")
_MOST: Final = 2**63 - 1


class DamagedRecord(Exception):
    """Bytes that are none of ours: somebody else wrote to the files."""


class Record(NamedTuple):
    """An entry as it is stored. `key` is the caller's."""

    expires_us: int
    serial: int
    key: bytes
    value: bytes


def stored_key(key: bytes) -> bytes:
    """What an entry of this key stands under. Raises ValueError for an empty key."""
    if not key:
        raise ValueError("a key of shared state cannot be empty")
    # One less than what LMDB takes: a key stored as it is never has the length of one that was hashed.
    if len(key) < LONGEST_STORED_KEY - 1:
        return _ENTRY + key
    return _ENTRY + key[:HEAD_OF_LONG_KEY] + blake2b(key, digest_size=_DIGEST_BYTES).digest()


def stored_prefix(prefix: bytes) -> bytes:
    """What the stored keys of all keys with this prefix begin with (those of some others may, too)."""
    return _ENTRY + prefix[:HEAD_OF_LONG_KEY]


def index_key(expires_us: int, serial: int) -> bytes:
    """Where an entry stands in the order of expiry."""
    return INDEX_PREFIX + _INDEX.pack(expires_us, serial)


def index_key_of(raw: bytes) -> bytes:
    """As `index_key`, of a stored entry."""
    return index_key(*_HEAD.unpack_from(raw))


def expiry_of_index_key(index_key: bytes) -> int:
    """Microseconds, or NEVER. Raises DamagedRecord."""
    try:
        expires_us: int = _INDEX.unpack_from(index_key, 1)[0]
    except struct.error as error:
        raise DamagedRecord(f"an entry of the order of expiry: {error}") from None
    return expires_us


def expiry_of(raw: bytes) -> int:
    """Microseconds, or NEVER. Raises DamagedRecord."""
    try:
        expires_us: int = _HEAD.unpack_from(raw)[0]
    except struct.error as error:
        raise DamagedRecord(f"an entry: {error}") from None
    return expires_us


def pack_record(stored: bytes, record: Record) -> bytes:
    """The bytes of an entry that stands under `stored`."""
    head = _HEAD.pack(record.expires_us, record.serial)
    if len(stored) == LONGEST_STORED_KEY:
        return b"".join((head, _KEY_LENGTH.pack(len(record.key)), record.key, record.value))
    return head + record.value


def unpack_record(stored: bytes, raw: bytes) -> Record:
    """What `pack_record` packed. Raises DamagedRecord."""
    try:
        expires_us, serial = _HEAD.unpack_from(raw)
        if len(stored) < LONGEST_STORED_KEY:
            return Record(expires_us, serial, stored[1:], raw[_HEAD.size :])
        key_at = _HEAD.size + _KEY_LENGTH.size
        value_at = key_at + _KEY_LENGTH.unpack_from(raw, _HEAD.size)[0]
    except struct.error as error:
        raise DamagedRecord(f"an entry: {error}") from None
    return Record(expires_us, serial, raw[key_at:value_at], raw[value_at:])


def pack_counter(number: int) -> bytes:
    """A counter's value; it stops at the ends of 64 bits."""
    return _COUNTER.pack(max(-_MOST, min(number, _MOST)))


def unpack_counter(value: bytes) -> int:
    """What `pack_counter` packed. Raises ValueError for what is no counter."""
    if len(value) != _COUNTER.size:
        raise ValueError(f"{len(value)} bytes of shared state are no counter, which has {_COUNTER.size}")
    number: int = _COUNTER.unpack(value)[0]
    return number


def pack_count(number: int) -> bytes:
    return _COUNT.pack(number)


def unpack_count(raw: bytes | None) -> int:
    return 0 if raw is None else int(_COUNT.unpack(raw)[0])
