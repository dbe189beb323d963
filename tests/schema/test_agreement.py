"""Two readers of the schemas, the compiled one and the one that words reasons, agree on random resources."""

from copy import deepcopy
from typing import Any

import fastjsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from gw.errors import InvalidResource
from gw.schema import schema_names, validate
from gw.schema.empties import settle_empties
from gw.schema.explain import explain
from gw.schema.formats import FORMATS
from gw.schema.load import load_schema
from gw.schema.screen import copy_json

# The whole schema compiled as it stands: what validate splits in two for speed.
WHOLE = {
    kind: fastjsonschema.compile(load_schema(kind), formats={name: check for name, (_, check) in FORMATS.items()})
    for kind in schema_names()
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.floats(-2, 2).map(lambda number: round(number, 1)),
    st.sampled_from(
        ["", "/a", "a.com", "*.a.com", "GET", "chash", "rewrite", "vars", "http", "1", "10.0.0.0/8", "a\n", "x" * 300]
    ),
)
names = st.sampled_from(
    sorted(
        {name for kind in schema_names() for name in load_schema(kind)["properties"]}
        | {"active", "passive", "healthy", "connect", "send", "read", "host", "port", "weight", "a:80", "client_cert"}
    )
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
NODES = {"127.0.0.1:80": 1}
BASES: dict[str, dict[str, Any]] = {
    "routes": {"uri": "/a", "upstream": {"nodes": NODES}},
    "services": {"upstream": {"nodes": NODES}},
    "upstreams": {"nodes": [{"host": "a", "weight": 1}]},
    "plugin_configs": {"plugins": {}},
    "global_rules": {"plugins": {}},
    "plugin_metadata": {},
    "consumers": {"username": "jack"},
    "consumer_groups": {"plugins": {}},
    "credentials": {"plugins": {}},
    "plugins": {"plugins": [{"name": "a"}]},
    "ssls": {"sni": "a.com", "cert": "$env://CERT", "key": "$env://KEY"},
    "protos": {"content": "syntax = \"proto3\";"},
    "secrets/vault": {"uri": "http://a", "prefix": "p", "token": "t"},
    "secrets/aws": {"access_key_id": "a", "secret_access_key": "b"},
    "secrets/gcp": {"auth_file": "/a"},
    "secrets/kubernetes": {"endpoint": "https://a"},
    "stream_routes": {"upstream": {"nodes": NODES}},
}
IDS = {"consumers": "jack", "credentials": "jack/1", "plugins": ""}


def key_of(name: str) -> tuple[str, str]:
    """Kind and id of a resource that the schema of this name is for."""
    kind, _, manager = name.partition("/")
    return kind, f"{manager}/1" if manager else IDS.get(kind, "1")


def refusal_of(name: str, resource: Any) -> InvalidResource | None:
    """A refusal by whichever of the checks, rules between fields included; any other exception is a fault."""
    try:
        validate(*key_of(name), resource)
    except InvalidResource as error:
        return error
    return None


changes = st.lists(st.tuples(st.sampled_from(["", "upstream"]), names, values), max_size=4)


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(schema_names()), changes=changes, dropped=st.sets(names, max_size=2))
def test_compiled_and_worded_agree(kind: str, changes: list[tuple[str, str, Any]], dropped: set[str]):
    resource = deepcopy(BASES[kind])
    for inside, name, value in changes:
        target = resource.get(inside) if inside else resource
        if isinstance(target, dict):
            target[name] = value
    for name in dropped:
        resource.pop(name, None)
    if kind == "consumers":
        resource.pop("id", None)  # of 2.x: no schema has it, and what a store has is read without it
    resource = copy_json(resource)
    complaint = explain(load_schema(kind), resource)
    try:
        WHOLE[kind](deepcopy(resource))
        fits = True
    except fastjsonschema.JsonSchemaException:
        fits = False
    assert fits == (complaint is None), complaint

    before = deepcopy(resource)
    refusal = refusal_of(kind, resource)
    if complaint is not None:
        settled = deepcopy(resource)
        settle_empties(load_schema(kind), settled)
        complaint = explain(load_schema(kind), settled)
    if complaint is not None:
        assert refusal is not None
        assert (refusal.kind, refusal.id, refusal.reason) == (*key_of(kind), complaint.reason)
    assert resource == before


@settings(max_examples=200, deadline=None)
@given(resource=values)
def test_no_value_does_worse_than_be_refused(resource: Any):
    for kind in schema_names():
        refusal = refusal_of(kind, resource)
        assert refusal is None or refusal.reason.isprintable()
