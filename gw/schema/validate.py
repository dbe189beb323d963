"""Is this a valid resource: one function, `validate`, for everything that comes from a client or a store.

Four looks, the cheapest first: JSON that can be kept at all (`screen`, which makes the copy), the schema, the rules
between fields (`rules`), and what plugins ask of their configurations (`plugin_schemas`). The schema is checked in two
halves:

- its shape, by code that fastjsonschema generates once per process and kind;
- what it says about which properties go together (`oneOf: [{required: [uri]}, ...]`), which depends on nothing but the
  set of property names, so the answer is kept per set: as generated code it would cost twice the rest.

Only when one of them says no does `explain` walk the whole schema, to word the reason.
"""

from copy import deepcopy
from functools import cache, lru_cache
from typing import Any, Final

import fastjsonschema

from gw.errors import InvalidResource
from gw.schema.compiled import Check, compile_check
from gw.schema.explain import Complaint, Schema, explain
from gw.schema.load import FILES, load_schema
from gw.schema.plugin_schemas import NO_PLUGINS, PluginSchemas
from gw.schema.rules import check_exclusive, check_rules
from gw.schema.screen import Unfit, copy_json
from gw.schema.wording import bare, path_of, quote, reason_at

# Names of directories wherever an id becomes part of a path: a store's, a URL's.
_RESERVED_IDS: Final = frozenset({".", ".."})
# Words of a schema that may speak about nothing but which properties there are.
COMBINATIONS: Final = frozenset({"allOf", "anyOf", "oneOf", "not"})
# A fleet's routes use some dozens of sets of properties; the bound is for whoever sends every one there is.
_MAX_NAME_SETS: Final = 4096


def validate(
    kind: str, id: str, resource: object, plugins: PluginSchemas = NO_PLUGINS, *, refuse_unknown: bool = False
) -> dict[str, Any]:
    """A new dict with the resource and APISIX's defaults filled in. The argument is not changed.

    `plugins` are those in use: their configurations are checked, and their defaults filled in. One that is not among
    them passes as it is, because an existing store must not lose a route over it (a worker answers 500 in its place);
    with `refuse_unknown` it is refused, as in APISIX's Admin API.

    `kind` is APISIX's plural (`routes`), `id` the one of the store key or URL; an `id` in the resource must be the same
    one, as a string or a number. Raises InvalidResource for whatever `resource` is instead of a valid one, KeyError for
    a kind that has no schema.
    """
    schema = load_schema(kind)
    if complaint := _id_complaint(kind, schema, id):
        raise _invalid(kind, id, complaint)
    try:
        checked = copy_json(resource)
        complaint = _complaint(kind, schema, id, checked) or plugins.complaint(
            kind, id, checked, refuse_unknown=refuse_unknown
        )
    except Unfit as unfit:
        complaint = Complaint(unfit.place, reason_at(unfit.place, unfit.reason))
    except RecursionError:
        complaint = Complaint((), "nested too deeply")
    if complaint:
        raise _invalid(kind, id, complaint)
    result: dict[str, Any] = checked
    return result


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema (draft 7) of a kind, standing alone, as a copy. Raises KeyError for a kind that has none."""
    return deepcopy(load_schema(kind))


def kinds() -> tuple[str, ...]:
    """The kinds that can be validated."""
    return tuple(FILES)


def _complaint(kind: str, schema: Schema, id: str, resource: Any) -> Complaint | None:
    try:
        _shape_check(kind)(resource)
    except fastjsonschema.JsonSchemaException as failure:
        return check_exclusive(kind, resource) or explain(schema, resource) or Complaint((), str(failure))
    if not _names_fit(kind, resource):
        return check_exclusive(kind, resource) or explain(schema, resource)
    body_id = resource.get("id", id)
    if str(body_id) != id:
        return Complaint(("id",), f"wrong {schema['title'].lower()} id")
    return check_rules(kind, resource)


def _invalid(kind: str, id: str, complaint: Complaint) -> InvalidResource:
    path = path_of(complaint.place)
    return InvalidResource(kind, bare(id), path, complaint.reason, stands_alone=complaint.stands_alone)


def _id_complaint(kind: str, schema: Schema, id: str) -> Complaint | None:
    """As for the field `id`, which the key's id is the string form of; besides, no name that a path gives a meaning."""
    try:
        _id_check(kind)(id)
        complaint = None
    except fastjsonschema.JsonSchemaException as failure:
        complaint = explain(schema["properties"]["id"], id) or Complaint((), str(failure))
    if complaint is None and id in _RESERVED_IDS:
        complaint = Complaint((), f"{quote(id)} is reserved")
    return complaint and Complaint(("id",), reason_at(("id",), complaint.reason))


@cache
def _shape_check(kind: str) -> Check:
    """The compiled check of a kind's shape. It fills defaults into what it is given."""
    return compile_check(_shape(load_schema(kind)))


@cache
def _id_check(kind: str) -> Check:
    return compile_check(load_schema(kind)["properties"]["id"])


def _shape(schema: Schema) -> dict[str, Any]:
    """The schema without its combinations, and without those of an upstream inside it."""
    shape = {word: value for word, value in schema.items() if word not in COMBINATIONS}
    if "upstream" in shape["properties"]:
        shape["properties"] = shape["properties"] | {"upstream": _shape(shape["properties"]["upstream"])}
    return shape


def _names_fit(kind: str, resource: dict[str, Any]) -> bool:
    if not _name_set_fits(kind, frozenset(resource)):
        return False
    # Of a kind that is open to any member, one of that name is not ours to look into.
    upstream = resource.get("upstream") if "upstream" in load_schema(kind)["properties"] else None
    return upstream is None or _name_set_fits("upstreams", frozenset(upstream))


@lru_cache(_MAX_NAME_SETS)
def _name_set_fits(kind: str, names: frozenset[str]) -> bool:
    schema = load_schema(kind)
    combinations = {word: schema[word] for word in COMBINATIONS if word in schema}
    return explain(combinations, dict.fromkeys(names)) is None
