"""A document and its items: keys, ids, variables, and what is refused as a whole."""

import json
from typing import Any

import pytest

from gw.model.keys import parse_store_key
from gw.settings import Refused
from sync_agent.intake import Intake
from sync_agent.stores.base import Event, KeyValue
from sync_agent.stores.standalone.document import InvalidDocument, Value, read_document, resources_of
from sync_agent.stores.standalone.variables import resolve
from tests.support.samples import SAMPLES

LIMIT_BYTES = 10_000
ENVIRON = {"HOST": "10.0.0.1", "PORT": "8080", "NAME": "a b", "ON": "true", "EMPTY": "", "HEX": "0x10", "HALF": ".5"}


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("routes: []\n#END", {"routes": []}),
        ("routes:\n#END  \n\n", {"routes": None}),
        ("routes: [] # all of them #END\n", {"routes": []}),
        ("{}\n  #END", {}),
        # A plugin without settings, as people write it; nulls elsewhere are left to the schemas.
        (
            "routes: [{plugins: {key-auth: , x: {a: }}, labels: , desc: }, {plugins: }, 5]\n#END",
            {
                "routes": [
                    {"plugins": {"key-auth": {}, "x": {"a": None}}, "labels": {}, "desc": None},
                    {"plugins": {}},
                    5,
                ]
            },
        ),
    ],
)
def test_a_file_of_yaml_ends_with_its_mark(text: str, document: dict[str, Any]) -> None:
    assert read_document(text.encode(), "yaml", LIMIT_BYTES, needs_end=True) == document


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("yaml", "routes: []\n", "no #END on its last line"),
        ("yaml", "#END\nroutes: []\n", "no #END on its last line"),
        ("yaml", "#END\n", "must hold a mapping of kinds"),
        ("yaml", "- routes\n#END\n", "must hold a mapping of kinds"),
        ("yaml", "routes: {1: {uri: /a}}\n#END\n", "routes: must be a list, not a mapping"),
        ("yaml", "upstreams: 7\n#END\n", "upstreams: must be a list, not a number"),
        ("yaml", "routes: [}\n#END\n", "line 1"),
        ("yaml", "a: " + "x" * LIMIT_BYTES + "\n#END\n", "larger than 10000 bytes (gw.limits.document)"),
        ("json", "", "invalid JSON"),
        ("json", '{"routes": [', "invalid JSON"),
        ("json", '{"routes": [], "routes": []}', "duplicate name"),
        ("json", "[]", "must hold a mapping of kinds"),
    ],
)
def test_what_is_refused_as_a_whole(form: str, text: str, reason: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        read_document(text.encode(), form, LIMIT_BYTES, needs_end=form == "yaml")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "items", "keys"),
    [
        ("routes", [{"id": "a"}, {"id": 7}, {"uri": "/x"}, {"id": 1.5}, {"id": ""}, {"id": True}, 5, None], ""),
        ("plugin_metadata", [{"id": "http-logger"}], "http-logger"),
        ("upstreams", [{"username": "jack"}], "jack"),
        ("upstreams", [{"id": "${{HOST}}"}, {"id": "${{NOBODY}}"}], "10.0.0.1 arr_2"),
    ],
)
def test_ids_are_those_of_the_items_or_their_places(name: str, items: list[Any], keys: str) -> None:
    wanted = keys.split() or ["a", "7", "arr_3", "arr_4", "arr_5", "arr_6", "arr_7", "arr_8"]
    assert list(resources_of({name: items}, ENVIRON).values) == [f"{name}/{key}" for key in wanted]


def test_of_equal_ids_the_last_one_counts_and_that_is_noted() -> None:
    found = resources_of({"routes": [{"id": 1, "uri": "/a"}, {"id": "1", "uri": "/b"}]}, ENVIRON)
    assert found.values == {"routes/1": Value(b'{"id":"1","uri":"/b"}')}
    assert found.notes == ("routes[1]: routes/1 stands there more than once; the last one counts",)


def test_what_is_no_kind_is_noted_and_what_is_about_the_document_is_not() -> None:
    found = resources_of({"rotes": [], "x-shared": {"a": 1}, "routes_conf_version": 3, "X-Digest": "d"}, ENVIRON)
    assert found.notes == ("rotes: is no kind of resource that is served here, and does nothing",)


