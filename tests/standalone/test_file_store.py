"""A file that is watched: every way in which it becomes another one, and every way in which it is not usable."""

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gw.clock import SystemClock
from gw.errors import StoreError
from sync_agent.stores.base import WatchBatch
from sync_agent.stores.standalone.file_store import FileStore
from tests.support.asynchronous import asynchronous
from tests.support.stores import Watching, read_all
from tests.support.whole_stores import FileBackend

ONE = "routes: [{id: 1, uri: /a}]\n#END\n"
TWO = "routes: [{id: 1, uri: /a}, {id: 2, uri: /b}]\n#END\n"


@contextlib.asynccontextmanager
async def watched(path: Path, text: str = ONE) -> AsyncIterator[tuple[FileStore, Watching]]:
    """The store of a file with this text, and a watch on it from there on."""
    backend = FileBackend(path.parent, path.suffix[1:], text, {"URI": "/from-env"})
    async with backend.opened() as store:
        await read_all(store)
        async with Watching(store, (await store.head()).revision + 1) as watching:
            yield store, watching


def told(batch: WatchBatch) -> dict[str, bytes | None]:
    return {event.key: event.kv and event.kv.value for event in batch.events}


def rename_over(path: Path, text: str) -> None:
    aside = path.with_name("aside")
    aside.write_text(text)
    os.rename(aside, path)


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def delete_and_write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def same_size_and_time(path: Path, text: str) -> None:
    """As two writes within one tick of a coarse clock: nothing but the content differs."""
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("edit", [rename_over, write_in_place, delete_and_write, same_size_and_time])
@asynchronous
async def test_each_way_of_editing_is_seen(tmp_path: Path, edit: Callable[[Path, str], None]) -> None:
    async with watched(tmp_path / "apisix.yaml") as (_, watching):
        for uri in ("/b", "/c", "/d"):
            edit(tmp_path / "apisix.yaml", ONE.replace("/a", uri))
            assert told(await watching.next()) == {"routes/1": b'{"id":1,"uri":"%b"}' % uri.encode()}


@asynchronous
async def test_a_symbolic_link_that_points_elsewhere_is_seen(tmp_path: Path) -> None:
    """As kubelet swaps a ConfigMap: apisix.yaml -> ..data/apisix.yaml, ..data -> ..2024_01_01."""
    for name, text in (("..first", ONE), ("..second", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "apisix.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..first")
    path = tmp_path / "apisix.yaml"
    path.symlink_to("..data/apisix.yaml")
    async with watched(path, ONE) as (_, watching):
        (tmp_path / "..data_tmp").symlink_to("..second")
        os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
        assert list(told(await watching.next())) == ["routes/2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TWO.removesuffix("#END\n"), "no #END on its last line"),
        ("routes: [{id: 1, uri: /a}, {id: 2\n#END\n", "line "),
        ("routes: {}\n#END\n", "routes: must be a list"),
        ("#END\n", "must hold a mapping of kinds"),
        ("routes: []\nroutes: []\n#END\n", "key 'routes' is written twice"),
        (None, "cannot be read: No such file or directory"),
    ],
)
@asynchronous
async def test_a_file_that_cannot_be_used_keeps_the_last_good_one_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None, reason: str
) -> None:
    path = tmp_path / "apisix.yaml"
    async with watched(path) as (store, watching):
        before = await store.head()
        path.unlink() if text is None else rename_over(path, text)
        with pytest.raises(StoreError, match="is not used") as caught:
            await watching.next()
        assert reason in str(caught.value)
        assert str(path) in str(caught.value)
        # Whoever tries again hears the same, and one line says so.
        with pytest.raises(StoreError, match="is not used"):
            async with Watching(store, before.revision + 1):
                pass
        assert [reason in record.message for record in caplog.records if record.levelno == logging.ERROR] == [True]
        assert await store.head() == before
        assert (await store.get("routes/1"))[0] is not None

        rename_over(path, TWO)
        while True:
            with contextlib.suppress(StoreError):
                async with Watching(store, before.revision + 1) as again:
                    assert list(told(await again.next())) == ["routes/2"]
                    break


@asynchronous
async def test_there_is_no_list_before_the_first_good_file(tmp_path: Path) -> None:
    """An empty list would be taken for the truth, and everything that is served would go."""
    backend = FileBackend(tmp_path, "yaml")
    backend.path.unlink()
    async with backend.opened() as store:
        with pytest.raises(StoreError, match="No such file"):
            await read_all(store)
        backend.path.write_text("routes: [")
        with pytest.raises(StoreError, match="no #END"):
            await read_all(store)
        backend.path.write_text(ONE)
        assert [kv.key for kv in await read_all(store)] == ["routes/1"]


@asynchronous
async def test_variables_are_those_of_the_agent(tmp_path: Path) -> None:
    text = "routes: [{id: 1, uri: '${{URI}}'}, {id: 2, uri: '${{NOBODY}}'}, {id: 3, uri: '${{NOBODY:=/x}}'}]\n#END\n"
    async with watched(tmp_path / "apisix.yaml", text) as (store, _):
        items = {kv.key: kv for kv in await read_all(store)}
    assert items["routes/1"].value == b'{"id":1,"uri":"/from-env"}'
    assert "NOBODY is not set" in items["routes/2"].refusal
    assert items["routes/3"].value == b'{"id":3,"uri":"/x"}'


@asynchronous
async def test_a_file_that_is_touched_and_not_changed_is_no_revision(tmp_path: Path) -> None:
    path = tmp_path / "apisix.yaml"
    async with watched(path) as (store, watching):
        before = await store.head()
        os.utime(path)
        rename_over(path, ONE)
        rename_over(path, "# a comment\n" + ONE)
        await read_all(store)
        assert await store.head() == before
        rename_over(path, TWO)
        assert list(told(await watching.next())) == ["routes/2"]


@asynchronous
async def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    backend = FileBackend(tmp_path, "json")
    store = FileStore(backend.path, "json", SystemClock(), limit_bytes=1000, environ={})
    with backend.path.open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(StoreError, match="larger than 1000 bytes"):
        await read_all(store)


@asynchronous
async def test_a_change_of_one_route_in_10_000_is_one_event(tmp_path: Path) -> None:
    lines = [f"  - {{id: {number}, uri: /{number}}}" for number in range(10_000)]
    path = tmp_path / "apisix.yaml"
    async with watched(path, "\n".join(["routes:", *lines, "#END"])) as (_, watching):
        lines[5000] = "  - {id: 5000, uri: /changed}"
        rename_over(path, "\n".join(["routes:", *lines, "#END"]))
        assert list(told(await watching.next())) == ["routes/5000"]


@asynchronous
async def test_what_means_nothing_and_what_is_dangerous_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lines = [f"rotes{number}: []" for number in range(30)]
    backend = FileBackend(tmp_path, "yaml", "\n".join([*lines, "#END"]))
    backend.path.chmod(0o646)
    async with backend.opened() as store:
        await read_all(store)
    told = [record.message.removeprefix(f"{backend.path}: ") for record in caplog.records]
    assert told[0] == f"read {backend.path}: 0 resources, 0 of them changed or gone"
    assert told[1].startswith("everybody on this host may write it")
    assert told[2] == "rotes0: is no kind of resource that is served here, and does nothing"
    assert told[-1] == "11 more of such"
    assert len(told) == 22
