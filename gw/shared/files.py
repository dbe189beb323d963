"""Where shared state lies: one directory a gateway, in it one LMDB environment, its lock beside it.

    /dev/shm/<gw.shm.name>.v2.state/   0770
        open.lock                      0660  flock, held while one process opens, makes or replaces the others
        v1.<lmdb>.<boot>.mdb           0660  reserved in full: a full /dev/shm is an error here, no SIGBUS later
        v1.<lmdb>.<boot>.mdb-lock      0660  the mutex and the readers' slots

The versions and the boot are in the name, so that no two of either meet in one file: the times in it are this boot's,
and the mutex is this library's. Files of another boot are taken away. A stranger's are refused, as in gw.shm.segment.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from gw.errors import SegmentError
from gw.shared.records import FORMAT
from gw.shm.names import SegmentNames
from gw.shm.segment import SHM_DIR, UntrustedSegment
from gw.shm.trust import Trust, owner_and_mode

DIRECTORY_MODE: Final = 0o770
FILE_MODE: Final = 0o660

# LMDB takes the number of readers' slots from a lock file that it finds: 64 bytes each, so some thousand. Two for each
# of the 1024 workers that there may be would be more than any host has.
LOCK_FILE_BYTES: Final = 64 * 1024

_OPEN_LOCK: Final = "open.lock"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

log: Final = logging.getLogger(__name__)


class Opened(NamedTuple):
    """An open environment and which file it is, to be compared with `StateFiles.inode`."""

    env: lmdb.Environment
    inode: int


class Damaged(Exception):
    """What lies there cannot be used, though it is ours."""


# Not every error of LMDB: one who may not open it, or has it open already, must not take it from the others.
_DAMAGE: Final = (
    Damaged,
    lmdb.CorruptedError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)


class StateFiles:
    """Opens and replaces the environment. One process may have it open once, and must open it after its fork.

    `size_bytes` is for who creates it: a later one takes the size that it finds, since all must map the same.
    """

    def __init__(self, directory: Path, size_bytes: int, trust: Trust) -> None:
        self.directory = directory
        self._size_bytes = size_bytes
        self._trust = trust
        self._boot = _boot_id()
        library = ".".join(map(str, lmdb.version()))
        self.path = directory / f"v{FORMAT}.{library}.{self._boot}.mdb"
        self._lock_path = directory / f"{self.path.name}-lock"

    def open(self) -> Opened:
        """Join what is there, or create it. What cannot be joined is replaced.

        Raises SegmentError when there is no room or no right to it, UntrustedSegment for a stranger's.
        """
        with self._alone():
            self._remove_other_boots()
            if not self.path.exists():
                return self._create()
            try:
                return self._join()
            except _DAMAGE as error:
                log.warning("shared state in %s cannot be used (%s): beginning with an empty one", self.path, error)
                return self._create()
            except lmdb.Error as error:
                raise SegmentError(f"cannot open shared state {self.path}: {error}") from error

    def replace(self, inode: int) -> Opened:
        """A fresh one in the place of the one with this inode, unless another process has done so already.

        Who calls has closed its own. Raises as `open`.
        """
        with self._alone():
            if self.inode() == inode:
                return self._create()
        return self.open()

    def inode(self) -> int | None:
        """Which file stands there now; None when there is none."""
        try:
            return self.path.lstat().st_ino
        except OSError:
            return None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """In the directory, as the only process that opens or replaces. The kernel drops the lock of a dead one."""
        try:
            self._make_directory()
            descriptor = os.open(
                self.directory / _OPEN_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE
            )
            try:
                self._share_own(descriptor, FILE_MODE)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise SegmentError(
                    f"no room for shared state in {self.directory}: {self._size_bytes} bytes wanted; free some, or "
                    "lower gw.shared_state.size"
                ) from error
            raise SegmentError(f"cannot open shared state in {self.directory}: {error}") from error

    def _make_directory(self) -> None:
        with suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
        self._check(self.directory, DIRECTORY_MODE, stat.S_ISDIR)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._share_own(descriptor, DIRECTORY_MODE)
        finally:
            os.close(descriptor)

    def _share_own(self, descriptor: int, mode: int) -> None:
        """Set group and mode where it is ours to do so; another user's was set by that user."""
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != mode:
            self._trust.share(descriptor, mode)

    def _check(self, path: Path, mode: int, is_kind: Callable[[int], bool] = stat.S_ISREG) -> os.stat_result:
        found = path.lstat()
        reason = self._trust.objection(found, mode)
        if reason is None and not is_kind(found.st_mode):
            reason = "it is of another kind"
        if reason is not None:
            raise UntrustedSegment(f"shared state {path} is refused{owner_and_mode(found)}: {reason}")
        return found

    def _join(self) -> Opened:
        found = self._check(self.path, FILE_MODE)
        try:
            self._check(self._lock_path, FILE_MODE)
        except FileNotFoundError:
            raise Damaged("its lock file is gone") from None
        if found.st_size == 0 or found.st_blocks * 512 < found.st_size:
            raise Damaged("whoever was creating it did not finish")
        # Mapped as large as it was created, whatever the file has become: LMDB makes it longer again, with nothing in
        # the new part.
        env = self._opened(0)
        try:
            if env.info()["map_size"] != found.st_size:
                raise Damaged(f"it was cut to {found.st_size} bytes")
            env.reader_check()
            # As SharedStore reads: none that is stopped here may hold the others' pages.
            with env.begin(write=True) as transaction:
                transaction.cursor().first()
        except BaseException:
            env.close()
            raise
        return Opened(env, found.st_ino)

    def _create(self) -> Opened:
        self._remove(self.path)
        self._remove(self._lock_path)
        try:
            self._make(self._lock_path, LOCK_FILE_BYTES)
            # Empty, so that LMDB writes its first pages; reserved afterwards, before anything is written through the
            # map.
            self._make(self.path, 0)
            env = self._opened(self._size_bytes)
            try:
                with self.path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
                    return Opened(env, os.fstat(file.fileno()).st_ino)
            except BaseException:
                env.close()
                raise
        except BaseException as error:
            self._remove(self.path)
            self._remove(self._lock_path)
            if isinstance(error, lmdb.Error):
                raise SegmentError(f"cannot make shared state {self.path}: {error}") from error
            raise

    def _make(self, path: Path, size_bytes: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
            self._trust.share(descriptor, FILE_MODE)
        finally:
            os.close(descriptor)

    def _opened(self, size_bytes: int) -> lmdb.Environment:
        # Nothing is synced: it need not outlive the host. Written through the map: the kernel has what a killed
        # process wrote, and a transaction it did not finish was written to pages that nothing refers to.
        return lmdb.open(
            str(self.path), map_size=size_bytes, subdir=False, create=False, sync=False, writemap=True, max_spare_txns=2
        )

    def _remove_other_boots(self) -> None:
        for name in os.listdir(self.directory):
            is_state = name.endswith((".mdb", ".mdb-lock"))
            if is_state and f".{self._boot}." not in name:
                log.info("shared state: removing %s, which an earlier boot of this host left", name)
                self._remove(self.directory / name)

    @staticmethod
    def _remove(path: Path) -> None:
        with suppress(FileNotFoundError):
            path.unlink()


def state_directory(names: SegmentNames) -> Path:
    """Where the state of a gateway lies: beside its segments."""
    return SHM_DIR / f"{names.prefix.removeprefix('/')}state"


def remove_state(directory: Path, trust: Trust) -> bool:
    """Take the directory away, for when no process of the gateway is left; False when there was none.

    Raises UntrustedSegment for a stranger's, SegmentError when it cannot be removed.
    """
    try:
        found = directory.lstat()
        if (reason := trust.objection_to_owner(found)) is not None:
            raise UntrustedSegment(f"shared state {directory} is refused{owner_and_mode(found)}: {reason}")
        for name in os.listdir(directory):
            (directory / name).unlink()
        directory.rmdir()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SegmentError(f"cannot remove shared state {directory}: {error}") from error
    return True


def _boot_id() -> str:
    """What tells this boot of the host from others."""
    try:
        return _BOOT_ID.read_text().strip().replace("-", "")
    except OSError:
        # A host that hides it has its shared memory emptied by the boot all the same.
        return "boot"
