"""The plugins of a route from all that it is made of: one configuration of each, from the layer that counts most."""

from typing import Any

import pytest

from gw.model.consumer import Consumer, ConsumerGroup
from gw.model.keys import ResourceKey
from gw.model.merge import (
    Layer,
    Missing,
    PluginConf,
    consumer_layers,
    merge_plugins,
    missing_group,
    missing_parent,
    plugin_layers,
)
from gw.model.plugin_config import PluginConfig
from gw.model.plugin_metadata import PluginMetadata
from gw.model.route import Route
from gw.model.service import Service
from gw.schema import validate

OFF = {"_meta": {"disable": True}}
ON = {"_meta": {"disable": False}}

ROUTE, CONFIG, SERVICE = ResourceKey("routes", "r"), ResourceKey("plugin_configs", "c"), ResourceKey("services", "s")


def a_route(**fields: Any) -> Route:
    return Route.from_dict("r", validate("routes", "r", {"uri": "/a", "plugins": {}} | fields))


def a_config(plugins: dict[str, Any]) -> PluginConfig:
    return PluginConfig.from_dict("c", validate("plugin_configs", "c", {"plugins": plugins}))


def a_service(plugins: dict[str, Any]) -> Service:
    return Service.from_dict("s", validate("services", "s", {"plugins": plugins}))


MERGES = [
    # plugins of route, plugin config and service (None: there is none); what runs: name, configuration, owner
    ({}, None, None, []),
    ({"a": {"n": 1}}, None, None, [("a", {"n": 1}, ROUTE)]),
    ({}, {"a": {"n": 2}}, None, [("a", {"n": 2}, CONFIG)]),
    ({}, None, {"a": {"n": 3}}, [("a", {"n": 3}, SERVICE)]),
    ({"a": {"n": 1}}, {"a": {"n": 2}}, {"a": {"n": 3}}, [("a", {"n": 1}, ROUTE)]),
    ({}, {"a": {"n": 2}}, {"a": {"n": 3}}, [("a", {"n": 2}, CONFIG)]),
    ({"a": {}}, {"a": {"n": 2, "m": 2}}, None, [("a", {}, ROUTE)]),  # as a whole: nothing is mixed in
    (
        {"c": {"n": 1}},
        {"b": {"n": 2}, "c": {"n": 2}},
        {"a": {"n": 3}, "b": {"n": 3}, "c": {"n": 3}},
        [("a", {"n": 3}, SERVICE), ("b", {"n": 2}, CONFIG), ("c", {"n": 1}, ROUTE)],
    ),
    ({"a": OFF}, None, None, []),
    ({"a": OFF}, {"a": {"n": 2}}, {"a": {"n": 3}}, []),  # switched off is what the route says of it
    ({}, {"a": OFF}, {"a": {"n": 3}}, []),
    ({"a": {"n": 1}}, {"a": OFF}, None, [("a", {"n": 1}, ROUTE)]),
    ({"a": ON}, None, None, [("a", {}, ROUTE)]),
    ({"a": OFF, "b": {}}, {"a": {}}, {"c": OFF}, [("b", {}, ROUTE)]),
]


@pytest.mark.parametrize(("route", "config", "service", "expected"), MERGES)
def test_the_layer_that_counts_most_wins_plugin_by_plugin(
    route: dict[str, Any], config: dict[str, Any] | None, service: dict[str, Any] | None, expected: list[Any]
):
    layers = plugin_layers(
        a_route(plugins=route),
        None if config is None else a_config(config),
        None if service is None else a_service(service),
    )
    assert [(conf.name, conf.conf, conf.owner) for conf in merge_plugins(layers)] == expected


def test_any_number_of_layers_is_merged_and_meta_stands_apart():
    consumer = Layer(ResourceKey("consumers", "jack"), {"a": {"n": 0, "_meta": {"priority": 7}}})
    route = Layer(ROUTE, {"a": {"n": 1}, "b": {"n": 1}})
    assert merge_plugins([consumer, route]) == (
        PluginConf("a", {"n": 0}, {"priority": 7}, consumer.owner),
        PluginConf("b", {"n": 1}, {}, ROUTE),
    )
    assert merge_plugins([]) == ()


NO_CONFIG = Missing(503, "failed to fetch plugin config by id: c")
NO_SERVICE = Missing(404, "failed to fetch service configuration by id: s")


