"""Two readers of the schemas, the compiled one and the one that words reasons, agree on random resources."""

from copy import deepcopy
from typing import Any

import fastjsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from gw.errors import InvalidResource
from gw.schema import kinds, validate
from gw.schema.explain import explain
from gw.schema.formats import FORMATS
from gw.schema.load import load_schema
from gw.schema.screen import copy_json

# The whole schema compiled as it stands: what validate splits in two for speed.
WHOLE = {
    kind: fastjsonschema.compile(load_schema(kind), formats={name: check for name, (_, check) in FORMATS.items()})
    for kind in kinds()
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
        {name for kind in kinds() for name in load_schema(kind)["properties"]}
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
}


def refusal_of(kind: str, resource: Any) -> InvalidResource | None:
    """A refusal by whichever of the checks, rules between fields included; any other exception is a fault."""
    try:
        validate(kind, "1", resource)
    except InvalidResource as error:
        return error
    return None


changes = st.lists(st.tuples(st.sampled_from(["", "upstream"]), names, values), max_size=4)


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(kinds()), changes=changes, dropped=st.sets(names, max_size=2))
def test_compiled_and_worded_agree(kind: str, changes: list[tuple[str, str, Any]], dropped: set[str]):
    resource = deepcopy(BASES[kind])
    for inside, name, value in changes:
        target = resource.get(inside) if inside else resource
        if isinstance(target, dict):
            target[name] = value
    for name in dropped:
        resource.pop(name, None)
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
        assert refusal is not None
        assert (refusal.kind, refusal.id, refusal.reason) == (kind, "1", complaint.reason)
    assert resource == before


@settings(max_examples=200, deadline=None)
@given(resource=values)
def test_no_value_does_worse_than_be_refused(resource: Any):
    for kind in kinds():
        refusal = refusal_of(kind, resource)
        assert refusal is None or refusal.reason.isprintable()
