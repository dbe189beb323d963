"""The plugin itself: what a request is answered, under which key it counts, which headers tell. Real counters."""

import asyncio
import contextlib
import dataclasses
import logging

import pytest

from gw.pipeline.context import Context, Link, Request, Response
from gw.plugins.api import Environment
from gw.plugins.limit_count import LimitCount
from gw.shared.store import SharedStore
from tests.shm.world import HandClock
from tests.support.asynchronous import asynchronous
from tests.support.redis import RedisServer, has_redis

LIMITS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture
def clock():
    clock = HandClock()
    clock.now_s = 1200.0
    return clock


@pytest.fixture
def env(tmp_path, clock):
    shared = SharedStore.open(tmp_path / "state", 4 << 20, clock)
    loop = asyncio.new_event_loop()
    yield Environment(loop=loop, shared=shared, clock=clock)
    loop.close()
    shared.close()


def made(env, owner="routes/1", **conf):
    return LimitCount({"count": 2, "time_window": 60, **conf}, env, owner)


def rules(env, *rules, **conf):
    return LimitCount({"rules": list(rules), **conf}, env, "routes/1")


def context(peer="192.0.2.1", consumer="", **headers):
    pairs = [(name.lower().replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    request = Request("GET", b"/hello", b"", pairs, Link("http", peer, 50000, "192.0.2.254", 9080))
    ctx = Context(request, 0.0)
    ctx.consumer_name = consumer
    return ctx


def headers_of(plugin, ctx):
    """What the client sees after the plugin's header filter."""
    ctx.response = Response(200, [])
    plugin.header_filter(ctx)
    return {name.decode(): value.decode() for name, value in ctx.response.headers}


def shown(limit, remaining, reset, prefix="x-"):
    names = (f"{prefix}ratelimit-{what}" for what in ("limit", "remaining", "reset"))
    return dict(zip(names, (str(limit), str(remaining), str(reset)), strict=True))


def passes(plugin, ctx=None):
    return plugin.access(ctx or context()) is None


def test_up_to_the_count_pass_with_headers_and_the_next_is_refused_with_them(env, clock):
    plugin = made(env)
    for remaining in (1, 0):
        ctx = context()
        assert plugin.access(ctx) is None
        assert headers_of(plugin, ctx) == shown(2, remaining, 60)
    clock.now_s += 0.5
    reply = plugin.access(context())
    assert reply.status == 503
    assert {name.decode(): value.decode() for name, value in reply.headers} == {
        **shown(2, 0, 59.5),
        "content-type": "application/json",
    }
    clock.now_s += 59.5
    assert passes(plugin)


@pytest.mark.parametrize(
    ("conf", "status", "body"),
    [
        ({}, 503, b'{"error_msg":"503 Service Temporarily Unavailable"}\n'),
        ({"rejected_code": 429}, 429, b'{"error_msg":"429 Too Many Requests"}\n'),
        ({"rejected_code": 200}, 200, b""),
        ({"rejected_code": 599}, 599, b""),
        ({"rejected_code": 429, "rejected_msg": "slow down"}, 429, b'{"error_msg":"slow down"}\n'),
    ],
)
def test_what_a_refusal_says(env, conf, status, body):
    plugin = made(env, count=1, **conf)
    assert passes(plugin)
    reply = plugin.access(context())
    assert (reply.status, reply.body) == (status, body)


def test_headers_of_the_upstream_by_these_names_are_replaced(env):
    plugin, ctx = made(env), context()
    plugin.access(ctx)
    ctx.response = Response(200, [(b"x-ratelimit-limit", b"9"), (b"a", b"1"), (b"x-ratelimit-limit", b"8")])
    plugin.header_filter(ctx)
    assert ctx.response.headers == [
        (b"a", b"1"),
        (b"x-ratelimit-limit", b"2"),
        (b"x-ratelimit-remaining", b"1"),
        (b"x-ratelimit-reset", b"60"),
    ]


def test_headers_can_be_left_out(env):
    plugin = made(env, count=1, show_limit_quota_header=False)
    ctx = context()
    assert plugin.access(ctx) is None
    assert headers_of(plugin, ctx) == {}
    assert [name for name, _ in plugin.access(context()).headers] == [b"content-type"]


def test_metadata_names_the_headers_as_it_is_at_the_request(env, caplog):
    metadata = {"limit-count": {}}
    plugin = made(dataclasses.replace(env, metadata=metadata.__getitem__))
    ctx = context()
    plugin.access(ctx)
    assert set(headers_of(plugin, ctx)) == {name.lower() for name in LIMITS}
    metadata["limit-count"] = {"limit_header": "RateLimit-Limit", "reset_header": "Retry-After"}
    ctx = context()
    plugin.access(ctx)
    assert headers_of(plugin, ctx) == {"ratelimit-limit": "2", "x-ratelimit-remaining": "0", "retry-after": "60"}
    metadata["limit-count"] = {"limit_header": "no header"}
    reply = plugin.access(context())
    assert {name for name, _ in reply.headers} >= {b"ratelimit-limit", b"retry-after"}
    assert "'no header' is no header name" in caplog.text


KEYS = [
    # configuration; two requests that share a count; one that does not
    ({}, context(), context(a="1"), context("192.0.2.9")),
    ({"key": "http_a"}, context(a="1"), context("192.0.2.9", a="1"), context(a="2")),
    # without a value the client's address stands in
    ({"key": "http_a"}, context(), context(b="1"), context("192.0.2.9")),
    ({"key": "no_such_variable"}, context(), context(a="1"), context("192.0.2.9")),
    ({"key": "consumer_name"}, context(consumer="jack"), context("192.0.2.9", consumer="jack"), context(consumer="j")),
    (
        {"key_type": "var_combination", "key": "$http_a $http_b"},
        context(a="1", b="2"),
        context("192.0.2.9", a="1", b="2"),
        context(a="1", b="3"),
    ),
    ({"key_type": "var_combination", "key": "$http_a-$http_b"}, context(a="1"), context("192.0.2.9", a="1"), context()),
    ({"key_type": "var_combination", "key": "$http_a"}, context(), context(b="1"), context("192.0.2.9")),
    ({"key_type": "var_combination", "key": "constant"}, context(), context(b="1"), context("192.0.2.9")),
    ({"key_type": "constant", "key": "remote_addr"}, context(), context("192.0.2.9"), None),
]


@pytest.mark.parametrize(("conf", "one", "same", "other"), KEYS)
def test_what_requests_are_counted_by(env, conf, one, same, other):
    plugin = made(env, count=1, **conf)
    assert passes(plugin, one)
    assert not passes(plugin, same)
    assert other is None or passes(plugin, other)


def test_each_owner_and_configuration_counts_apart_and_an_equal_one_goes_on(env):
    assert passes(made(env, count=1))
    assert not passes(made(env, count=1))
    assert passes(made(env, count=1, owner="routes/2"))
    assert passes(made(env, count=1, rejected_code=429))


def test_a_group_counts_together(env):
    assert passes(made(env, owner="routes/1", count=1, group="shop"))
    assert not passes(made(env, owner="services/7", count=1, group="shop"))
    assert passes(made(env, owner="routes/1", count=1, group="other"))


def test_a_sliding_window(env, clock):
    plugin = made(env, window_type="sliding")
    assert [passes(plugin) for _ in range(3)] == [True, True, False]
    clock.now_s += 90
    assert [passes(plugin) for _ in range(2)] == [True, False]


RESOLVED = [
    ("3", 3),
    (" 3 ", 3),
    ("3.0", 3),
    ("+3", 3),
    (str(2**53 - 1), 2**53 - 1),
    (str(2**53), None),
    ("0", None),
    ("-1", None),
    ("2.5", None),
    ("many", None),
    ("1_0", None),
    ("9" * 5000, None),
    ("٣", None),
]


@pytest.mark.parametrize(("text", "count"), RESOLVED)
def test_a_count_may_come_from_the_request(env, text, count):
    plugin = made(env, count="$http_count")
    ctx = context()
    ctx.request.headers.append((b"count", text.encode("utf-8")))
    reply = plugin.access(ctx)
    if count is None:
        assert (reply.status, reply.body) == (500, b'{"error_msg":"failed to limit count"}\n')
    else:
        assert reply is None
        assert headers_of(plugin, ctx)["x-ratelimit-limit"] == str(count)


def test_a_count_has_a_default_and_a_window_may_come_from_the_request(env):
    plugin = made(env, count="${http_count ?? 7}", time_window="$http_window")
    ctx = context(window="30")
    assert plugin.access(ctx) is None
    assert headers_of(plugin, ctx) == shown(7, 6, 30)


def test_what_is_not_known_passes_where_that_is_wanted_and_is_logged_once_a_second(env, clock, caplog):
    plugin = made(env, count="$http_count", allow_degradation=True)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            assert passes(plugin)
        assert len(caplog.records) == 1
        clock.now_s += 1
        assert passes(plugin)
    assert len(caplog.records) == 2
    assert "limit-count of routes/1" in caplog.text
    assert "requests pass" in caplog.text


def test_rules_each_count_by_their_own_key_and_show_headers_of_their_own(env):
    plugin = rules(
        env,
        {"count": 9, "time_window": 60, "key": "$remote_addr"},
        {"count": 1, "time_window": 10, "key": "$http_user", "header_prefix": "User"},
        rejected_code=429,
    )
    ctx = context(user="jack")
    assert plugin.access(ctx) is None
    assert headers_of(plugin, ctx) == {**shown(9, 8, 60, "x-1-"), **shown(1, 0, 10, "x-user-")}
    reply = plugin.access(context(user="jack"))
    assert reply.status == 429
    assert {name.decode(): value.decode() for name, value in reply.headers} == {
        **shown(9, 7, 60, "x-1-"),
        **shown(1, 0, 10, "x-user-"),
        "content-type": "application/json",
    }


def test_a_rule_without_its_key_is_skipped_and_none_at_all_is_a_failure(env):
    plugin = rules(
        env,
        {"count": "$http_count", "time_window": 60, "key": "$http_project"},
        {"count": 1, "time_window": 60, "key": "$http_user"},
    )
    ctx = context(user="jack")
    assert plugin.access(ctx) is None
    assert set(headers_of(plugin, ctx)) == set(shown(1, 0, 60, "x-2-"))
    assert plugin.access(context()).status == 500
    # Whoever sends no number would be counted by no rule, or by the other one alone.
    assert plugin.access(context(user="jane", project="a", count="many")).status == 500
    assert passes(rules(env, {"count": 1, "time_window": 60, "key": "$http_user"}, allow_degradation=True))


def test_the_prefix_of_a_rule_goes_before_ratelimit_in_the_names_of_the_metadata(env):
    names = {"limit_header": "X-My-RateLimit-Limit", "remaining_header": "Left"}
    env = dataclasses.replace(env, metadata=lambda name: names)
    plugin = rules(env, {"count": 1, "time_window": 60, "key": "$remote_addr", "header_prefix": "a"})
    ctx = context()
    assert plugin.access(ctx) is None
    assert headers_of(plugin, ctx) == {"x-my-a-ratelimit-limit": "1", "left": "0", "x-a-ratelimit-reset": "60"}


def test_rules_of_one_key_and_two_windows_do_not_share_a_count(env, clock):
    plugin = rules(
        env,
        {"count": 1, "time_window": 1, "key": "$remote_addr"},
        {"count": 3, "time_window": 60, "key": "$remote_addr"},
    )
    passed = 0
    for _ in range(6):
        passed += passes(plugin)
        clock.now_s += 1
    assert passed == 3


def test_without_shared_state_the_instance_is_not_made(env):
    with pytest.raises(RuntimeError, match="no shared state"):
        made(dataclasses.replace(env, shared=None))


@pytest.mark.parametrize(("interval_s", "reason"), [(60, "be smaller than time_window"), (0.09, "not be smaller than")])
def test_a_sync_interval_beyond_the_window_or_too_short_is_refused(env, interval_s, reason):
    conf = {"policy": "redis", "redis_host": "127.0.0.1", "sync_interval": interval_s}
    with pytest.raises(ValueError, match=f"sync_interval should {reason}"):
        made(env, **conf)


def test_an_instance_ends_in_no_cycle(env):
    """The collector is tuned to look seldom: what goes with a configuration must go by itself."""
    import gc
    import weakref

    plugin = made(env)
    passes(plugin)
    gone = weakref.ref(plugin)
    gc.disable()
    try:
        del plugin
        assert gone() is None
    finally:
        gc.enable()


@contextlib.asynccontextmanager
async def elsewhere(env, **conf):
    """An instance that counts in Redis, in the loop that runs."""
    tasks = []
    loop = asyncio.get_running_loop()

    def spawn(work, **_):
        tasks.append(loop.create_task(work))
        return tasks[-1]

    plugin = made(dataclasses.replace(env, loop=loop, spawn=spawn), **conf)
    try:
        yield plugin
    finally:
        plugin.close()
        await asyncio.gather(*tasks)


@pytest.mark.skipif(not has_redis(), reason="redis-server and redis-cli are not installed")
@pytest.mark.parametrize("more", [{}, {"sync_interval": 0.1}, {"window_type": "sliding"}])
@asynchronous
async def test_policy_redis(env, tmp_path, more):
    with RedisServer(tmp_path) as server:
        conf = {"policy": "redis", "redis_host": "127.0.0.1", "redis_port": server.port, "rejected_code": 429, **more}
        async with elsewhere(env, **conf) as plugin:
            assert asyncio.iscoroutinefunction(plugin.access)
            ctx = context()
            assert await plugin.access(ctx) is None
            assert headers_of(plugin, ctx)["x-ratelimit-remaining"] == "1"
            assert await plugin.access(context()) is None
            reply = await plugin.access(context())
            assert reply.status == 429
            assert dict(reply.headers)[b"x-ratelimit-remaining"] == b"0"


@pytest.mark.parametrize(("degrades", "status"), [(False, 500), (True, None)])
@asynchronous
async def test_policy_redis_without_redis(env, caplog, degrades, status):
    conf = {"policy": "redis", "redis_host": "127.0.0.1", "redis_port": 1, "allow_degradation": degrades}
    async with elsewhere(env, redis_password="never-to-be-seen", **conf) as plugin:
        replies = [await plugin.access(context()) for _ in range(3)]
    assert [reply and reply.status for reply in replies] == [status] * 3
    assert "Redis does not count" in caplog.text
    assert "never-to-be-seen" not in caplog.text
