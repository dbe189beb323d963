"""What a plugin gets where its configuration refers to values."""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import pytest

from gw.expr import ExpressionError
from gw.model.secret_references import UnresolvedReference
from gw.plugins.api import Environment
from gw.plugins.registry import load_registry
from gw.plugins.resolving import UnfitReference, resolved_conf
from gw.schema import load_plugin_schemas
from gw.settings.tree import OWN_PLUGINS
from tests.support.asynchronous import asynchronous

OURS = load_plugin_schemas(OWN_PLUGINS)
ENVIRON = {
    "WORD": "planted",
    "NUMBER": "7",
    "NAN": "NaN",
    "NEGATIVE": "-7",
    "TRUE": "true",
    "LIST": "[1]",
    "URI": "http://127.0.0.1:1",
    "JSON": '{"port": 9, "path": "/x"}',
}
# A port and a password of digits: one is a number, the other a text.
REDIS = {"count": 1, "time_window": 60, "policy": "redis", "redis_host": "ab", "redis_password": "$env://NUMBER"}


def found(plugin: str, conf: dict[str, Any]) -> Any:
    return resolved_conf(conf, OURS.schema_for("routes", plugin), ENVIRON)


@pytest.mark.parametrize(
    ("plugin", "conf", "field", "value"),
    [
        ("proxy-rewrite", {"uri": "$env://JSON/path"}, "uri", "/x"),
        ("forward-auth", {"uri": "$env://URI", "timeout": "$env://NUMBER"}, "timeout", 7),
        ("forward-auth", {"uri": "$env://URI", "timeout": "$env://JSON/port"}, "timeout", 9),
        ("forward-auth", {"uri": "$env://URI", "ssl_verify": "$env://TRUE"}, "ssl_verify", True),
        ("forward-auth", {"uri": "$env://URI", "request_headers": ["$env://NUMBER"]}, "request_headers", ["7"]),
        ("forward-auth", {"uri": "$env://URI", "timeout": "$env://NUMBER", "request_headers": ["$env://NUMBER"]},
            "request_headers", ["7"]),
        ("limit-count", REDIS | {"redis_port": "$env://NUMBER"}, "redis_password", "7"),
        ("limit-count", REDIS | {"redis_port": "$env://NUMBER"}, "redis_port", 7),
        # Its count may be a text of its own kind, so it stays one.
        ("limit-count", {"count": "$env://NUMBER", "time_window": 60}, "count", "7"),
    ],
)
def test_a_value_is_read_as_the_schema_asks_for_it(plugin: str, conf: dict[str, Any], field: str, value: Any):
    result = found(plugin, conf)[field]
    assert (result, type(result)) == (value, type(value))
    assert str(conf[field]).count("$env://") == 1, "the configuration itself keeps its reference"


def test_without_a_reference_nothing_is_copied_or_asked():
    conf: dict[str, Any] = {"uri": 7}
    assert found("forward-auth", conf) is conf
    assert resolved_conf({"a": "$env://WORD"}, None, ENVIRON) == {"a": "planted"}


@pytest.mark.parametrize(
    ("plugin", "conf", "place"),
    [
        ("forward-auth", {"uri": "$env://WORD"}, "uri"),
        ("forward-auth", {"uri": "$env://URI", "timeout": "$env://WORD"}, "timeout"),
        ("forward-auth", {"uri": "$env://URI", "timeout": "$env://NEGATIVE"}, "timeout"),
        ("forward-auth", {"uri": "$env://URI", "request_headers": "$env://LIST"}, "request_headers"),
        ("limit-count", REDIS | {"sync_interval": "$env://NAN"}, "sync_interval"),
    ],
)
def test_a_value_that_the_schema_refuses_makes_no_instance_and_is_not_shown(
    plugin: str, conf: dict[str, Any], place: str
):
    with pytest.raises(UnfitReference, match=f"does not fit its schema at {place} with") as refusal:
        found(plugin, conf)
    assert "planted" not in str(refusal.value)


def test_a_reference_to_nothing_is_named():
    with pytest.raises(UnresolvedReference, match=r"^uri: \$env://NO_SUCH: "):
        found("proxy-rewrite", {"uri": "$env://NO_SUCH"})


@asynchronous
async def test_what_a_plugin_says_of_a_value_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATTERN", "(planted")
    make = load_registry(["proxy-rewrite"]).maker(Environment(asyncio.get_running_loop()))
    with pytest.raises(ExpressionError, match="planted"):
        make("proxy-rewrite", {"regex_uri": ["(planted", "/"], "use_real_request_uri_unsafe": False}, "routes/1")
    with pytest.raises(UnfitReference, match="ExpressionError") as refusal:
        make("proxy-rewrite", {"regex_uri": ["$env://PATTERN", "/"]}, "routes/1")
    assert "planted" not in "".join(traceback.format_exception(refusal.value))
