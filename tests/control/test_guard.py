"""No path of the listeners that ask for no key can be read by a web page that points its own name at them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import falcon.asgi
import falcon.inspect
import falcon.testing
import pytest

from gw.control.app import control_app
from gw.control.dumps import Dumps
from gw.control.healthcheck import Healthchecks
from gw.control.masking import Masking
from gw.control.metrics_app import metrics_app
from gw.control.schemas import Schemas
from gw.control.status_app import status_app
from gw.control.upkeep import Upkeep
from gw.plugins.catalogue import NO_CATALOGUE
from gw.schema import NO_PLUGINS

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class NotToBeReached:
    """In the place of all that the applications look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for in spite of the Host")


NOBODY: Any = NotToBeReached()


def apps() -> Iterator[tuple[str, falcon.asgi.App[Any, Any]]]:
    parts = [Healthchecks(NOBODY, NOBODY), Dumps(NOBODY, Masking(NO_PLUGINS)), Schemas(NO_CATALOGUE), Upkeep(NOBODY)]
    yield "control", control_app(NOBODY, parts=parts)
    yield "status", status_app(NOBODY)
    yield "metrics", metrics_app(NOBODY, path="/metrics", prefix="apisix_")


def paths_of(app: falcon.asgi.App[Any, Any]) -> Iterator[str]:
    for route in falcon.inspect.inspect_app(app).routes:
        path = route.path.replace("{id}", "1").replace("{kind}", "routes")
        assert "{" not in path, f"{route.path} has a field this test does not know"
        yield path
    yield from ("/", "/nowhere", "/metrics")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9090", "localhost@evil.example", ""])
@pytest.mark.parametrize(("name", "app"), list(apps()))
def test_a_foreign_host_is_refused_everywhere(name: str, app: falcon.asgi.App[Any, Any], host: str) -> None:
    client = falcon.testing.TestClient(app)
    paths = list(paths_of(app))
    assert len(paths) > (15 if name == "control" else 2)
    for path in paths:
        for method in METHODS:
            answer = client.simulate_request(method, path, headers={"Host": host})
            assert answer.status_code == 403, (method, path)
            assert answer.headers["server"].startswith("Jitterway/")