@pytest.mark.parametrize(
    ("names", "has_config", "has_service", "expected"),
    [
        ({}, False, False, None),
        ({"plugin_config_id": "c", "service_id": "s"}, True, True, None),
        ({"plugin_config_id": "c"}, False, False, NO_CONFIG),
        ({"service_id": "s"}, False, False, NO_SERVICE),
        ({"plugin_config_id": "c", "service_id": "s"}, False, False, NO_CONFIG),
        ({"plugin_config_id": "c", "service_id": "s"}, True, False, NO_SERVICE),
    ],
)
def test_what_is_answered_before_any_plugin(
    names: dict[str, str], has_config: bool, has_service: bool, expected: Missing | None
):
    config, service = a_config({}) if has_config else None, a_service({}) if has_service else None
    assert missing_parent(a_route(**names), config, service) == expected


def test_metadata_is_what_is_meant_for_the_plugin():
    metadata = {"id": "a", "create_time": 1, "update_time": 2, "log_format": {"host": "$host"}}
    assert PluginMetadata.from_dict("a", validate("plugin_metadata", "a", metadata)).values == {
        "log_format": {"host": "$host"}
    }


def a_consumer(plugins: dict[str, Any], group_id: object = None) -> Consumer:
    written = {"username": "jack", "plugins": plugins} | ({} if group_id is None else {"group_id": group_id})
    return Consumer.from_dict("jack", validate("consumers", "jack", written))


def a_group(plugins: dict[str, Any]) -> ConsumerGroup:
    return ConsumerGroup.from_dict("g", validate("consumer_groups", "g", {"plugins": plugins}))


CONSUMER, GROUP = ResourceKey("consumers", "jack"), ResourceKey("consumer_groups", "g")
OF_CONSUMERS = [
    # plugins of consumer, group, route, plugin config and service; what runs
    ({"a": {"n": 1}}, {"a": {"n": 2}}, {"a": {"n": 3}}, {}, {}, [("a", {"n": 1}, CONSUMER)]),
    ({}, {"a": {"n": 2}}, {"a": {"n": 3}}, {"a": {"n": 4}}, {}, [("a", {"n": 2}, GROUP)]),
    ({}, None, {"a": {"n": 3}}, {"a": {"n": 4}}, {}, [("a", {"n": 3}, ROUTE)]),
    ({}, {}, {}, {"a": {"n": 4}}, {"a": {"n": 5}}, [("a", {"n": 4}, CONFIG)]),
    (
        {"a": {"n": 1}},
        {"b": {"n": 2}},
        {"c": {"n": 3}},
        {"d": {"n": 4}},
        {"e": {"n": 5}},
        [
            ("a", {"n": 1}, CONSUMER),
            ("b", {"n": 2}, GROUP),
            ("c", {"n": 3}, ROUTE),
            ("d", {"n": 4}, CONFIG),
            ("e", {"n": 5}, SERVICE),
        ],
    ),
    ({"a": OFF}, {"a": {"n": 2}}, {"a": {"n": 3}}, {}, {}, []),
    ({"key-auth": {"key": "k"}}, {}, {"key-auth": {"n": 3}}, {}, {}, [("key-auth", {"n": 3}, ROUTE)]),
    ({"key-auth": {"key": "k"}}, None, {}, {}, {}, []),
    ({}, {"key-auth": {"n": 2}, "b": {"n": 2}}, {"key-auth": {"n": 3}}, {}, {}, [
        ("b", {"n": 2}, GROUP),
        ("key-auth", {"n": 3}, ROUTE),
    ]),
]


@pytest.mark.parametrize(("consumer", "group", "route", "config", "service", "expected"), OF_CONSUMERS)
def test_a_consumers_plugins_count_more_than_the_routes(
    consumer: dict[str, Any],
    group: dict[str, Any] | None,
    route: dict[str, Any],
    config: dict[str, Any],
    service: dict[str, Any],
    expected: list[Any],
):
    layers = (
        *consumer_layers(a_consumer(consumer), None if group is None else a_group(group), {"key-auth"}),
        *plugin_layers(a_route(plugins=route), a_config(config), a_service(service)),
    )
    assert [(conf.name, conf.conf, conf.owner) for conf in merge_plugins(layers)] == expected


def test_a_group_that_is_not_there_is_503():
    consumer = a_consumer({}, group_id=7)
    assert consumer.group_id == "7"
    assert missing_group(consumer.group_id) == Missing(503, "failed to fetch consumer group config by id: 7")
