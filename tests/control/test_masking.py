"""Nothing secret is shown by who asks for no key."""

from __future__ import annotations

import copy
import json

import pytest

from gw.control.masking import Masking
from gw.schema import load_plugin_schemas
from gw.settings.tree import OWN_PLUGINS

SECRET = "planted-5f2c9a"
MASKING = Masking(load_plugin_schemas(OWN_PLUGINS))


@pytest.mark.parametrize(
    ("kind", "resource"),
    [
        # What a plugin's schema declares.
        ("routes", {"plugins": {"limit-count": {"redis_password": SECRET}}}),
        ("services", {"plugins": {"http-logger": {"auth_header": SECRET}}}),
        # What its name says, in plugins that declare nothing, or are not there at all.
        ("routes", {"plugins": {"mine": {"token": SECRET, "deep": [{"client_secret": SECRET}]}}}),
        ("routes", {"plugins": {"mine": {"headers": {"set": {"Authorization": SECRET, "X-API-Key": SECRET}}}}}),
        ("routes", {"plugins": {"mine": {"headers": {"add": [f"Set-Cookie: a={SECRET}", f"authorization:{SECRET}"]}}}}),
        ("routes", {"plugins": {"mine": {"credentials": {"user": SECRET, "all": [SECRET, [SECRET]]}}}}),
        ("routes", {"plugins": {"mine": {"uri": f"http://user:{SECRET}@127.0.0.1/"}}}),
        ("routes", {"plugins": {"mine": {"access_key": 271828}}}),
        ("plugin_metadata", {"redis_password": SECRET, "auth_header": SECRET}),
        # Of the data model.
        ("upstreams", {"tls": {"client_cert": "shown", "client_key": SECRET}}),
        ("routes", {"upstream": {"tls": {"client_key": SECRET}}}),
    ],
)
def test_secrets_are_hidden(kind: str, resource: dict[str, object]) -> None:
    before = copy.deepcopy(resource)
    shown = json.dumps(MASKING.masked(kind, "mine", resource))
    assert SECRET not in shown
    assert "271828" not in shown
    assert "***" in shown
    assert resource == before, "what is served must not change"


@pytest.mark.parametrize(
    "resource",
    [
        {"uri": "/a", "plugins": {"limit-count": {"count": 2, "key": "remote_addr", "key_type": "var"}}},
        {"plugins": {"mine": {"token": "$secret://vault/1/a/b", "password": "$ENV://PASSWORD"}}},
        {"plugins": {"mine": {"token": True, "secret": None}}},
        {"plugins": {"proxy-rewrite": {"uri": "/a/$1", "headers": {"set": {"X-A": "b"}, "add": ["X-B: c"]}}}},
        {"upstream": {"hash_on": "cookie", "key": "cookie_a", "nodes": {"127.0.0.1:80": 1}}},
        {"vars": [["cookie_session", "==", "abc"], "OR", ["arg_a", "in", ["b"]]]},
        {"desc": "see http://example.com/a@b"},
    ],
)
def test_the_rest_is_shown(resource: dict[str, object]) -> None:
    assert MASKING.masked("routes", "1", resource) == resource
