"""Counting in real Redis servers: one, a cluster, a master behind a sentinel; and without them."""

import asyncio
import contextlib
import itertools
import random

import pytest

from gw.clock import SystemClock
from gw.plugins.counting.clients import CLIENTS, Lease, Options
from gw.plugins.counting.delayed import DelayedCounter
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict
from gw.plugins.counting.remote import RemoteCounter
from gw.plugins.counting.sliding import is_within
from gw.shared.store import SharedStore
from tests.shm.world import HandClock
from tests.support.asynchronous import asynchronous
from tests.support.etcd import TLS_DIR
from tests.support.ports import free_ports
from tests.support.redis import RedisServer, has_redis, redis_cluster, redis_sentinel

pytestmark = pytest.mark.skipif(not has_redis(), reason="redis-server and redis-cli are not installed")

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    user = "user gateway on >of-gateway ~* &* +@all"
    with RedisServer(tmp_path_factory.mktemp("redis"), "requirepass of-default", user) as server:
        yield server


def conf(port, **more):
    return {"policy": "redis", "redis_host": "127.0.0.1", "redis_port": port, "redis_timeout": 2000, **more}


@contextlib.asynccontextmanager
async def counting(conf, clock=None, *, is_sliding=False):
    loop = asyncio.get_running_loop()
    counter = RemoteCounter(Lease(Options.of(conf), loop), clock or SystemClock(), is_sliding=is_sliding)
    closing = []
    try:
        yield counter
    finally:
        counter.close(lambda work: closing.append(loop.create_task(work)))
        await asyncio.gather(*closing)


def fresh_key():
    return f"routes/1:{next(_numbers)}"


@asynchronous
async def test_a_fixed_window_in_redis(server):
    key, quota = fresh_key(), Quota(2, 100)
    async with counting(conf(server.port)) as counter:
        first = await counter.count(key, quota)
        assert first == Verdict(True, 1, 100)
        second = await counter.count(key, quota)
        assert (second.is_within, second.remaining) == (True, 0)
        assert 0 < second.reset_s <= 100
        assert not (await counter.count(key, quota)).is_within
        assert server.cli("GET", f"plugin-limit-count{key}") == "3"
        server.cli("DEL", f"plugin-limit-count{key}")
        assert (await counter.count(key, quota)) == Verdict(True, 1, 100)


@asynchronous
async def test_all_who_count_at_once_share_one_count(server):
    key, quota = fresh_key(), Quota(30, 100)
    async with counting(conf(server.port)) as one, counting(conf(server.port, redis_database=0)) as other:
        verdicts = await asyncio.gather(*(each.count(key, quota) for each in (one, other) * 40))
    assert sum(verdict.is_within for verdict in verdicts) == 30
    assert sorted(verdict.remaining for verdict in verdicts if verdict.is_within) == list(range(30))


@asynchronous
async def test_scripts_that_redis_forgot_are_sent_again(server):
    key, quota = fresh_key(), Quota(9, 100)
    async with counting(conf(server.port)) as counter:
        await counter.count(key, quota)
        server.cli("SCRIPT", "FLUSH")
        assert (await counter.count(key, quota)).remaining == 7


@asynchronous
async def test_a_database_is_chosen(server):
    key = fresh_key()
    async with counting(conf(server.port, redis_database=3)) as counter:
        await counter.count(key, Quota(9, 100))
    assert server.cli("-n", "3", "GET", f"plugin-limit-count{key}") == "1"
    assert server.cli("GET", f"plugin-limit-count{key}") == ""


@pytest.mark.parametrize(
    "credentials",
    [{"redis_password": "of-default"}, {"redis_username": "gateway", "redis_password": "of-gateway"}],
)
@asynchronous
async def test_credentials_are_sent(secured, credentials):
    async with counting(conf(secured.port, **credentials)) as counter:
        assert (await counter.count(fresh_key(), Quota(1, 100))).is_within


@pytest.mark.parametrize("credentials", [{}, {"redis_password": "wrong-secret"}])
@asynchronous
async def test_without_the_right_ones_the_count_is_not_known_and_no_secret_is_told(secured, credentials):
    async with counting(conf(secured.port, **credentials)) as counter:
        with pytest.raises(CountingFailed) as failure:
            await counter.count(fresh_key(), Quota(1, 100))
    assert "wrong-secret" not in str(failure.value)
    assert "wrong-secret" not in repr(Options.of(conf(secured.port, **credentials)))


