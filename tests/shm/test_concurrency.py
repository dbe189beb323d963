"""One process publishes as fast as it can, this one reads: no version is ever half there."""

import signal
import subprocess
import sys
from pathlib import Path

from gw.clock import SystemClock
from gw.errors import SegmentError
from gw.model.digest import digest_of
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from tests.shm.world import attach, content_of, key, published, updated

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = 30_000


def hammer(names: SegmentNames, versions: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.shm.hammer", names.name, str(versions)], cwd=ROOT)


def test_every_version_read_is_whole(names):
    reader = SnapshotReader(PosixSpace(), names, SystemClock())
    cursor, content, hashes = None, {}, {}
    loads = updates = 0
    with hammer(names, VERSIONS) as writer:
        while cursor is None or cursor.version < VERSIONS:
            assert writer.poll() in (None, 0)
            found = None if cursor is None else reader.changes(cursor)
            if found is not None:
                assert found.cursor.version >= cursor.version
                updates += found.cursor.version > cursor.version
                content, cursor = updated(content, found), found.cursor
                for change in found.changes:
                    hashes[change.key] = change.hash
                    if change.blob is None:
                        hashes.pop(change.key, None)
            else:
                try:
                    loaded = reader.load()
                except SegmentError:  # not there yet, or lapped five times in a row: keep what we have
                    continue
                loads += 1
                assert cursor is None or loaded.cursor.version >= cursor.version
                content, cursor = content_of(loaded), loaded.cursor
                hashes = {key: entry.hash for key, entry in loaded.read().items()}
            assert content[key("marker")] == cursor.version
            assert digest_of(hashes.values()) == cursor.digest
    assert loads
    assert updates
    reader.close()


def test_killed_at_any_moment_the_next_carries_on(names):
    """SIGKILL while it publishes, at whatever moment that hits: versions grow, and what is there is whole."""
    space, clock = PosixSpace(), SystemClock()
    reader = SnapshotReader(space, names, clock)
    version = 0
    for _ in range(12):
        with hammer(names, 10**9) as writer:
            goal = version + 40
            while writer.poll() is None and ((slot := reader.peek()) is None or slot.version < goal):
                pass
            writer.kill()
        assert writer.returncode == -signal.SIGKILL
        loaded = reader.load()
        assert content_of(loaded)[key("marker")] == loaded.slot.version
        heir = attach(space, clock, names, log_size_bytes=8192)
        assert heir.recovered
        assert heir.version == loaded.slot.version >= version
        assert published(heir) == content_of(loaded)
        version = heir.version
        heir.close()
    reader.close()
