"""Which edge a test runs against that asks for `each_edge`: those that speak through tests.support.edge, both."""

from collections.abc import Iterator

import pytest

from tests.support import edge


@pytest.fixture(params=["asgi", "h1"])
def each_edge(request: pytest.FixtureRequest) -> Iterator[str]:
    token = edge.chosen.set(request.param)
    yield request.param
    edge.chosen.reset(token)
