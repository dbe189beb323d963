"""What paths of the Admin API name."""

from __future__ import annotations

import pytest

from gw.admin.app import _wrong_method
from gw.admin.place import Place, locate
from gw.admin.reply import AdminError

PLACES = [
    # path below /apisix/admin, place
    ("routes", Place("routes")),
    ("routes/1", Place("routes", "1")),
    ("routes/1/upstream/nodes", Place("routes", "1", sub_path=("upstream", "nodes"))),
    ("ssl", Place("ssls")),
    ("ssl/1", Place("ssls", "1")),
    ("ssls/1/sni", Place("ssls", "1", sub_path=("sni",))),
    ("proto/1", Place("protos", "1")),
    ("protos", Place("protos")),
    ("consumers/jack", Place("consumers", "jack")),
    ("consumers/jack/plugins", Place("consumers", "jack", sub_path=("plugins",))),
    ("consumers/credentials", Place("consumers", "credentials")),
    ("consumers/jack/credentials", Place("credentials", parent="jack")),
    ("consumers/jack/credentials/c", Place("credentials", "jack/c", "jack")),
    ("consumers/jack/credentials/c/plugins", Place("credentials", "jack/c", "jack", ("plugins",))),
    ("secrets", Place("secrets")),
    ("secrets/vault", Place("secrets")),
    ("secrets/vault/1", Place("secrets", "vault/1")),
    ("secrets/vault/1/token", Place("secrets", "vault/1", sub_path=("token",))),
    ("plugin_metadata/http-logger", Place("plugin_metadata", "http-logger")),
]


@pytest.mark.parametrize(("path", "place"), PLACES)
def test_places(path: str, place: Place) -> None:
    assert locate(*path.split("/", 2)) == place


# The list of plugins has paths of its own; credentials are had below their consumer alone.
@pytest.mark.parametrize("kind", ["plugins", "credentials", "nonsense", "Routes", "", "gen_id", "ssl ", "protos/"])
def test_kinds_that_there_are_not(kind: str) -> None:
    with pytest.raises(AdminError) as caught:
        locate(kind)
    assert (caught.value.status, caught.value.body) == (404, {"error_msg": f"Unsupported resource type: {kind}"})


METHODS = [
    ("routes", "GET, PUT, POST, PATCH, DELETE, OPTIONS"),
    ("routes/1", "GET, PUT, POST, PATCH, DELETE, OPTIONS"),
    ("routes/1/uri", "PATCH, OPTIONS"),
    ("consumers/jack", "GET, PUT, DELETE, OPTIONS"),
    ("consumers/jack/plugins", "OPTIONS"),
    ("consumers/jack/credentials/c", "GET, PUT, DELETE, OPTIONS"),
    ("secrets/vault/1", "GET, PUT, PATCH, DELETE, OPTIONS"),
    ("stream_routes", "GET, PUT, POST, DELETE, OPTIONS"),
]


@pytest.mark.parametrize(("path", "allowed"), METHODS)
def test_what_can_be_done_there(path: str, allowed: str) -> None:
    place = locate(*path.split("/", 2))
    for method in allowed.split(", "):
        place.refuse_unsupported(method)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"} - set(allowed.split(", ")):
        with pytest.raises(AdminError) as caught:
            place.refuse_unsupported(method)
        assert (caught.value.status, caught.value.headers) == (405, {"Allow": allowed})
        assert caught.value.body == {"error_msg": f"not supported `{method}` method for {place.noun}"}


PARAMS = [
    # segments of a path as falcon names them, what a method that its handler has not is answered with
    ({"kind": "routes", "id": "1"}, "HEAD", "route", "GET, PUT, POST, PATCH, DELETE, OPTIONS"),
    ({"kind": "consumers"}, "POST", "consumer", "GET, PUT, DELETE, OPTIONS"),
    ({"kind": "routes"}, "GET", "route", "POST"),  # of a handler that takes a kind, too, and has no GET
    ({"name": "key-auth"}, "PUT", "resource", "POST"),
    ({}, "PUT", "resource", "POST"),
]


@pytest.mark.parametrize(("params", "method", "noun", "allowed"), PARAMS)
def test_a_method_that_a_handler_has_not(params: dict[str, str], method: str, noun: str, allowed: str) -> None:
    refusal = _wrong_method(method, params, {"Allow": "POST"})
    assert (refusal.status, refusal.headers) == (405, {"Allow": allowed})
    assert refusal.body == {"error_msg": f"not supported `{method}` method for {noun}"}