@asynchronous
async def test_a_sliding_window_in_redis_decides_as_the_arithmetic_does(server):
    """The script and the Python say the same, with steps at random."""
    clock, rng, key, quota = HandClock(), random.Random(5), fresh_key(), Quota(7, 10)
    counted: dict[int, int] = {}
    async with counting(conf(server.port), clock, is_sliding=True) as counter:
        for _ in range(600):
            # Eighths of a second, so that no rounding decides.
            clock.now_s += rng.choice((0.125, 0.5, 1, 7, 25))
            number = int(clock.wall() // 10)
            current, previous = counted.get(number, 0), counted.get(number - 1, 0)
            within = is_within(quota, current, previous, 10 - clock.wall() % 10)
            assert (await counter.count(key, quota)).is_within == within
            counted[number] = current + within
    assert 0 < int(server.cli("PTTL", f"{{plugin-limit-count{key}}}.{number}")) <= 20_000


@asynchronous
async def test_a_server_that_is_away_is_an_error_and_one_that_is_back_counts(tmp_path):
    with RedisServer(tmp_path) as server:
        key, quota = fresh_key(), Quota(9, 100)
        async with counting(conf(server.port)) as counter:
            await counter.count(key, quota)
            server.kill()
            for _ in range(3):
                with pytest.raises(CountingFailed, match="Redis does not count"):
                    await counter.count(key, quota)
            server.start()
            assert (await counter.count(key, quota)).remaining == 8


@asynchronous
async def test_a_server_that_does_not_answer_is_given_up():
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, counting(conf(port, redis_timeout=50)) as counter:
        with pytest.raises(CountingFailed, match="Timeout"):
            await counter.count(fresh_key(), Quota(1, 1))


@asynchronous
async def test_tls_is_spoken_and_a_certificate_is_verified_where_that_is_asked_for(tmp_path):
    (port,) = free_ports(1)
    tls = [f"tls-cert-file {TLS_DIR}/server.pem", f"tls-key-file {TLS_DIR}/server.key", "tls-auth-clients no"]
    try:
        server = RedisServer(tmp_path, f"tls-port {port}", *tls)
        server.start()
    except AssertionError:
        pytest.skip("this redis-server was built without TLS")
    try:
        async with counting(conf(port, redis_ssl=True)) as counter:
            assert (await counter.count(fresh_key(), Quota(1, 100))).is_within
        # The test's authority is none of the host's.
        async with counting(conf(port, redis_ssl=True, redis_ssl_verify=True)) as counter:
            with pytest.raises(CountingFailed, match=r"(?i)certificate"):
                await counter.count(fresh_key(), Quota(1, 100))
    finally:
        server.kill()


@asynchronous
async def test_equal_options_share_a_client_and_the_last_use_closes_it(server):
    loop, closing = asyncio.get_running_loop(), []
    leases = [Lease(Options.of(conf(server.port, redis_keepalive_pool=7)), loop) for _ in range(2)]
    async with leases[0] as one, leases[1] as other:
        assert one is other
        for lease in (leases[0], *leases):
            lease.close(closing.append)
        assert not closing
    assert len(closing) == 1
    # A request that was under way when the configuration went gets its count all the same, and leaves nothing open.
    late = RemoteCounter(leases[1], SystemClock(), is_sliding=False)
    assert (await late.count(fresh_key(), Quota(1, 1))).is_within
    assert len(closing) == 2
    await asyncio.gather(*closing)
    assert CLIENTS._held == {}


@pytest.mark.parametrize("is_sliding", [False, True])
@asynchronous
async def test_a_cluster_counts_each_key_where_it_lies(tmp_path, is_sliding):
    with redis_cluster(tmp_path) as nodes:
        cluster = {
            "policy": "redis-cluster",
            "redis_cluster_nodes": [f"127.0.0.1:{node.port}" for node in nodes[:2]],
            "redis_cluster_name": "test",
            "redis_timeout": 2000,
        }
        async with counting(cluster, HandClock(), is_sliding=is_sliding) as counter:
            for number in range(20):
                key = f"route:{number}"
                verdicts = [await counter.count(key, Quota(3, 100)) for _ in range(4)]
                assert [verdict.is_within for verdict in verdicts] == [True, True, True, False]
        assert all(int(node.cli("DBSIZE")) > 0 for node in nodes)


@asynchronous
async def test_a_sentinel_names_the_master(tmp_path):
    with redis_sentinel(tmp_path) as (sentinel, master):
        named = {
            "policy": "redis-sentinel",
            "redis_sentinels": [{"host": "127.0.0.1", "port": sentinel.port}],
            "redis_master_name": "mymaster",
            "redis_database": 2,
        }
        async with counting(named) as counter:
            verdicts = [await counter.count("key", Quota(1, 100)) for _ in range(2)]
        assert [verdict.is_within for verdict in verdicts] == [True, False]
        assert master.cli("-n", "2", "GET", "plugin-limit-countkey") == "2"
        async with counting({**named, "redis_master_name": "unknown"}) as counter:
            with pytest.raises(CountingFailed):
                await counter.count("key", Quota(1, 100))


class TestDelayed:
    """`sync_interval`: here at once, in Redis now and then. Two gateways are two shared states."""

    INTERVAL_S = 0.05

    @pytest.fixture
    def gateways(self, tmp_path):
        stores = [SharedStore.open(tmp_path / f"state{number}", 4 << 20, SystemClock()) for number in range(2)]
        yield stores
        for store in stores:
            store.close()

    @contextlib.asynccontextmanager
    async def delayed(self, port, shared):
        tasks = []
        async with counting(conf(port)) as remote:
            yield DelayedCounter(
                remote,
                shared,
                SystemClock(),
                lambda work: tasks.append(asyncio.create_task(work)),
                interval_s=self.INTERVAL_S,
            )
            await asyncio.gather(*tasks)

    @asynchronous
    async def test_what_is_counted_here_is_told_once_and_in_full(self, server, gateways):
        key, quota = fresh_key(), Quota(100, 100)
        async with self.delayed(server.port, gateways[0]) as counter:
            verdicts = [await counter.count(key, quota) for _ in range(20)]
            assert [verdict.remaining for verdict in verdicts] == list(range(99, 79, -1))
            assert server.cli("GET", f"plugin-limit-count{key}") == "1"
        assert server.cli("GET", f"plugin-limit-count{key}") == "20"

    @asynchronous
    async def test_a_gateway_learns_what_the_others_counted(self, server, gateways):
        key, quota = fresh_key(), Quota(10, 100)
        async with self.delayed(server.port, gateways[0]) as one, self.delayed(server.port, gateways[1]) as other:
            for _ in range(4):
                await one.count(key, quota)
                await other.count(key, quota)
            async with asyncio.timeout(20):
                while server.cli("GET", f"plugin-limit-count{key}") != "8":
                    await asyncio.sleep(0.01)
            assert (await one.count(key, quota)).remaining <= 5
            while (await one.count(key, quota)).is_within:
                pass
            async with asyncio.timeout(20):
                while (await other.count(key, quota)).is_within:
                    await asyncio.sleep(0.01)

    @asynchronous
    async def test_the_limit_holds_on_one_gateway_at_once(self, server, gateways):
        key, quota = fresh_key(), Quota(10, 100)
        async with self.delayed(server.port, gateways[0]) as counter:
            await counter.count(key, quota)
            verdicts = await asyncio.gather(*(counter.count(key, quota) for _ in range(50)))
        assert sum(verdict.is_within for verdict in verdicts) == 9

    @asynchronous
    async def test_without_redis_the_host_counts_alone_and_tells_later(self, tmp_path, gateways, caplog):
        with RedisServer(tmp_path) as server:
            key, quota = fresh_key(), Quota(10, 100)
            server.kill()
            async with self.delayed(server.port, gateways[0]) as counter:
                verdicts = [await counter.count(key, quota) for _ in range(12)]
                assert [verdict.is_within for verdict in verdicts] == [True] * 10 + [False] * 2
            assert "counting on this host alone" in caplog.text
            server.start()
            async with self.delayed(server.port, gateways[0]) as counter:
                async with asyncio.timeout(20):
                    while server.cli("GET", f"plugin-limit-count{key}") != "9":
                        await counter.count(key, quota)
                        await asyncio.sleep(0.01)
