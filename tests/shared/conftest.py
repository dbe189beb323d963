import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gw.shm.segment import SHM_DIR


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place of our own in the real /dev/shm; nothing of it is left behind."""
    path = SHM_DIR / f"test-{uuid.uuid4().hex[:12]}.v2.state"
    yield path
    shutil.rmtree(path, ignore_errors=True)
