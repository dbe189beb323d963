"""Which judge was it? A fingerprint of all that decides whether a value of the store becomes configuration.

What one agent judged and kept need not be judged again by another of the same fingerprint; by any other one it must.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Final

import gw.model
import gw.schema
from gw.schema import NO_PLUGINS, PluginSchemas

FINGERPRINT_BYTES: Final = 32
# They generate the checks and the canonical bytes, or read certificates. Python's own version decides what a regular
# expression matches.
LIBRARIES: Final = ("fastjsonschema", "msgpack", "cryptography")


def judge_fingerprint(plugins: PluginSchemas = NO_PLUGINS) -> bytes:
    """Over all that has a say: our schemas and modules, the libraries they use, and the plugins that are enabled."""
    return blake2b(_ours() + plugins.fingerprint, digest_size=FINGERPRINT_BYTES).digest()


@cache
def _ours() -> bytes:
    """Over the bytes of every schema and module that has a say, and the versions of the libraries they use."""
    seen = blake2b(digest_size=FINGERPRINT_BYTES)
    for part in (sys.version, *map(version, LIBRARIES)):
        seen.update(part.encode() + b"\0")
    for path in _files():
        content = path.read_bytes()
        seen.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return seen.digest()


def _files() -> Iterator[Path]:
    for package in (gw.schema, gw.model):
        for directory in package.__path__:
            yield from sorted(path for path in Path(directory).rglob("*") if path.suffix in (".py", ".json"))
    for name in ("intake.py", "old_names.py"):
        yield Path(__file__).with_name(name)
    yield from sorted(Path(__file__).with_name("encryption").glob("*.py"))
