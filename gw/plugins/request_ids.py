"""Ways to make an id that no other request has, each a function without arguments. All of them are random.

What an alphabet cannot divide evenly is thrown away and drawn again: every character is as likely as the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from gw.clock import Clock

MakeId: TypeAlias = Callable[[], str]
# os.urandom, or what a test puts in its place: as many bytes as asked for.
Entropy: TypeAlias = Callable[[int], bytes]

_NANOID_ALPHABET: Final = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NANOID_LENGTH: Final = 21
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# PERF: two digits at a time; bench/plugins_micro.py has the row.
_BASE62_PAIRS: Final = tuple(high + low for high in _BASE62 for low in _BASE62)
# Seconds since the epoch at which a KSUID's time begins (github.com/segmentio/ksuid).
_KSUID_EPOCH_S: Final = 1_400_000_000
_KSUID_RANDOM_BYTES: Final = 16
_KSUID_LENGTH: Final = 27


def uuid4(entropy: Entropy = os.urandom) -> MakeId:
    """RFC 9562 version 4, as text."""

    def make() -> str:
        number = int.from_bytes(entropy(16), "big")
        digits = f"{number & ~(0xF000 << 64) & ~(0xC000 << 48) | (0x4000 << 64) | (0x8000 << 48):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return make


def nanoid(entropy: Entropy = os.urandom) -> MakeId:
    """21 characters that a URL may hold (github.com/ai/nanoid)."""
    return from_alphabet(_NANOID_ALPHABET, _NANOID_LENGTH, entropy)


def from_alphabet(alphabet: str, length: int, entropy: Entropy = os.urandom) -> MakeId:
    """`length` characters out of 1 to 256 ASCII ones; one that stands there twice is twice as likely."""
    even = 256 - 256 % len(alphabet)
    table = bytes(ord(alphabet[number % len(alphabet)]) for number in range(256))
    beyond = bytes(range(even, 256))
    # Enough at the first try, nearly always.
    drawn = length if even == 256 else length + length // 2 + 8

    def make() -> str:
        made = entropy(drawn).translate(table, beyond)
        while len(made) < length:
            made += entropy(drawn).translate(table, beyond)
        return made[:length].decode("ascii")

    return make


def ksuid(clock: Clock, entropy: Entropy = os.urandom) -> MakeId:
    """27 characters that sort by the second in which they were made."""

    def make() -> str:
        seconds = int(clock.wall()) - _KSUID_EPOCH_S
        number = (seconds & 0xFFFFFFFF) << 8 * _KSUID_RANDOM_BYTES | int.from_bytes(entropy(_KSUID_RANDOM_BYTES), "big")
        pairs = []
        for _ in range(_KSUID_LENGTH // 2 + 1):
            number, pair = divmod(number, 62 * 62)
            pairs.append(_BASE62_PAIRS[pair])
        return "".join(reversed(pairs))[-_KSUID_LENGTH:]

    return make
