"""Each kind whose id is one word: from its birth to its death, and refused with the reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gw.model.keys import parse_store_key
from tests.support.admin import UPSTREAM, MakeStore, World, world
from tests.support.samples import SAMPLES

# Under the names of today; those of plugins that are enabled are elsewhere (test_plugins.py).
LEFT_OUT = ("ssl/", "proto/", "global_rules/", "plugin_metadata/")
NAMES = [name for name in SAMPLES if name.count("/") == 1 and not name.startswith(LEFT_OUT)]


def shown_of(kind: str, resource: dict[str, Any]) -> dict[str, Any]:
    """What an answer has of it: private keys are in none."""
    return {field: value for field, value in resource.items() if (kind, field) != ("ssls", "key")}


@pytest.mark.parametrize("name", NAMES)
def test_from_birth_to_death(tmp_path: Path, make_store: MakeStore, name: str) -> None:
    sample, kind = SAMPLES[name], name.partition("/")[0]
    key = parse_store_key(name)
    assert key is not None

    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/upstreams/1", UPSTREAM)
        await admin.ask("PUT", "/services/1", {})
        refused = await admin.ask("PUT", f"/{name}", sample.bad)
        assert refused.status == 400, refused.body
        assert refused.body["error_msg"]

        made = await admin.ask("PUT", f"/{name}", sample.good)
        assert made.status in (200, 201), made.body
        stored = made.body["value"]
        assert shown_of(kind, sample.good).items() <= stored.items()
        assert stored.get("id") == key.written_id
        assert (await admin.ask("GET", f"/{name}")).body["value"] == stored
        assert (await admin.ask("GET", f"/{kind}")).body["total"] == 1

        assert (await admin.ask("PUT", f"/{name}", sample.other)).status == 200
        assert (await admin.ask("PUT", f"/{name}", sample.bad)).status == 400
        kept = (await admin.ask("GET", f"/{name}")).body["value"]
        assert shown_of(kind, sample.other).items() <= kept.items()

        if kind in ("upstreams", "services"):
            await admin.ask("DELETE", "/routes/1")
        assert (await admin.ask("DELETE", f"/{name}")).status == 200
        assert (await admin.ask("GET", f"/{name}")).status == 404

    asyncio.run(played(tmp_path, make_store, scenario))


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"vars": [["remote_addr", "=", "127.0.0.1"]]},
        "failed to validate the 'vars' expression: invalid operator '='",
    ),
    (
        {"filter_func": "def f(vars): return True"},
        "filter_func is code, which runs only where the setting gw.allow_code is on; here it is off",
    ),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_what_no_worker_could_run_is_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    async def scenario(admin: World) -> None:
        refused = await admin.ask("PUT", "/routes/1", {"uri": "/a", "plugins": {}} | fields)
        assert (refused.status, refused.body) == (400, {"error_msg": reason})

    asyncio.run(played(tmp_path, None, scenario))


async def played(directory: Path, make_store: MakeStore | None, scenario: Any) -> None:
    async with world(directory, make_store() if make_store else None) as admin:
        await scenario(admin)
