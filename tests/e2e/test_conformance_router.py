"""Which route a running gateway finds, in each of the three modes of `apisix.router.http`.

The facts are those of Apache APISIX's own tests (t/router/*.t) and of api7/lua-resty-radixtree's.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import NO_ROUTE, Gateway, running_gateway
from tests.support.raw import raw_upstream


def answering(name: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name.encode())


# id: uri, host, priority, methods
ROUTES: dict[str, tuple[str, str | None, int, list[str] | None]] = {
    "any": ("/server_port", None, 0, None),
    "exacthost": ("/server_port", "test.com", 0, None),
    "wildhost": ("/*", "*.test.com", 0, None),
    "longwild": ("/*", "*.a.test.com", 0, None),
    "all": ("/all/*", None, 0, None),
    "longer": ("/all/longer/*", None, 0, None),
    "exact": ("/all/longer/exact", None, 0, None),
    "low": ("/prio", None, 1, None),
    "high": ("/prio", None, 2, None),
    "getter": ("/method", None, 0, ["GET"]),
    "poster": ("/method", None, 0, ["POST"]),
    "params": ("/name/:name/bar", None, 0, None),
    "front": ("/:name/foo", None, 0, None),
}
HOST_URI, URI, WITH_PARAMETER = "radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"
EVERY = (HOST_URI, URI, WITH_PARAMETER)
MATCHES: list[tuple[tuple[str, ...], str, str, str, str | None]] = [
    # modes, method, host, path, route
    (EVERY, "GET", "x.com", "/server_port", "any"),
    (EVERY, "GET", "x.com", "/all/a", "all"),
    (EVERY, "GET", "x.com", "/all/longer/a", "longer"),
    (EVERY, "GET", "x.com", "/all/longer/exact", "exact"),
    (EVERY, "GET", "x.com", "/all", None),
    (EVERY, "GET", "x.com", "/prio", "high"),
    (EVERY, "GET", "x.com", "/method", "getter"),
    (EVERY, "POST", "x.com", "/method", "poster"),
    (EVERY, "DELETE", "x.com", "/method", None),
    (EVERY, "GET", "www.test.com", "/something", "wildhost"),
    (EVERY, "GET", "x.com", "/something", None),
    (EVERY, "GET", "test.com", "/something", None),
    ((HOST_URI,), "GET", "test.com", "/server_port", "exacthost"),
    ((HOST_URI,), "GET", "tEst.com", "/server_port", "exacthost"),
    ((HOST_URI,), "GET", "test.com:9080", "/server_port", "exacthost"),
    ((HOST_URI,), "GET", "www.test.com", "/server_port", "wildhost"),
    ((HOST_URI,), "GET", "b.a.test.com", "/server_port", "longwild"),
    ((URI, WITH_PARAMETER), "GET", "www.test.com", "/server_port", "any"),
    ((HOST_URI, URI), "GET", "x.com", "/name/json/bar", None),
    ((HOST_URI, URI), "GET", "x.com", "/name/:name/bar", "params"),
    ((WITH_PARAMETER,), "GET", "x.com", "/name/json/bar", "params"),
    ((WITH_PARAMETER,), "GET", "x.com", "/name/json2/foo", None),
    ((WITH_PARAMETER,), "GET", "x.com", "/name/json/", None),
    ((WITH_PARAMETER,), "GET", "x.com", "/name//bar", None),
    ((WITH_PARAMETER,), "GET", "x.com", "/json/foo", "front"),
    ((WITH_PARAMETER,), "GET", "x.com", "/json/bbb/foo", None),
]


def start_router(directory: Path, mode: str, stack: contextlib.ExitStack) -> Gateway:
    config = {"apisix": {"router": {"http": mode}}}
    gateway = stack.enter_context(running_gateway(directory, config, workers=1))
    resources: dict[str, Any] = {}
    for id, (uri, host, priority, methods) in ROUTES.items():
        upstream = stack.enter_context(raw_upstream(_Everywhere(answering(id))))
        route: dict[str, Any] = {"uri": uri, "priority": priority}
        route["upstream"] = {"type": "roundrobin", "nodes": {f"127.0.0.1:{upstream.port}": 1}}
        resources[f"routes_{id}"] = route | ({"host": host} if host else {}) | ({"methods": methods} if methods else {})
    gateway.apply(resources)
    return gateway


class _Everywhere(dict[str, bytes]):
    """One answer for every path."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self._answer = answer

    def get(self, key: str, default: Any = None) -> bytes:
        return self._answer


@pytest.mark.parametrize("mode", EVERY)
def test_routers(tmp_path_factory: pytest.TempPathFactory, mode: str) -> None:
    with contextlib.ExitStack() as stack:
        gateway = start_router(tmp_path_factory.mktemp("router"), mode, stack)
        for modes, method, host, path, expected in MATCHES:
            if mode in modes:
                reply = gateway.call(path, method, headers={"Host": host})
                got = reply.body.decode() if reply.status == 200 else None
                assert got == expected, (method, host, path)
                assert expected or reply.body == NO_ROUTE
