"""The agent's Unix socket as a file, made with its final owner and mode before anybody can connect; and who may.

The socket is bound under a name of its own, given its mode, set to listen, and only then renamed to its place: at no
moment is there a socket that is open to more than it should be, nor none where one was. What lies at its place already
is replaced only when it is a socket that nobody answers on.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gw.errors import JitterwayError

# Owner and group; the group is the workers'.
SOCKET_MODE: Final = 0o660
# sun_path of Linux has 108 bytes with the final NUL.
LONGEST_PATH_BYTES: Final = 107
# Connections the kernel holds before they are taken: every worker of a large host reconnects at once.
_BACKLOG: Final = 128
_UCRED: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class SocketError(JitterwayError):
    """The agent's socket cannot be made. Its text says what to do."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel vouches for it at the time of connecting."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class PeerRule:
    """Who may connect: root, the agent's own user, the users listed, and whoever has the group as their primary one."""

    uids: frozenset[int]
    gid: int | None

    def allows(self, peer: Peer) -> bool:
        """May this peer ask for operations? (Their keys are asked for besides.)"""
        return peer.uid in self.uids or (self.gid is not None and peer.gid == self.gid)


def peer_rule(group: str | None, allowed_uids: Collection[int] = ()) -> PeerRule:
    """The rule for a group of workers (None: no group) and users. Raises SocketError for a group that is not there."""
    return PeerRule(frozenset({0, os.geteuid(), *allowed_uids}), None if group is None else _gid_of(group))


def peer_of(sock: socket.socket) -> Peer:
    """Who is connected to this end of a Unix socket."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


class ListeningSocket:
    """A Unix socket that listens at `path`, until closed; then its file is removed, if it still is this socket's."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        """Raises SocketError when the path is too long, taken by something that lives or is no socket, or not ours."""
        if len(os.fsencode(path)) > LONGEST_PATH_BYTES:
            raise SocketError(
                f"{path}: a socket's path has at most {LONGEST_PATH_BYTES} bytes; choose a shorter gw.run_dir"
            )
        self.path = path
        _refuse_what_is_not_stale(path)
        aside = path.with_name(f".agent-{os.getpid()}.sock")
        if len(os.fsencode(aside)) > LONGEST_PATH_BYTES:
            raise SocketError(f"{aside}: too long for a socket; choose a shorter gw.run_dir")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(aside, group)
        except OSError as error:
            self.socket.close()
            raise SocketError(f"the agent's socket {path} cannot be made: {error.strerror or error}") from error
        except SocketError:
            self.socket.close()
            raise

    def _bind(self, aside: Path, group: str | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()  # of an agent of ours that died between bind and rename, and had this pid
        self.socket.bind(os.fspath(aside))
        try:
            if group is not None:
                os.chown(aside, -1, _gid_of(group))
            os.chmod(aside, SOCKET_MODE)
            self.socket.listen(_BACKLOG)
            self._identity = _identity(aside)
            os.rename(aside, self.path)
        except BaseException:
            aside.unlink()
            raise

    def close(self) -> None:
        """Remove the file, unless another agent has put its own there. The socket is whoever's who serves on it."""
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _refuse_what_is_not_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketError(f"the agent's socket {path} cannot be made: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path} is there and is not a socket; remove it, or choose another gw.run_dir")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a backlog that is full answers EAGAIN: somebody lives
        failure = probe.connect_ex(os.fspath(path))
    if failure not in (errno.ECONNREFUSED, errno.ENOENT):
        raise SocketError(f"another agent answers on {path}; stop it, or choose another gw.shm.name")


def _gid_of(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SocketError(f"there is no group {group!r} (gw.shm.group)") from None
