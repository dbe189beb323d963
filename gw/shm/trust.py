"""Whose files in shared memory are ours: the one answer for segments (`segment.py`) and shared state (gw/shared)."""

import grp
import os
import pwd
import stat
from collections.abc import Iterable

from gw.errors import SegmentError


class Trust:
    """Trusts root, the user it runs as and `owners`; what it shares belongs to `group` (None: the process's own).

    `owners` are user names or numbers: the agent's user for a worker, the workers' user for the agent. Raises
    SegmentError for a name that the host does not know.
    """

    __slots__ = ("_gid", "_uids")

    def __init__(self, owners: Iterable[str | int] = (), group: str | int | None = None) -> None:
        self._uids = frozenset((0, os.geteuid(), *map(_uid, owners)))
        self._gid = None if group is None else _gid(group)

    def objection(self, found: os.stat_result, mode: int) -> str | None:
        """Why a file is not to be used, None when it may be: its owner, or that more may write to it than `mode`."""
        if (reason := self.objection_to_owner(found)) is not None:
            return reason
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~mode:
            return "others than its owner may write to it"
        return None

    def objection_to_owner(self, found: os.stat_result) -> str | None:
        """As above, whatever its mode is."""
        return None if found.st_uid in self._uids else "its owner is not trusted"

    def share(self, fd: int, mode: int) -> None:
        """Give a new file its group and mode, whatever the umask took away. Raises OSError."""
        if self._gid is not None:
            os.fchown(fd, -1, self._gid)
        os.fchmod(fd, mode)


def owner_and_mode(found: os.stat_result) -> str:
    """` (owner 33, www-data; mode 0666)`, for messages."""
    try:
        owner = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = "no known user"
    return f" (owner {found.st_uid}, {owner}; mode {stat.S_IMODE(found.st_mode):04o})"


def _uid(owner: str | int) -> int:
    if isinstance(owner, int) or owner.isdigit():
        return int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise SegmentError(f"owner of shared memory: this host has no user {owner!r}") from None


def _gid(group: str | int) -> int:
    if isinstance(group, int) or group.isdigit():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SegmentError(f"group of shared memory: this host has no group {group!r}") from None
