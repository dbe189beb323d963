"""The tests of this room are about our own protocol alone."""

from collections.abc import Iterator

import pytest

from tests.support import edge


@pytest.fixture(autouse=True)
def _own_edge() -> Iterator[None]:
    token = edge.chosen.set("h1")
    yield
    edge.chosen.reset(token)
