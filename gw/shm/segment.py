"""Segments as files of /dev/shm: create, open, rename, unlink, and whom to trust. The only user of posix_ipc.

A segment is reserved in full when it is created and never resized, so a page of it is never missing: a full /dev/shm is
a SegmentError at creation and no SIGBUS later. Whatever is opened has an owner we trust and is writable by nobody else,
or it is refused. Linux only: `rename`, `list` and `inode` go by the files behind the names.
"""

import errno
import fcntl
import logging
import mmap
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import posix_ipc

from gw.errors import SegmentError
from gw.shm.names import SegmentNames, aside
from gw.shm.trust import Trust, owner_and_mode

# Where shm_open of glibc and musl keeps them.
SHM_DIR: Final = Path("/dev/shm")  # noqa: S108 - not a temporary file: the kernel's place for shared memory

# Workers read through the group, nobody else does.
AGENT_MODE: Final = 0o640
# Workers write their own cell.
TABLE_MODE: Final = 0o660

# Reserved at a time where somebody waits: some 0.3 ms. 60 MB at once take 15 ms.
RESERVED_BYTES: Final = 1024 * 1024

log: Final = logging.getLogger(__name__)


class SegmentMissing(SegmentError):
    """There is no segment of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"shared-memory segment {name} does not exist")
        self.name = name


class SegmentExists(SegmentError):
    """A segment of that name is there already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"shared-memory segment {name} exists already")
        self.name = name


class UntrustedSegment(SegmentError):
    """A segment belongs to a stranger, or strangers may write to it. It is refused, not repaired."""


class Segment(Protocol):
    """One mapped segment. `view` is valid until `close`; it is read-only unless the segment was opened writable."""

    name: str
    size: int
    inode: int
    view: memoryview

    def store(self, offset: int, data: bytes) -> None:
        """Write finished bytes. Every change to a segment goes through here or `store_u64`: tests replay the calls."""
        ...

    def store_u64(self, offset: int, value: int) -> None:
        """Write one aligned 8-byte cell at once, in the host's byte order: no reader sees half of it."""
        ...

    def load_u64(self, offset: int) -> int:
        """Read what `store_u64` wrote."""
        ...

    def close(self) -> None:
        """Unmap. Twice is no error."""
        ...


class NewSegment(Protocol):
    """A segment that is written once, by who created it, and not mapped for that."""

    def store(self, offset: int, data: bytes) -> None:
        """As Segment.store."""
        ...

    def close(self) -> None:
        """It is written, or given up. Twice is no error."""
        ...


