"""`/v1/healthcheck` and `/v1/healthcheck/{kind}/{id}` of the control API: what the board says of nodes.

Answers and errors as in APISIX (apisix/control/v1.lua, docs/en/latest/control-api.md), as JSON or, for a browser, as a
page. What no worker was asked for yet has no nodes. The list holds what is on the board: an upstream that nobody uses
is not in it. What is on the board for some seconds longer than it is configured, nodes among them, is not shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, Protocol

import falcon
import falcon.asgi

from gw.health.checker import Checker, mark_of, target_name
from gw.health.checks import Checks
from gw.health.state import FRESH, Health
from gw.model.keys import ResourceKey
from gw.model.upstream import read_nodes

KINDS: Final = ("routes", "services", "upstreams")
# APISIX names a resource by its key in the store.
DEFAULT_PREFIX: Final = "/apisix"

_COLUMNS: Final = (
    "Index",
    "Upstream",
    "Check type",
    "Host",
    "Status",
    "Success counts",
    "TCP Failures",
    "HTTP Failures",
    "TIMEOUT Failures",
)

# A resource as it is configured now, None when there is none.
FindResource = Callable[[ResourceKey], Mapping[str, Any] | None]


class Board(Protocol):
    """The part of gw.health.board.Board that is used."""

    def checkers(self) -> Iterator[list[Checker]]: ...
    def find_checker(self, mark: bytes) -> Checker | None: ...
    def healths(self, checker: Checker) -> dict[str, Health]: ...


class Healthchecks:
    """Falcon's resource for both paths, and for the one where the id is missing."""

    def __init__(self, board: Board, find: FindResource, prefix: str = DEFAULT_PREFIX) -> None:
        """`prefix` is that of the keys in the store."""
        self._board = board
        self._find = find
        self._prefix = prefix

    def add_to(self, app: falcon.asgi.App[Any, Any]) -> None:
        """Serve the paths."""
        app.add_route("/v1/healthcheck", self)
        app.add_route("/v1/healthcheck/{kind}", self, suffix="kind")
        app.add_route("/v1/healthcheck/{kind}/{id}", self, suffix="one")

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        found = []
        for part in self._board.checkers():
            for checker in part:
                upstream = _checked_upstream(self._find(checker.key))
                if upstream is not None:
                    found.append(self._report(checker.key, upstream, checker))
            await asyncio.sleep(0)
        found.sort(key=lambda report: str(report["name"]))
        _answer(req, resp, found, found)

    async def on_get_kind(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        _refuse(resp, falcon.HTTP_404, f"missing src id for src type {kind}")

    async def on_get_one(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str) -> None:
        if kind not in KINDS:
            _refuse(resp, falcon.HTTP_400, f"invalid src type {kind}")
            return
        key = ResourceKey(kind, id)
        resource = self._find(key)
        if resource is None:
            _refuse(resp, falcon.HTTP_404, f"{kind}[{id}] not found")
            return
        upstream = _checked_upstream(resource)
        if upstream is None:
            _refuse(resp, falcon.HTTP_404, f"no checker for {kind}[{id}]")
            return
        report = self._report(key, upstream, self._board.find_checker(mark_of(key)))
        _answer(req, resp, report, [report])

    def _report(self, key: ResourceKey, upstream: Mapping[str, Any], checker: Checker | None) -> dict[str, Any]:
        checks = Checks.from_dict(upstream["checks"])
        nodes: list[dict[str, Any]] = []
        if checker is not None:
            current = read_nodes(upstream.get("nodes", ()), upstream.get("scheme", "http"))
            configured = {target_name(node, checks) for node in current}
            nodes += _nodes(checker, configured, self._board.healths(checker))
        return {"name": f"{self._prefix}/{key.kind}/{key.id}", "type": checks.type, "nodes": nodes}


def _checked_upstream(resource: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The upstream that is written in a resource, None where there is none that has checks."""
    if resource is None:
        return None
    upstream = resource if "checks" in resource else resource.get("upstream") or {}
    return upstream if upstream.get("checks") else None


def _nodes(
    checker: Checker, configured: Container[str], healths: Mapping[str, Health]
) -> Iterator[dict[str, Any]]:
    for target in checker.targets:
        if target.name not in configured:
            continue
        state, counts = healths.get(target.name, FRESH)
        hostname = checker.checks.active.host or target.host
        yield {
            "ip": target.host,
            "port": target.port,
            "hostname": hostname,
            **({} if target.host_header == hostname else {"hostheader": target.host_header}),
            "status": state.label,
            "counter": {
                "success": counts.successes,
                "http_failure": counts.http_failures,
                "tcp_failure": counts.tcp_failures,
                "timeout_failure": counts.timeouts,
            },
        }


def _answer(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, media: object, reports: Sequence[Mapping[str, Any]]
) -> None:
    if "text/html" in (req.get_header("Accept") or ""):
        resp.content_type = falcon.MEDIA_HTML
        resp.text = _page(reports)
    else:
        resp.media = media


def _refuse(resp: falcon.asgi.Response, status: str, reason: str) -> None:
    resp.status = status
    resp.media = {"error_msg": reason}


def _page(reports: Sequence[Mapping[str, Any]]) -> str:
    rows = [(report, node) for report in reports for node in report["nodes"]]
    body = "\n".join(_row(number, *row) for number, row in enumerate(rows, 1))
    heads = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    title = "Upstream check status"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title></head>\n'
        f'<body>\n<h1>{title}</h1>\n<table style="background-color:white" cellspacing="0" cellpadding="3" border="1">\n'
        f'<tr bgcolor="#C0C0C0">{heads}</tr>\n{body}\n</table>\n</body>\n</html>\n'
    )


def _row(number: int, report: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    counter = node["counter"]
    cells = (
        number,
        report["name"],
        report["type"],
        f"{node['ip']}:{node['port']}",
        node["status"],
        counter["success"],
        counter["tcp_failure"],
        counter["http_failure"],
        counter["timeout_failure"],
    )
    colour = "" if node["status"] in ("healthy", "mostly_healthy") else ' bgcolor="#FF0000"'
    return f"<tr{colour}>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"
