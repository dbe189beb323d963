"""Which configurations are accepted, and with which defaults."""

import json
from pathlib import Path

import fastjsonschema
import pytest

SCHEMAS = Path(__file__).resolve().parents[2] / "gw/schema/plugins"
check = fastjsonschema.compile(json.loads((SCHEMAS / "limit-count.json").read_text()))
check_metadata = fastjsonschema.compile(json.loads((SCHEMAS / "limit-count.metadata.json").read_text()))

LIMIT = {"count": 2, "time_window": 60}
RULE = {**LIMIT, "key": "$remote_addr"}
DEFAULTS = {
    "key": "remote_addr",
    "key_type": "var",
    "rejected_code": 503,
    "policy": "local",
    "allow_degradation": False,
    "show_limit_quota_header": True,
    "window_type": "fixed",
    "sync_interval": -1,
}
REDIS = {
    "redis_port": 6379,
    "redis_database": 0,
    "redis_timeout": 1000,
    "redis_ssl": False,
    "redis_ssl_verify": False,
    "redis_keepalive_timeout": 10000,
    "redis_keepalive_pool": 100,
}
ONE = {"policy": "redis", "redis_host": "127.0.0.1"}
CLUSTER = {"policy": "redis-cluster", "redis_cluster_nodes": ["127.0.0.1:6379"], "redis_cluster_name": "c"}
SENTINEL = {
    "policy": "redis-sentinel",
    "redis_sentinels": [{"host": "127.0.0.1", "port": 26379}],
    "redis_master_name": "m",
}

GOOD = [
    LIMIT,
    {"count": "$http_count", "time_window": "${http_window ?? 60}"},
    {"rules": [RULE, {**RULE, "key": "$http_user", "header_prefix": "User"}]},
    {**LIMIT, "window_type": "sliding", "group": "g", "rejected_msg": "no", "rejected_code": 200},
    {**LIMIT, **ONE},
    {**LIMIT, **ONE, "redis_username": "u", "redis_password": "", "sync_interval": 0.1},
    {**LIMIT, **ONE, "sync_interval": -1},
    {**LIMIT, **CLUSTER},
    {**LIMIT, **SENTINEL, "sentinel_username": "s", "sentinel_password": "p", "redis_role": "slave"},
    {**LIMIT, "policy": "local", "redis_host": "is not looked at"},
]
BAD = [
    {},
    {"count": 2},
    {"time_window": 60},
    {**LIMIT, "count": 0},
    {**LIMIT, "time_window": -1},
    {**LIMIT, "count": 1.5},
    {**LIMIT, "count": ""},
    {**LIMIT, "rules": [RULE]},
    {"count": 2, "rules": [RULE]},
    {"rules": []},
    {"rules": [LIMIT]},
    {"rules": [RULE], "group": "g"},
    {"rules": [{**RULE, "header_prefix": "a b"}]},
    {**LIMIT, "key_type": "other"},
    {**LIMIT, "rejected_code": 199},
    {**LIMIT, "rejected_code": 600},
    {**LIMIT, "rejected_msg": ""},
    {**LIMIT, "policy": "redis"},
    {**LIMIT, "policy": "redis-cluster", "redis_cluster_nodes": ["127.0.0.1:1"]},
    {**LIMIT, **CLUSTER, "redis_cluster_nodes": []},
    {**LIMIT, **SENTINEL, "redis_sentinels": [{"host": "127.0.0.1"}]},
    {**LIMIT, **SENTINEL, "redis_role": "other"},
    {**LIMIT, "policy": "etcd"},
    {**LIMIT, **ONE, "redis_port": 0},
    {**LIMIT, **ONE, "redis_timeout": 0},
    {**LIMIT, **ONE, "redis_keepalive_timeout": 999},
    {**LIMIT, **ONE, "sync_interval": "1"},
    {**LIMIT, "window_type": "other"},
]


@pytest.mark.parametrize("conf", GOOD)
def test_accepted(conf):
    check(dict(conf))


@pytest.mark.parametrize("conf", BAD)
def test_refused(conf):
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check(dict(conf))


@pytest.mark.parametrize(("conf", "defaults"), [({}, {}), (ONE, REDIS)])
def test_defaults_are_apisix_s(conf, defaults):
    assert check({**LIMIT, **conf}) == {**LIMIT, **DEFAULTS, **defaults, **conf}


def test_metadata_names_headers():
    assert check_metadata({}) == {
        "limit_header": "X-RateLimit-Limit",
        "remaining_header": "X-RateLimit-Remaining",
        "reset_header": "X-RateLimit-Reset",
    }
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check_metadata({"limit_header": 1})
