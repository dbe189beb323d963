"""No two consumers get one key, on a running gateway, over each store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.settings import load_agent_settings
from sync_agent.stores import open_store
from tests.support.both_stores import STORES, store_config
from tests.support.gateway import Gateway, running_gateway
from tests.support.waiting import wait_until

KEY = "planted-consumer-key-41c7"


@pytest.fixture(scope="module", params=STORES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    debug = {"gw": {"log_level": "debug"}}
    with (
        store_config(request.param, tmp_path_factory.mktemp("store")) as config,
        running_gateway(tmp_path_factory.mktemp("gateway"), config | debug, workers=1) as made,
    ):
        yield made
        assert KEY not in made.output()


def consumer(name: str, key: str = KEY) -> dict[str, Any]:
    return {"username": name, "plugins": {"key-auth": {"key": key}}}


def refused(gateway: Gateway, path: str, body: Any) -> str:
    reply = gateway.admin("PUT", path, body)
    assert reply.status == 400, reply
    assert KEY not in reply.body.decode()
    return str(reply.json()["error_msg"])


def put_past_the_admin_api(gateway: Gateway, key: str, value: dict[str, Any]) -> None:
    """And wait until the watch has brought it."""

    async def write() -> int:
        store = open_store(load_agent_settings(gateway.config_path), SystemClock())
        try:
            return (await store.put(key, json.dumps(value).encode())).head.revision
        finally:
            await store.close()

    revision = asyncio.run(write())
    wait_until(lambda: gateway.convergence()["agent"]["revision"] >= revision, what=f"revision {revision}")


def test_a_key_is_one_consumers(gateway: Gateway) -> None:
    assert gateway.admin("PUT", "/consumers", consumer("jack")).status == 201
    assert gateway.admin("PUT", "/consumers", consumer("jack")).status == 200
    assert refused(gateway, "/consumers", consumer("jill")) == "duplicate key found with consumer: jack"
    assert gateway.admin("PUT", "/consumers", consumer("jill", "another-key-5512")).status == 201
    credential = {"plugins": {"key-auth": {"key": KEY}}}
    for name in ("jill", "jack"):
        reason = refused(gateway, f"/consumers/{name}/credentials/c", credential)
        assert reason == "duplicate key found with consumer: jack"

    # What somebody else wrote counts as soon as the watch has brought it.
    put_past_the_admin_api(gateway, "consumers/joan", consumer("joan", "key-of-joan-0001"))
    reason = refused(gateway, "/consumers", consumer("jo", "key-of-joan-0001"))
    assert reason == "duplicate key found with consumer: joan"

    # An agent that starts knows what there was before it.
    before = gateway.agent_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: gateway.agent_pid() != before, what="another agent")
    wait_until(lambda: gateway.admin("GET", "/consumers/jack").status == 200, what="the Admin API to be back")
    assert refused(gateway, "/consumers", consumer("jo")) == "duplicate key found with consumer: jack"

    assert gateway.admin("DELETE", "/consumers/jack").status == 200
    assert gateway.admin("PUT", "/consumers", consumer("jo")).status == 201
