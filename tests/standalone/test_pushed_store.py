"""The document that was put last: on disk before it counts, whoever waits for it, and never half of it."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from gw.clock import SystemClock
from gw.errors import StoreError
from sync_agent.stores.standalone.document import InvalidDocument
from sync_agent.stores.standalone.pushed_store import PushedStore
from sync_agent.stores.standalone.versions import Standing, succeed
from tests.support.asynchronous import asynchronous
from tests.support.stores import read_all

BODY = {"routes": [{"id": "1", "uri": "/a"}]}


def put(standing: Standing) -> Standing:
    return succeed(standing, BODY, "digest", 1.0)


@asynchronous
async def test_who_gives_up_waiting_stops_nothing(tmp_path: Path) -> None:
    store = PushedStore(tmp_path / "document.json", SystemClock())
    going_on = threading.Event()

    def slowly(standing: Standing) -> Standing:
        going_on.wait()
        return put(standing)

    waiting = asyncio.ensure_future(store.update(slowly))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    going_on.set()
    assert (await store.standing()).digest == "digest"
    assert [kv.key for kv in await read_all(store)] == ["routes/1"]
    assert json.loads((tmp_path / "document.json").read_text())["document"]["X-Digest"] == "digest"
    await store.close()


@asynchronous
async def test_updates_take_turns(tmp_path: Path) -> None:
    store = PushedStore(tmp_path / "document.json", SystemClock())
    await asyncio.gather(*(store.update(put) for _ in range(20)))
    assert (await store.standing()).document["routes_conf_version"] == 20
    await store.close()


@asynchronous
async def test_a_refusal_and_a_full_disk_leave_what_stands(tmp_path: Path) -> None:
    path = tmp_path / "data" / "document.json"
    store = PushedStore(path, SystemClock())
    before, head = await store.update(put)

    def refuse(_: Standing) -> Standing:
        raise InvalidDocument("no")

    with pytest.raises(InvalidDocument, match="no"):
        await store.update(refuse)
    (path.parent / ".document.json.new").mkdir()  # where the new file is written aside
    with pytest.raises(StoreError, match="cannot be written"):
        await store.update(put)
    assert (await store.standing(), await store.head()) == (before, head)
    (path.parent / ".document.json.new").rmdir()
    assert (await store.update(put))[0].document["routes_conf_version"] == 2
    await store.close()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("", 0o600, "invalid JSON"),
        ('{"document": {}}', 0o600, "damaged, or something else"),
        ('{"document": {}, "held": {"routes/1": {}}}', 0o600, "damaged, or something else"),
        ("[]", 0o600, "damaged, or something else"),
        ('{"document": [], "held": {}}', 0o600, "must hold a mapping"),
        ('{"document": {"routes": 7}, "held": {}}', 0o600, "routes: must be a list"),
        ('{"document": {"routes_conf_version": "7"}, "held": {}}', 0o600, "must be a number"),
        ('{"document": {}, "held": {}}', 0o640, "others may use it"),
    ],
)
@asynchronous
async def test_a_file_that_will_not_do_is_no_empty_document(
    tmp_path: Path, content: str, mode: int, reason: str
) -> None:
    path = tmp_path / "document.json"
    path.write_text(content)
    path.chmod(mode)
    store = PushedStore(path, SystemClock())
    for work in (store.standing, lambda: read_all(store)):
        with pytest.raises(StoreError, match="is not used") as caught:
            await work()
        assert reason in str(caught.value)
    await store.update(put)
    assert [kv.key for kv in await read_all(store)] == ["routes/1"]
    assert path.stat().st_mode & 0o777 == 0o600
    await store.close()
