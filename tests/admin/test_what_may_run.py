"""What no worker could run is refused, with the reason and where it stands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import world

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "/routes/1",
        {"uri": "/a", "plugins": {}, "vars": [["remote_addr", "=", "127.0.0.1"]]},
        "failed to validate the 'vars' expression: invalid operator '='",
    ),
    (
        "/routes/1",
        {"uri": "/a", "plugins": {}, "vars": [[["post_arg.messages[.content[*].type", "has", "image_url"]]]},
        "failed to validate the 'vars' expression: invalid expression: post_arg.messages[.content[*].type names no "
        "place in a body",
    ),
    (
        "/routes/1",
        {"uri": "/a", "plugins": {}, "filter_func": "def f(vars): return True"},
        "filter_func is code, which runs only where the setting gw.allow_code is on; here it is off",
    ),
    (
        "/services/1",
        {"script": "def f(vars): return True"},
        "script is code, which runs only where the setting gw.allow_code is on; here it is off",
    ),
    ("/protos/1", {"content": "message A {"}, "invalid content: { is not closed (line 1)"),
]


@pytest.mark.parametrize(("path", "resource", "reason"), REFUSED)
def test_what_no_worker_could_run_is_refused(
    tmp_path: Path, path: str, resource: dict[str, Any], reason: str
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as admin:
            refused = await admin.ask("PUT", path, resource)
            assert (refused.status, refused.body) == (400, {"error_msg": reason})
            assert (await admin.ask("GET", path)).status == 404

    asyncio.run(scenario())