def test_what_is_about_the_document_is_not_in_a_value() -> None:
    items = {"routes": [{"id": 1, "modifiedIndex": 3}], "plugin_metadata": [{"id": "x", "log_format": {}}]}
    values = {key: json.loads(value.raw) for key, value in resources_of(items, None).values.items()}
    assert values == {"routes/1": {"id": 1}, "plugin_metadata/x": {"log_format": {}}}


def test_an_item_that_cannot_be_made_is_refused_alone() -> None:
    routes = [{"id": 1, "desc": "${{NOBODY}}"}, {"id": 2, "a": float("inf")}, {"id": 3}]
    found = resources_of({"routes": routes}, ENVIRON)
    refusals = {key: value.refusal for key, value in found.values.items()}
    assert refusals["routes/1"].startswith("desc: environment variable NOBODY is not set")
    assert refusals["routes/2"].startswith("cannot be kept as JSON")
    assert refusals["routes/3"] == ""


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("${{HOST}}", "10.0.0.1"),
        ("${{ HOST }}:${{PORT}}", "10.0.0.1:8080"),
        ("${{PORT}}", 8080),
        ("${{HALF}}", 0.5),
        ("${{HEX}}", 16),
        ("${{ON}}", True),
        ("${{EMPTY}}", ""),
        ("${{NOBODY:=false}}", False),
        ("${{NOBODY:= 3 }}", 3),
        ("${{NOBODY:=}}", ""),
        ("${{NAME:=x}}", "a b"),
        ({"${{HOST}}:${{PORT}}": 1}, {"10.0.0.1:8080": 1}),
        ({"${{PORT}}": ["${{PORT}}", {"a": "${{ON}}"}]}, {"8080": [8080, {"a": True}]}),
        ("8080", "8080"),
        ("$host ${HOST} {{HOST}}", "$host ${HOST} {{HOST}}"),
        ("${{", "${{"),
    ],
)
def test_variables_are_replaced_as_in_apisix(written: Any, resolved: Any) -> None:
    found = resolve(written, ENVIRON)
    assert found == resolved
    assert type(found) is type(resolved)


def test_a_variable_that_is_not_set_is_named_with_its_place() -> None:
    with pytest.raises(Refused) as caught:
        resolve({"upstream": {"nodes": [{"host": "${{NOBODY}}"}]}}, ENVIRON)
    assert caught.value.at == ".upstream.nodes[0].host"
    assert "NOBODY" in caught.value.reason


def document_of(which: str) -> dict[str, Any]:
    """The samples of all kinds as one document, each under an id."""
    document: dict[str, Any] = {}
    for store_key, sample in SAMPLES.items():
        name, _, id = store_key.partition("/")
        item = getattr(sample, which)
        if id:
            document.setdefault(name, []).append(item if name == "consumers" and "/" not in id else {"id": id, **item})
        else:
            document[name] = item
    return document


@pytest.mark.parametrize("which", ["good", "other"])
def test_every_kind_there_is_can_stand_in_a_document(which: str) -> None:
    found = resources_of(document_of(which), {})
    assert found.notes == ()
    intake = Intake({}, 1 << 20)
    changes = intake.take_events(
        Event(key, KeyValue(key, value.raw, 2, 2, value.refusal)) for key, value in found.values.items()
    )
    assert intake.rejections == {}
    assert {change.key for change in changes} == {parse_store_key(key) for key in SAMPLES}


def test_a_bad_item_of_every_kind_is_refused_by_name() -> None:
    found = resources_of(document_of("bad") | {"plugins": SAMPLES["plugins"].bad}, {})
    intake = Intake({}, 1 << 20)
    intake.take_events(Event(key, KeyValue(key, value.raw, 2, 2, value.refusal)) for key, value in found.values.items())
    # A consumer is known by what it says of itself, so the sample that has another's name is that other one.
    bad = {parse_store_key(key) for key in SAMPLES if key != "consumers/jack"}
    assert set(intake.rejections) == bad


def test_credentials_may_stand_by_themselves() -> None:
    for id in ("jack/credentials/a", "jack/a"):
        assert list(resources_of({"credentials": [{"id": id}]}, {}).values) == ["consumers/jack/credentials/a"]
    found = resources_of({"credentials": [{"id": "a"}, {}]}, {})
    assert found.values == {}
    assert found.notes[0] == "credentials[0]: has no id of its kind, so it is left out"