class SegmentSpace(Protocol):
    """Where segments live: /dev/shm, or a test's memory. Names begin with a slash. All raise SegmentError."""

    def create(self, name: str, size: int, mode: int) -> Segment:
        """A new segment of zeros, writable, `size` bytes for good. Raises SegmentExists."""
        ...

    def create_steps(self, name: str, size: int, mode: int) -> Generator[None, None, NewSegment]:
        """As `create`, with a yield after each piece that is reserved. Closed before its end, it leaves nothing."""
        ...

    def open(self, name: str, *, writable: bool = False, mode: int = AGENT_MODE) -> Segment:
        """An existing one. Raises SegmentMissing; UntrustedSegment when more may write to it than `mode` allows."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Put a segment in the place of another (or of none) at once. Who has the other mapped keeps it."""
        ...

    def unlink(self, name: str) -> bool:
        """Take the name away; False when there was none. Raises UntrustedSegment for a stranger's."""
        ...

    def list(self, prefix: str) -> list[str]:
        """The names that begin so."""
        ...

    def inode(self, name: str) -> int | None:
        """What the name stands for now, to be compared with `Segment.inode`; None when there is no such name."""
        ...

    def check_owner(self, name: str) -> None:
        """Raises UntrustedSegment when there is a segment of that name and its owner is a stranger."""
        ...

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Keep others that ask for the same waiting for the end of the block, or of this process.

        Where the name is gone there is nobody to be kept: whoever comes next makes a segment of its own.
        """
        ...


class PosixSegment:
    """A Segment in /dev/shm. Unmapped by `close`, or when nothing refers to it or its view any more."""

    __slots__ = ("_map", "_words", "inode", "name", "size", "view")

    def __init__(self, name: str, fd: int, size: int, *, writable: bool) -> None:
        self._map = mmap.mmap(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        self.name = name
        self.size = size
        self.inode = os.fstat(fd).st_ino
        self.view = memoryview(self._map)
        self._words: memoryview | None = None

    def store(self, offset: int, data: bytes) -> None:
        self.view[offset : offset + len(data)] = data

    def store_u64(self, offset: int, value: int) -> None:
        self._as_words()[offset // 8] = value

    def load_u64(self, offset: int) -> int:
        return int(self._as_words()[offset // 8])

    def close(self) -> None:
        if self._words is not None:
            self._words.release()
        self.view.release()
        self._map.close()

    def _as_words(self) -> memoryview:
        # Not struct.pack_into: it fills with zeros first, and readers would see them.
        if self._words is None:
            self._words = self.view[: self.size // 8 * 8].cast("Q")
        return self._words


class PosixNewSegment:
    """A NewSegment in /dev/shm.

    Written to as the file that it is: to map 50 MB would cost a fault for each page, and some ms to unmap them again.
    """

    def __init__(self, name: str, fd: int) -> None:
        self._name = name
        self._fd: int | None = fd

    def store(self, offset: int, data: bytes) -> None:
        assert self._fd is not None
        try:
            if os.pwrite(self._fd, data, offset) == len(data):
                return
        except OSError as error:
            raise SegmentError(f"cannot write shared-memory segment {self._name}: {error}") from error
        raise SegmentError(f"cannot write shared-memory segment {self._name}: it was written in part")

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class PosixSpace:
    """Segments in /dev/shm. Whom it trusts and which group gets what it creates: `owners` and `group` of Trust."""

    def __init__(self, owners: Iterable[str | int] = (), group: str | int | None = None) -> None:
        self._trust = Trust(owners, group)

    def create(self, name: str, size: int, mode: int) -> PosixSegment:
        with self._creating(name, size) as fd:
            os.posix_fallocate(fd, 0, size)
            self._trust.share(fd, mode)
            segment = PosixSegment(name, fd, size, writable=True)
            os.close(fd)
            return segment

    def create_steps(self, name: str, size: int, mode: int) -> Generator[None, None, PosixNewSegment]:
        # Looked at first: piece by piece, what is free would be taken from others before the end of it is met.
        if size > (free := _free_bytes()):
            raise no_room(name, size, free)
        with self._creating(name, size) as fd:
            for at in range(0, size, RESERVED_BYTES):
                os.posix_fallocate(fd, at, min(RESERVED_BYTES, size - at))
                yield
            self._trust.share(fd, mode)
            return PosixNewSegment(name, fd)

    def open(self, name: str, *, writable: bool = False, mode: int = AGENT_MODE) -> PosixSegment:
        try:
            shm: Any = posix_ipc.SharedMemory(name, 0, read_only=not writable)
        except posix_ipc.ExistentialError:
            raise SegmentMissing(name) from None
        except (posix_ipc.Error, OSError) as error:
            self.check_owner(name)
            raise SegmentError(f"cannot open shared-memory segment {name}{_described(name)}: {error}") from error
        try:
            found = os.fstat(shm.fd)
            self._check_trust(name, found, mode)
            if not found.st_size:
                raise SegmentError(f"shared-memory segment {name} is empty: whoever was creating it did not finish")
            return PosixSegment(name, shm.fd, found.st_size, writable=writable)
        except OSError as error:
            raise SegmentError(f"cannot map shared-memory segment {name}: {error}") from error
        finally:
            shm.close_fd()

    def rename(self, old: str, new: str) -> None:
        self.check_owner(new)
        try:
            os.rename(_path(old), _path(new))
        except OSError as error:
            raise SegmentError(f"cannot put shared-memory segment {old} in the place of {new}: {error}") from error

    def unlink(self, name: str) -> bool:
        self.check_owner(name)
        try:
            os.unlink(_path(name))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise SegmentError(f"cannot unlink shared-memory segment {name}: {error}") from error
        return True

    def list(self, prefix: str) -> list[str]:
        wanted = prefix.removeprefix("/")
        try:
            return sorted(f"/{name}" for name in os.listdir(SHM_DIR) if name.startswith(wanted))
        except OSError as error:
            raise SegmentError(f"cannot list shared memory: {error}") from error

    def inode(self, name: str) -> int | None:
        try:
            return os.lstat(_path(name)).st_ino
        except FileNotFoundError:
            return None

    def check_owner(self, name: str) -> None:
        with suppress(FileNotFoundError):
            found = os.lstat(_path(name))
            if (reason := self._trust.objection_to_owner(found)) is not None:
                raise _untrusted(name, found, reason)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        try:
            fd = os.open(_path(name), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield
            return
        except OSError as error:
            raise SegmentError(f"cannot lock shared-memory segment {name}: {error}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def _creating(self, name: str, size: int) -> Iterator[int]:
        """The file of a new segment, for the block to reserve; when that fails the segment is gone again."""
        try:
            shm: Any = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600)
        except posix_ipc.ExistentialError:
            raise SegmentExists(name) from None
        except (posix_ipc.Error, OSError) as error:
            raise SegmentError(f"cannot create shared-memory segment {name}: {error}") from error
        try:
            yield shm.fd
        except BaseException as error:
            shm.close_fd()
            with suppress(FileNotFoundError):
                os.unlink(_path(name))
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise no_room(name, size, _free_bytes()) from error
            raise SegmentError(f"cannot prepare shared-memory segment {name}: {error}") from error

    def _check_trust(self, name: str, found: os.stat_result, mode: int) -> None:
        if (reason := self._trust.objection(found, mode)) is not None:
            raise _untrusted(name, found, reason)


def no_room(name: str, wanted_bytes: int, free_bytes: int) -> SegmentError:
    """The error for a full /dev/shm."""
    return SegmentError(
        f"no room for shared-memory segment {name}: {wanted_bytes} bytes wanted, {free_bytes} free in {SHM_DIR}"
    )


def create_in_place(space: SegmentSpace, name: str, size: int, mode: int, header: bytes) -> Segment:
    """A segment that nobody meets before its header is in it. Takes the place of one of that name.

    Raises UntrustedSegment for a stranger's, SegmentError when there is no room.
    """
    space.unlink(aside(name))
    segment = space.create(aside(name), size, mode)
    try:
        segment.store(0, header)
        space.rename(aside(name), name)
    except BaseException:
        with suppress(SegmentError):
            space.unlink(aside(name))
        raise
    return segment


def unlink_all(space: SegmentSpace, names: SegmentNames) -> list[str]:
    """Take away every segment of this gateway, for when no process of it is left; the names that are gone.

    A stranger's segment among them is left where it is, and logged.
    """
    gone = []
    for name in filter(names.owns, space.list(names.prefix)):
        try:
            if space.unlink(name):
                gone.append(name)
        except SegmentError as error:
            log.warning("%s", error)
    return gone


def _path(name: str) -> Path:
    return SHM_DIR / name.removeprefix("/")


def _free_bytes() -> int:
    room = os.statvfs(SHM_DIR)
    return room.f_bavail * room.f_frsize


def _untrusted(name: str, found: os.stat_result, reason: str) -> UntrustedSegment:
    return UntrustedSegment(f"shared-memory segment {name} is refused{owner_and_mode(found)}: {reason}")


def _described(name: str) -> str:
    with suppress(OSError):
        return owner_and_mode(os.lstat(_path(name)))
    return ""
