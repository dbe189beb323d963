"""A small file with a secret that is made once, at the first start: the admin key, the keyring of the embedded store.

Nobody ever sees a file that is there but not whole: it is written aside and linked into place, which also settles who
wins when two start at once.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gw.errors import ConfigError

# No such secret is this long; a larger file is another file.
_MAX_FILE_BYTES: Final = 4096


def ensure_secret(path: Path, what: str, make: Callable[[], str]) -> str:
    """The text in the file, without blanks around it. `make` gives it (mode 0600) when there is no file.

    `what` is for errors (`the admin key`). Raises ConfigError when the file cannot be made or read, belongs to another
    user, is open to others, or is no ASCII text.
    """
    try:
        try:
            return _read(path, what)
        except FileNotFoundError:
            _create(path, make())
            return _read(path, what)
    except OSError as error:
        raise ConfigError("gw.data_dir", f"{what} cannot be kept in {path}: {error.strerror}") from error


def refuse_content(path: Path, what: str, reason: str) -> ConfigError:
    """The error for a file whose text will not do. `reason` shows nothing of it."""
    return ConfigError("gw.data_dir", f"{what} in {path} {reason}; remove the file to have a new one made")


def _read(path: Path, what: str) -> str:
    # O_NOFOLLOW: a link would let whoever made it choose the file.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        _check_private(os.fstat(descriptor), path, what)
        content = file.read(_MAX_FILE_BYTES)
    try:
        return content.decode("ascii").strip()
    except UnicodeDecodeError:
        raise refuse_content(path, what, "is not ASCII text") from None


def _check_private(status: os.stat_result, path: Path, what: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("gw.data_dir", f"{path} is no regular file")
    if status.st_uid != os.geteuid():
        raise ConfigError("gw.data_dir", f"{path} belongs to uid {status.st_uid}, not to the agent's user")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError("gw.data_dir", f"{path} holds {what}, but its mode is {mode:04o}: chmod 600 {path}")


def _create(path: Path, text: str) -> None:
    """Make the file; leaves alone one that is there by now."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
