"""The OpenAPI document is one, and describes what the Admin API has: all of it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.inspect
import pytest
from openapi_spec_validator import validate

from gw.admin.agent_client import AgentClient
from gw.admin.app import admin_app
from gw.admin.gate import PREFIX
from gw.admin.openapi import openapi_document
from gw.admin.openapi.dialect import translated
from gw.admin.place import locate
from gw.model.keys import KINDS
from gw.plugins.catalogue import Catalogue
from gw.plugins.registry import load_registry
from gw.settings.tree import OWN_PLUGINS
from tests.support.admin import VIEWER_KEY, admin_settings, served_at_once, world

CATALOGUE = Catalogue(load_registry(OWN_PLUGINS))
DOCUMENT = openapi_document(CATALOGUE)
METHODS = ("get", "put", "post", "patch", "delete")
# What a path of the document is filled with, so that it names something.
VALUES = {"name": "limit-count", "kind": "routes", "path": "plugins", "id": "1", "username": "a", "credential_id": "1"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, template, operation)"""
    for template, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, template, item[method]


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))


def test_each_kind_is_there() -> None:
    tags = {tag for _, _, operation in operations() for tag in operation["tags"]}
    assert tags == set(KINDS) - {"plugins"} | {"configs", "schemas"}


def test_what_is_documented_is_there_and_what_is_there_is_documented(tmp_path: Path) -> None:
    """Paths of resources are one template for all kinds: `gw.admin.place` says what each has."""
    app = admin_app(admin_settings(tmp_path), AgentClient(tmp_path / "agent.sock"), served_at_once, CATALOGUE)
    routes = {
        route.path.removeprefix(PREFIX): {method.method.lower() for method in route.methods}
        for route in falcon.inspect.inspect_app(app).routes
    }
    of_resources = {"/{kind}", "/{kind}/{id}", "/{kind}/{id}/{path:path}"}
    assert of_resources <= routes.keys()
    elsewhere = routes.keys() - of_resources
    assert elsewhere <= DOCUMENT["paths"].keys()
    for method, template, _ in operations():
        if template.startswith("/configs") and template not in elsewhere:
            continue  # there in the standalone role alone
        if template in elsewhere:
            assert method in routes[template], (method, template)
        else:
            parts = template.format(**VALUES).strip("/").split("/", 2)
            assert method.upper() in locate(*parts).methods, (method, template)
    for kind in set(KINDS) - {"plugins", "credentials", "secrets"}:
        for template in (f"/{kind}/{{id}}", f"/{kind}/{{id}}/{{path}}"):
            there = set(locate(*template.format(**VALUES).strip("/").split("/", 2)).methods) - {"OPTIONS", "POST"}
            documented = DOCUMENT["paths"].get(template, {})
            assert {method.upper() for method in METHODS if method in documented} == there, template


def test_every_operation_tells_its_errors() -> None:
    for method, template, operation in operations():
        answers = operation["responses"].keys()
        assert answers >= {"400", "401", "403", "500", "503"}, (method, template)
        assert ("413" in answers) == ("requestBody" in operation), (method, template)


def test_plugins_stand_in_the_bodies() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["route"]["properties"]["plugins"] == {"$ref": "#/components/schemas/plugins"}
    assert schemas["consumer"]["properties"]["plugins"] == {"$ref": "#/components/schemas/plugins.consumer"}
    assert schemas["plugins"]["properties"].keys() == set(OWN_PLUGINS)
    assert schemas["plugin.limit-count"]["properties"].keys() >= {"count", "_meta"}
    # What the gateway keeps is not sent, and what the store may lack is not promised.
    assert "create_time" not in schemas["route"]["properties"]
    assert "create_time" in schemas["route.stored"]["properties"]
    assert "required" not in schemas["ssl.stored"]


def test_a_consumer_may_be_called_in_a_path_what_its_schema_lets_it_be_called() -> None:
    (parameter,) = DOCUMENT["paths"]["/consumers/{id}"]["parameters"]
    username = DOCUMENT["components"]["schemas"]["consumer"]["properties"]["username"]
    assert parameter["schema"]["maxLength"] == username["maxLength"] == 256


def test_it_is_served_behind_the_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path, catalogue=CATALOGUE) as admin:
            for key, status in ((None, 401), ("wrong", 401), (VIEWER_KEY, 200)):
                reply = await admin.ask("GET", "/openapi.json", key=key)
                assert reply.status == status
                assert (reply.body == DOCUMENT) == (status == 200)

    asyncio.run(run())


def test_the_command_prints_it(tmp_path: Path) -> None:
    admin_settings(tmp_path)
    command = [sys.executable, "-m", "gw.cli.main", "openapi", "-c", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == DOCUMENT


@pytest.mark.parametrize(
    ("draft_7", "newer"),
    [
        ({"$schema": "x", "$comment": "x", "type": "object"}, {"type": "object"}),
        ({"dependencies": {"a": ["b"]}}, {"dependentRequired": {"a": ["b"]}}),
        ({"dependencies": {"a": {"items": [True]}}}, {"dependentSchemas": {"a": {"prefixItems": [True]}}}),
        ({"items": [True, {}], "additionalItems": False}, {"prefixItems": [True, {}], "items": False}),
        ({"items": {"dependencies": {}}, "additionalItems": False}, {"items": {}}),
        # Names of properties are no words, and data is no schema.
        ({"properties": {"items": {"items": [True]}}}, {"properties": {"items": {"prefixItems": [True]}}}),
        ({"default": {"items": [1], "dependencies": {}}}, {"default": {"items": [1], "dependencies": {}}}),
        ({"enum": [{"$comment": "x"}]}, {"enum": [{"$comment": "x"}]}),
        ({"anyOf": [{"not": {"items": []}}]}, {"anyOf": [{"not": {"prefixItems": []}}]}),
    ],
)
def test_schemas_are_put_into_the_newer_draft(draft_7: dict[str, Any], newer: dict[str, Any]) -> None:
    assert translated(draft_7) == newer
