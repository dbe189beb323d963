"""The admin key of the embedded store: made once, at the first start, and kept in a file of its own.

Nobody ever sees a file that is there but not whole: the key is written aside and linked into place, which also settles
who wins when two start at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from gw.errors import ConfigError
from gw.settings import Refused, check_admin_key

# 128 bits, as `openssl rand -hex 16` gives.
_KEY_BYTES: Final = 16
# No key is this long; a larger file is another file.
_MAX_FILE_BYTES: Final = 4096


def ensure_admin_key(path: Path) -> str:
    """The key in the file, which is made with a new key (mode 0600) when there is none.

    Raises ConfigError when the file cannot be made or read, belongs to another user, is open to others, or holds no
    acceptable key.
    """
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            _create(path)
            return _read(path)
    except OSError as error:
        raise ConfigError("gw.data_dir", f"the admin key cannot be kept in {path}: {error.strerror}") from error


def _read(path: Path) -> str:
    # O_NOFOLLOW: a link would let whoever made it choose the file.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        _check_private(os.fstat(descriptor), path)
        content = file.read(_MAX_FILE_BYTES)
    try:
        return check_admin_key(content.decode("ascii").strip())
    except UnicodeDecodeError:
        reason = "is not ASCII text"
    except Refused as refused:
        reason = refused.reason
    raise ConfigError("gw.data_dir", f"the admin key in {path} {reason}; remove the file to have a new one made")


def _check_private(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("gw.data_dir", f"{path} is no regular file")
    if status.st_uid != os.geteuid():
        raise ConfigError("gw.data_dir", f"{path} belongs to uid {status.st_uid}, not to the agent's user")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError("gw.data_dir", f"{path} holds the admin key, but its mode is {mode:04o}: chmod 600 {path}")


def _create(path: Path) -> None:
    """Make the file with a new key; leaves alone one that is there by now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
