from collections.abc import Iterator

import pytest

from gw.shm.names import SegmentNames
from gw.shm.segment import SHM_DIR
from tests.shm.world import unique_names


@pytest.fixture
def names() -> Iterator[SegmentNames]:
    """Names of our own in the real /dev/shm; nothing of them is left behind, whoever owns it by then."""
    names = unique_names()
    yield names
    for path in SHM_DIR.glob(f"{names.name}.*"):
        path.unlink()
