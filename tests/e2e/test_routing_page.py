"""The examples of docs/routing.md: each with its routes, in its mode, through a running gateway."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.support.canary import ask
from tests.support.gateway import Gateway, running_gateway
from tests.support.raw import raw_upstream

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"
MODES = ("radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter")
EXAMPLE = re.compile(r"(?:<!-- (\w+) -->\n)?```json\n(.*?)```\n\n```console\n(.*?)```", re.DOTALL)


class Example(NamedTuple):
    mode: str
    routes: list[dict[str, Any]]
    calls: list[tuple[str, str]]  # a command, and what answers


def examples() -> list[Example]:
    found = []
    for mode, routes, calls in EXAMPLE.findall(PAGE.read_text()):
        pairs = [tuple(part.strip() for part in line.removeprefix("$").rsplit("#", 1)) for line in calls.splitlines()]
        found.append(Example(mode or MODES[0], [json.loads(line) for line in routes.splitlines()], pairs))
    return found


def request_of(command: str) -> bytes:
    """What curl would send."""
    words = iter(shlex.split(command)[1:])
    method, headers, body, url = "GET", {"host": "localhost:9080", "accept": "*/*"}, b"", ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(":")
            headers[name.lower()] = value.strip()
        elif word == "-A":
            headers["user-agent"] = next(words)
        elif word == "-d":
            method, body = "POST", next(words).encode()
            headers = {"content-type": "application/x-www-form-urlencoded", **headers}
            headers["content-length"] = str(len(body))
        else:
            url = word
    split = urlsplit(f"http://{url}")
    target = split.path + (f"?{split.query}" if split.query else "")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items() if value)]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + body


class _Answers(dict[str, bytes]):
    """An upstream says which route led to it, whatever it is asked for."""

    def __init__(self, id: str) -> None:
        super().__init__()
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(id), id.encode())

    def get(self, key: str, default: Any = None) -> bytes:
        return self._answer


@contextlib.contextmanager
def put(gateway: Gateway, routes: list[dict[str, Any]]) -> Iterator[None]:
    """These routes and no others, each with an upstream of its own."""
    with contextlib.ExitStack() as stack:
        resources: dict[str, Any] = {}
        for route in routes:
            port = stack.enter_context(raw_upstream(_Answers(route["id"]))).port
            upstream = {"type": "roundrobin", "nodes": {f"127.0.0.1:{port}": 1}}
            resources[f"routes_{route['id']}"] = {**route, "upstream": upstream}
        gateway.apply(resources)
        yield
        gateway.apply(dict.fromkeys(resources))


def test_there_are_examples_of_every_mode() -> None:
    assert {example.mode for example in examples()} == set(MODES)
    assert sum(len(example.calls) for example in examples()) == PAGE.read_text().count("\n$ ")


@pytest.mark.parametrize("mode", MODES)
def test_examples(mode: str, tmp_path: Path) -> None:
    config = {"apisix": {"router": {"http": mode}}, "gw": {"allow_code": True}}
    with running_gateway(tmp_path, config, workers=1) as gateway:
        for example in examples():
            if example.mode != mode:
                continue
            with put(gateway, example.routes):
                for command, expected in example.calls:
                    answer = ask(gateway.port, request_of(command))
                    got = answer.body.decode() if answer.status == 200 else str(answer.status)
                    assert got == expected, command
