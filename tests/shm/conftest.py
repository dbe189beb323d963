from collections.abc import Iterator

import pytest

from gw.shm.names import SegmentNames
from tests.shm.world import unique_names
from tests.support.shm import remove_all


@pytest.fixture
def names() -> Iterator[SegmentNames]:
    """Names of our own in the real /dev/shm; nothing of them is left behind, whoever owns it by then."""
    names = unique_names()
    yield names
    remove_all(names.name)
