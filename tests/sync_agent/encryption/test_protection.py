"""What becomes of the secrets in a resource: stored, published, shown, edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gw.errors import InvalidResource
from gw.model.keys import ResourceKey
from gw.schema.plugin_schemas import PluginSchema, PluginSchemas
from sync_agent.admin.patch import merge, place
from sync_agent.encryption import PLAIN, Keyring, Protection

OLD, NEW = "0123456789abcdef", "fedcba98765432100123456789abcdef"
OURS, OTHERS = Keyring([NEW, OLD]), Keyring(["someone else key"])
TLS = Path(__file__).parents[2] / "data" / "tls"
PEM = "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----\n"
# A plain key of the form that `openssl rand -hex 32` gives: whole blocks, if it were base64.
HEX = "0f" * 32


def schema(*paths: str) -> PluginSchema:
    return PluginSchema({"type": "object", "encrypt_fields": list(paths)}, "a test")


PLUGINS = PluginSchemas(
    {
        "flat": schema("password"),
        "deep": schema("a.b.c", "list.token", "list.auth.key", "tokens", "headers"),
        "auth": schema(),
    },
    {"flat": schema("master")},
    consumer_schemas={"auth": schema("key")},
)
PROTECTION = Protection(OURS, PLUGINS)
ROUTE, CONSUMER = ResourceKey("routes", "1"), ResourceKey("consumers", "jack")
SSL, UPSTREAM = ResourceKey("ssls", "1"), ResourceKey("upstreams", "1")


def plugins(**confs: Any) -> dict[str, Any]:
    return {"plugins": confs}


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Every text that begins with `s:` changed: those that are secrets in these tests."""
    if isinstance(value, str):
        return change(value) if value.startswith("s:") else value
    if isinstance(value, list):
        return [mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {name: mapped(item, change) for name, item in value.items()}
    return value


# Of t/node/data_encrypt3.t: any depth, arrays on the way, texts, arrays of texts, objects of texts.
SECRETS = {
    "a field": (ROUTE, plugins(flat={"password": "s:1", "user": "u"})),
    "empty": (ROUTE, plugins(flat={"password": "s:"})),
    "below objects": (ROUTE, plugins(deep={"a": {"b": {"c": "s:1", "d": "plain"}}})),
    "in an array of objects": (ROUTE, plugins(deep={"list": [{"token": "s:1"}, {"auth": {"key": "s:2"}}, {"x": "y"}]})),
    "an array of texts": (ROUTE, plugins(deep={"tokens": ["s:1", "s:2", 3]})),
    "an object of texts": (ROUTE, plugins(deep={"headers": {"Authorization": "s:1", "X": ["plain"]}})),
    "absent, and of another type": (ROUTE, plugins(deep={"a": {"b": 7}, "list": "x", "tokens": 5}, flat={})),
    "several plugins": (ROUTE, plugins(flat={"password": "s:1"}, unknown={"password": "p"}, deep={"tokens": ["s:2"]})),
    "of a consumer": (CONSUMER, plugins(auth={"key": "s:1"})),
    "of a credential": (ResourceKey("credentials", "jack/1"), plugins(auth={"key": "s:1"})),
    "what is a consumer's in a route": (ROUTE, plugins(auth={"key": "no secret here"})),
    "a plugin of routes in a consumer": (CONSUMER, plugins(flat={"password": "s:1"})),
    "of metadata": (ResourceKey("plugin_metadata", "flat"), {"master": "s:1", "password": "plain"}),
    "no plugins": (ROUTE, {"uri": "/"}),
    "not even the shape": (ROUTE, {"plugins": [1], "upstream": "x"}),
    "a conf that is none": (ROUTE, {"plugins": {"flat": "password", "deep": None}}),
}


@pytest.mark.parametrize("case", SECRETS)
def test_fields_are_stored_encrypted_published_and_shown_in_clear(case: str) -> None:
    key, resource = SECRETS[case]
    stored = PROTECTION.sealed(key, resource)
    assert stored == mapped(resource, OURS.encrypt)
    assert PROTECTION.opened(key, stored) == resource
    assert PROTECTION.shown(key, stored) == resource
    assert PROTECTION.opened(key, mapped(resource, Keyring([OLD]).encrypt)) == resource
    # What was written before encryption was switched on.
    assert PROTECTION.opened(key, resource) == resource


def test_what_has_no_secrets_is_handed_through_as_it_is() -> None:
    for key, resource in ((ROUTE, plugins(flat={"user": "u"}, auth={"key": "k"})), (UPSTREAM, {"nodes": {}})):
        for treat in (PROTECTION.sealed, PROTECTION.opened, PROTECTION.shown):
            assert treat(key, resource) is resource


def test_nothing_is_changed_in_place() -> None:
    resource = plugins(deep={"list": [{"token": "s:1"}], "headers": {"a": "s:2"}, "tokens": ["s:3"]})
    before = repr(resource)
    PROTECTION.opened(ROUTE, PROTECTION.sealed(ROUTE, resource))
    assert repr(resource) == before


def test_a_plain_value_may_look_encrypted_as_long_as_it_goes_through_us() -> None:
    stored = PROTECTION.sealed(ROUTE, plugins(flat={"password": HEX}))
    assert stored["plugins"]["flat"]["password"] != HEX
    assert PROTECTION.opened(ROUTE, stored) == plugins(flat={"password": HEX})


@pytest.mark.parametrize(
    ("key", "resource", "path"),
    [
        (ROUTE, plugins(flat={"password": OTHERS.encrypt("s")}), "plugins.flat.password"),
        (ROUTE, plugins(deep={"list": [{}, {"token": OTHERS.encrypt("s")}]}), "plugins.deep.list[1].token"),
        (ROUTE, plugins(flat={"password": HEX}), "plugins.flat.password"),
        (CONSUMER, plugins(auth={"key": OTHERS.encrypt("s")}), "plugins.auth.key"),
        (SSL, {"key": OTHERS.encrypt(PEM)}, "key"),
        (SSL, {"key": PEM, "keys": [PEM, OTHERS.encrypt(PEM)]}, "keys[1]"),
        (UPSTREAM, {"tls": {"client_key": OTHERS.encrypt(PEM)}}, "tls.client_key"),
        (ROUTE, {"upstream": {"tls": {"client_key": OTHERS.encrypt(PEM)}}}, "upstream.tls.client_key"),
    ],
)
def test_what_no_key_opens_is_refused_by_its_place_and_never_shown(
    key: ResourceKey, resource: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidResource) as caught:
        PROTECTION.opened(key, resource)
    assert caught.value.path == path
    assert "no key of apisix.data_encryption.keyring opens it" in caught.value.reason
    assert HEX not in str(caught.value)
    assert OTHERS.encrypt("s") not in str(caught.value)
    if key.kind != "ssls":
        # Those who administer it see what is there, so that they can mend it.
        assert PROTECTION.shown(key, resource) == resource


def test_switched_off_nothing_is_encrypted_or_refused_and_what_is_encrypted_can_be_read() -> None:
    off = Protection(OURS, PLUGINS, encrypts_fields=False)
    resource = plugins(flat={"password": HEX})
    assert off.sealed(ROUTE, resource) is resource
    assert off.opened(ROUTE, resource) is resource
    assert off.opened(ROUTE, PROTECTION.sealed(ROUTE, resource)) == resource


def test_without_a_key_nothing_is_encrypted_and_what_looks_so_is_refused() -> None:
    bare = Protection(Keyring([]), PLUGINS)
    resource = plugins(flat={"password": "s:1"})
    assert bare.sealed(ROUTE, resource) is resource
    assert bare.opened(ROUTE, resource) is resource
    with pytest.raises(InvalidResource, match="enable_encrypt_fields: false"):
        bare.opened(ROUTE, plugins(flat={"password": HEX}))


# --- private keys


@pytest.mark.parametrize("encrypts_fields", [True, False])
def test_keys_of_ssls_are_stored_encrypted_and_never_shown(encrypts_fields: bool) -> None:
    protection = Protection(OURS, PLUGINS, encrypts_fields=encrypts_fields)
    ssl = {"cert": "c", "key": PEM, "keys": [PEM, "$secret://vault/1/key"], "snis": ["a"]}
    stored = protection.sealed(SSL, ssl)
    assert stored["key"] == OURS.encrypt(PEM)
    assert stored["keys"] == [OURS.encrypt(PEM), "$secret://vault/1/key"]
    assert protection.opened(SSL, stored) == ssl
    assert protection.sealed(SSL, stored) is stored
    for value in (ssl, stored):
        assert protection.shown(SSL, value) == {"cert": "c", "snis": ["a"]}
    assert PLAIN.shown(SSL, ssl) == {"cert": "c", "snis": ["a"]}


def test_text_before_the_key_itself_does_not_let_it_lie_in_clear() -> None:
    key = "Bag Attributes\n    friendlyName: x\n" + PEM
    stored = PROTECTION.sealed(SSL, {"key": key})
    assert stored == {"key": OURS.encrypt(key)}
    assert PROTECTION.opened(SSL, stored) == {"key": key}


def test_keys_that_older_apisix_encrypted_with_its_salt_can_be_read() -> None:
    protection = Protection(OURS, PLUGINS, ssl_keyring=Keyring([NEW], also_read=["edd1c9f0985e76a2"]))
    assert protection.opened(SSL, {"key": Keyring(["edd1c9f0985e76a2"]).encrypt(PEM)}) == {"key": PEM}
    with pytest.raises(InvalidResource):
        protection.opened(ROUTE, plugins(flat={"password": Keyring(["edd1c9f0985e76a2"]).encrypt("s")}))


@pytest.mark.parametrize(
    ("key", "wrap"),
    [(UPSTREAM, lambda tls: {"tls": tls}), (ROUTE, lambda tls: {"upstream": {"tls": tls}})],
)
def test_the_key_for_an_upstream_is_shown_encrypted_and_may_be_sent_back(
    key: ResourceKey, wrap: Callable[[Any], dict[str, Any]]
) -> None:
    clear = wrap({"client_key": PEM, "client_cert": "c"})
    sealed = wrap({"client_key": OURS.encrypt(PEM), "client_cert": "c"})
    assert PROTECTION.sealed(key, clear) == sealed
    assert PROTECTION.opened(key, sealed) == clear
    assert PROTECTION.shown(key, sealed) == PROTECTION.shown(key, clear) == sealed
    assert PROTECTION.sealed(key, sealed) is sealed


# --- editing


def edited(stored: dict[str, Any], change: Callable[[Any], Any], key: ResourceKey = ROUTE) -> dict[str, Any]:
    return PROTECTION.sealed(key, change(PROTECTION.opened_for_editing(key, stored)))


def test_an_edit_never_encrypts_twice() -> None:
    """apisix/apisix 13351: each PATCH put another layer round what it did not touch."""
    resource = plugins(flat={"password": "s:1"}, deep={"tokens": ["s:2"]})
    stored = PROTECTION.sealed(ROUTE, resource)
    for _ in range(3):
        stored = edited(stored, lambda before: merge(before, {"desc": "x"}))
    assert PROTECTION.opened(ROUTE, stored) == {**resource, "desc": "x"}


def test_an_edit_encrypts_anew_with_the_first_key() -> None:
    stored = edited(mapped(plugins(flat={"password": "s:1"}), Keyring([OLD]).encrypt), lambda before: merge(before, {}))
    assert stored == plugins(flat={"password": Keyring([NEW]).encrypt("s:1")})
    ssl = edited({"key": Keyring([OLD]).encrypt(PEM)}, lambda before: before, SSL)
    assert ssl == {"key": Keyring([NEW]).encrypt(PEM)}


def test_what_cannot_be_opened_can_be_replaced_but_not_written_back() -> None:
    stored = {"desc": "a", **plugins(flat={"password": OTHERS.encrypt("s"), "user": "u"})}
    for change in ({"desc": "b"}, {"plugins": {"flat": {"user": "v"}}}):
        with pytest.raises(InvalidResource) as caught:
            edited(stored, lambda before, change=change: merge(before, change))
        assert caught.value.path == "plugins.flat.password"
    new = edited(stored, lambda before: place(before, ("plugins", "flat", "password"), "s:2"))
    assert PROTECTION.opened(ROUTE, new)["plugins"]["flat"] == {"password": "s:2", "user": "u"}
    gone = edited(stored, lambda before: merge(before, {"plugins": {"flat": None}}))
    assert gone == {"desc": "a", "plugins": {}}
