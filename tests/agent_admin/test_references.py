"""Which resources hold on to which, asked of each store: what must be there, and what cannot go."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gw.model.keys import ResourceKey, parse_store_key
from gw.model.operations import Outcome
from sync_agent.admin.references import Missing, can_be_referred_to, depends_on_others, find_missing, find_user
from tests.support.asynchronous import asynchronous
from tests.support.stores import Backend

CLIENT_SSL = {"type": "client", "cert": "$env://C", "key": "$env://K"}
TLS = {"tls": {"client_cert_id": 3}}
SPLIT = {"plugins": {"traffic-split": {"rules": [{"weighted_upstreams": [{"weight": 1}, {"upstream_id": 3}]}]}}}
REDIS = {"protocol": {"name": "redis", "superior_id": 3}}
ITSELF = "stream route can not set itself as superior_id"
TRANSCODE = {"plugins": {"grpc-transcode": {"proto_id": 3}}}


def refused(noun: str, id: object = 3, why: str = "response code: 404") -> Missing:
    return Missing(Outcome.INVALID, f"failed to fetch {noun} info by {noun} id [{id}], {why}")


def refused_route(id: int) -> Missing:
    return Missing(Outcome.INVALID, f"failed to fetch stream routes[{id}], response code: 404")


def key_of(store_key: str) -> ResourceKey:
    key = parse_store_key(store_key)
    assert key is not None
    return key


# Who refers, with what; the first that is missing; then the same for what is there now, until nothing is missing.
REQUIRED: list[tuple[str, dict[str, Any], list[tuple[Missing, str, Any]]]] = [
    ("routes/1", {"upstream_id": 3}, [(refused("upstream"), "upstreams/3", {})]),
    ("routes/1", {"service_id": "3"}, [(refused("service"), "services/3", {})]),
    ("routes/1", {"plugin_config_id": 3}, [(refused("plugin config"), "plugin_configs/3", {})]),
    (
        "routes/1",
        {"upstream_id": 1, "service_id": 2, "plugin_config_id": 3},
        [
            (refused("upstream", 1), "upstreams/1", {}),
            (refused("service", 2), "services/2", {}),
            (refused("plugin config", 3), "plugin_configs/3", {}),
        ],
    ),
    ("services/1", {"upstream_id": 3}, [(refused("upstream"), "upstreams/3", {})]),
    ("stream_routes/1", {"upstream_id": 3}, [(refused("upstream"), "upstreams/3", {})]),
    ("stream_routes/1", {"service_id": 3}, [(refused("service"), "services/3", {})]),
    ("consumers/jack", {"group_id": 3}, [(refused("consumer group"), "consumer_groups/3", {})]),
    (
        "consumers/jack/credentials/1",
        {},
        [(Missing(Outcome.NO_PARENT, "consumer not found"), "consumers/jack", {"username": "jack"})],
    ),
    (
        "upstreams/1",
        TLS,
        [(refused("ssl"), "ssls/3", {"sni": "a"}), (refused("ssl", 3, "wrong ssl type"), "ssls/3", CLIENT_SSL)],
    ),
    ("upstreams/1", TLS, [(refused("ssl"), "ssl/3", CLIENT_SSL)]),
    ("routes/1", {"upstream": TLS}, [(refused("ssl"), "ssls/3", CLIENT_SSL)]),
    ("services/1", {"upstream": TLS}, [(refused("ssl"), "ssls/3", CLIENT_SSL)]),
    ("stream_routes/1", {"upstream": TLS}, [(refused("ssl"), "ssls/3", CLIENT_SSL)]),
    (
        "stream_routes/1",
        REDIS,
        [
            (refused_route(3), "stream_routes/3", {"protocol": {"name": "dubbo"}}),
            (
                Missing(
                    Outcome.INVALID,
                    "protocol mismatch: subordinate protocol [redis] does not match superior protocol [dubbo]",
                ),
                "stream_routes/3",
                {"protocol": {"name": "redis"}},
            ),
        ],
    ),
    ("stream_routes/1", REDIS, [(refused_route(3), "stream_routes/3", {})]),
    ("stream_routes/3", REDIS, [(Missing(Outcome.INVALID, ITSELF), "", None)]),
]


@pytest.mark.parametrize(("name", "value", "steps"), REQUIRED)
@asynchronous
async def test_what_must_be_there(
    backend: Backend, name: str, value: dict[str, Any], steps: list[tuple[Missing, str, Any]]
) -> None:
    assert depends_on_others(key_of(name), value)
    async with backend.opened() as store:
        for missing, found, there in steps:
            assert await find_missing(store, key_of(name), value) == missing
            if there is None:
                return
            await store.put(found, json.dumps(there).encode())
        assert await find_missing(store, key_of(name), value) is None


# What is to go; who has it, with what; the refusal.
USES: list[tuple[str, str, Any, str]] = [
    ("upstreams/3", "routes/1", {"upstream_id": 3}, "can not delete this upstream, route [1]"),
    ("upstreams/3", "services/1", {"upstream_id": "3"}, "can not delete this upstream, service [1]"),
    ("upstreams/3", "stream_routes/1", {"upstream_id": 3}, "can not delete this upstream, stream_route [1]"),
    ("upstreams/3", "routes/1", SPLIT, "can not delete this upstream, plugin in route [1]"),
    ("upstreams/3", "services/1", SPLIT, "can not delete this upstream, plugin in service [1]"),
    ("upstreams/3", "plugin_configs/1", SPLIT, "can not delete this upstream, plugin in plugin_config [1]"),
    ("upstreams/3", "consumers/jack", SPLIT, "can not delete this upstream, plugin in consumer [jack]"),
    ("upstreams/3", "consumer_groups/1", SPLIT, "can not delete this upstream, plugin in consumer_group [1]"),
    ("upstreams/3", "global_rules/1", SPLIT, "can not delete this upstream, plugin in global_rules [1]"),
    ("services/3", "routes/1", {"service_id": 3}, "can not delete this service directly, route [1]"),
    ("services/3", "stream_routes/1", {"service_id": 3}, "can not delete this service directly, stream_route [1]"),
    ("plugin_configs/3", "routes/1", {"plugin_config_id": 3}, "can not delete this plugin config, route [1]"),
    ("consumer_groups/3", "consumers/jack", {"group_id": 3}, "can not delete this consumer group, consumer [jack]"),
    ("protos/3", "routes/1", TRANSCODE, "can not delete this proto,route [1]"),
    ("protos/3", "services/1", TRANSCODE, "can not delete this proto,service [1]"),
    ("ssls/3", "upstreams/1", TLS, "can not delete this ssl, upstream [1]"),
    ("ssls/3", "routes/1", {"upstream": TLS}, "can not delete this ssl, route [1]"),
    ("stream_routes/3", "stream_routes/1", REDIS, "can not delete this stream route directly, stream route [1]"),
    ("stream_routes/1", "stream_routes/1", {"protocol": {"superior_id": 1}}, ""),
    ("consumers/jack", "consumers/jack/credentials/1", {}, ""),
    ("routes/3", "routes/1", {"upstream_id": 3}, ""),
    ("upstreams/3", "routes/1", {"upstream_id": 33, "plugins": "x", "upstream": [TLS]}, ""),
    ("upstreams/3", "routes/1", {"upstream_id": ["3"], "plugins": {"traffic-split": {"rules": {"a": 1}}}}, ""),
    ("services/3", "routes/1", {"service_id": True, "upstream": {"tls": []}}, ""),
    ("upstreams/3", "unknown/1", {"upstream_id": 3}, ""),
    ("upstreams/3", "plugins", [{"name": "upstream_id"}], ""),
]


@pytest.mark.parametrize(("name", "user", "value", "reason"), USES)
@asynchronous
async def test_what_cannot_go(backend: Backend, name: str, user: str, value: Any, reason: str) -> None:
    async with backend.opened() as store:
        await store.put(user, json.dumps(value).encode())
        await store.put("routes/broken", b"{")
        found = await find_user(store, key_of(name))
        ending = " is still using it as superior_id" if name.startswith("stream_routes") else " is still using it now"
        assert found == (f"{reason}{ending}" if reason else None)
        if reason:
            assert can_be_referred_to(key_of(name).kind)
            await store.delete(user)
            assert await find_user(store, key_of(name)) is None


@asynchronous
async def test_an_id_in_escapes_is_the_same_id(backend: Backend) -> None:
    async with backend.opened() as store:
        await store.put("routes/1", rb'{"uri": "/a", "upstream_id": "\u0061b"}')
        found = await find_user(store, key_of("upstreams/ab"))
        assert found == "can not delete this upstream, route [1] is still using it now"
        assert await find_user(store, key_of("upstreams/b")) is None
