"""Is this a valid resource: one function, `validate`, for everything that comes from a client or a store.

Four looks, the cheapest first: JSON that can be kept at all (`screen`, which makes the copy), the schema, the rules
between fields (`rules`), and what plugins ask of their configurations (`plugin_schemas`). The schema is checked in two
halves:

- its shape, by code that fastjsonschema generates once per process and kind;
- what it says about which properties go together (`oneOf: [{required: [uri]}, ...]`), which depends on nothing but the
  set of property names, so the answer is kept per set: as generated code it would cost twice the rest.

Only when one of them says no does `explain` walk the whole schema, to word the reason, and `empties` look whether only
an empty container was written as one of the other kind.
"""

from copy import deepcopy
from functools import cache, lru_cache
from typing import Any, Final

import fastjsonschema

from gw.errors import InvalidResource
from gw.schema.code import code_complaint
from gw.schema.compiled import Check, compile_check
from gw.schema.empties import settle_empties
from gw.schema.explain import Complaint, Schema, explain
from gw.schema.expressions import expression_complaint
from gw.schema.ids import body_complaint, id_complaint
from gw.schema.load import FILES, load_schema, schema_name
from gw.schema.plugin_schemas import HOLDERS, NO_PLUGINS, PluginSchemas
from gw.schema.rules import check_exclusive, check_rules
from gw.schema.screen import Unfit, copy_json
from gw.schema.wording import bare, path_of, reason_at

# Words of a schema that may speak about nothing but which properties there are.
COMBINATIONS: Final = frozenset({"allOf", "anyOf", "oneOf", "not"})
# A fleet's routes use some dozens of sets of properties; the bound is for whoever sends every one there is.
_MAX_NAME_SETS: Final = 4096
# What APISIX 2.x and its dashboard stored, and 3.x has no schema for (apisix/schema_def.lua of 2.x, "deprecate
# fields"). It says nothing that the key does not.
_OF_2X: Final = {"consumers": ("id",)}


def validate(
    kind: str,
    id: str,
    resource: object,
    plugins: PluginSchemas = NO_PLUGINS,
    *,
    refuse_unknown: bool = False,
    allow_code: bool = True,
) -> dict[str, Any]:
    """A new dict with the resource and APISIX's defaults filled in. The argument is not changed.

    `plugins` are those in use: their configurations are checked, and their defaults filled in. One that is not among
    them passes as it is, because an existing store must not lose a route over it (a worker answers 500 in its place).
    So do conditions and code that no worker could run, and fields of 2.x are left out. With `refuse_unknown` all of
    these are refused, as in APISIX's Admin API, and without `allow_code` any code is.

    `kind` is APISIX's plural (`routes`), `id` the one of `gw.model.keys`; an `id` in the resource must be the same one,
    as a string or a number. The list of plugins comes back as an object with the one field `plugins`, and may come as
    one. Raises InvalidResource for whatever `resource` is instead of a valid one, KeyError for
    a kind that has no schema.
    """
    if complaint := id_complaint(kind, id):
        raise _invalid(kind, id, complaint)
    try:
        checked = copy_json(_as_object(kind, resource))
        if not refuse_unknown:
            _leave_out_old_fields(kind, checked)
        complaint = _complaint(kind, id, checked, plugins, refuse_unknown=refuse_unknown)
        if complaint and _settle_empties(kind, id, checked, plugins):
            complaint = _complaint(kind, id, checked, plugins, refuse_unknown=refuse_unknown)
        if refuse_unknown:
            complaint = complaint or _runs_complaint(kind, checked, allow_code=allow_code)
    except Unfit as unfit:
        complaint = Complaint(unfit.place, reason_at(unfit.place, unfit.reason))
    except RecursionError:
        complaint = Complaint((), "nested too deeply")
    if complaint:
        raise _invalid(kind, id, complaint)
    result: dict[str, Any] = checked
    return result


def check_id(kind: str, id: str) -> None:
    """Raises InvalidResource for an id that no resource of the kind can have."""
    if complaint := id_complaint(kind, id):
        raise _invalid(kind, id, complaint)


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 7) of a kind, standing alone, as a copy. `name` is one of `schema_names`.

    Raises KeyError for a name that has none.
    """
    return deepcopy(load_schema(name))


def schema_names() -> tuple[str, ...]:
    """The kinds that can be validated; of secrets each manager, which has a schema of its own: `secrets/vault`."""
    return tuple(FILES)


def _as_object(kind: str, resource: object) -> object:
    """The list of plugins is a list in the store, and the only resource that is no object: from here on it is one."""
    return {"plugins": resource} if kind == "plugins" and isinstance(resource, list) else resource


def _leave_out_old_fields(kind: str, resource: Any) -> None:
    if isinstance(resource, dict):
        for name in _OF_2X.get(kind, ()):
            resource.pop(name, None)


def _complaint(
    kind: str, id: str, resource: Any, plugins: PluginSchemas, *, refuse_unknown: bool
) -> Complaint | None:
    return _own_complaint(kind, id, resource) or plugins.complaint(kind, id, resource, refuse_unknown=refuse_unknown)


def _settle_empties(kind: str, id: str, resource: Any, plugins: PluginSchemas) -> bool:
    """Whether there was something to settle, in the resource or in the plugins' configurations."""
    is_changed = settle_empties(load_schema(schema_name(kind, id)), resource)
    of_plugins = resource.get("plugins") if isinstance(resource, dict) and kind in HOLDERS else None
    if not isinstance(of_plugins, dict):
        return is_changed
    for name, conf in list(of_plugins.items()):
        schema = plugins.schema_for(kind, name)
        if conf == []:
            of_plugins[name] = {}
            is_changed = True
        elif schema is not None and settle_empties(schema.schema, conf):
            is_changed = True
    return is_changed


def _own_complaint(kind: str, id: str, resource: Any) -> Complaint | None:
    name = schema_name(kind, id)
    try:
        _shape_check(name)(resource)
    except fastjsonschema.JsonSchemaException as failure:
        return check_exclusive(kind, resource) or explain(load_schema(name), resource) or Complaint((), str(failure))
    if not _names_fit(name, resource):
        return check_exclusive(kind, resource) or explain(load_schema(name), resource)
    return body_complaint(kind, id, resource) or check_rules(kind, resource)


def _runs_complaint(kind: str, resource: dict[str, Any], *, allow_code: bool) -> Complaint | None:
    """What no worker could run, or none may."""
    complaint = None
    if kind == "routes" and "vars" in resource:
        complaint = expression_complaint(("vars",), resource["vars"])
    return complaint or code_complaint(kind, resource, is_allowed=allow_code)


def _invalid(kind: str, id: str, complaint: Complaint) -> InvalidResource:
    path = path_of(complaint.place)
    return InvalidResource(kind, bare(id), path, complaint.reason, stands_alone=complaint.stands_alone)


@cache
def _shape_check(name: str) -> Check:
    """The compiled check of a schema's shape. It fills defaults into what it is given."""
    return compile_check(_shape(load_schema(name)))


def _shape(schema: Schema) -> dict[str, Any]:
    """The schema without its combinations, and without those of an upstream inside it."""
    shape = {word: value for word, value in schema.items() if word not in COMBINATIONS}
    if "upstream" in shape["properties"]:
        shape["properties"] = shape["properties"] | {"upstream": _shape(shape["properties"]["upstream"])}
    return shape


def _names_fit(name: str, resource: dict[str, Any]) -> bool:
    if not _name_set_fits(name, frozenset(resource)):
        return False
    # Of a kind that is open to any member, one of that name is not ours to look into.
    upstream = resource.get("upstream") if "upstream" in load_schema(name)["properties"] else None
    return upstream is None or _name_set_fits("upstreams", frozenset(upstream))


@lru_cache(_MAX_NAME_SETS)
def _name_set_fits(name: str, names: frozenset[str]) -> bool:
    schema = load_schema(name)
    combinations = {word: schema[word] for word in COMBINATIONS if word in schema}
    return explain(combinations, dict.fromkeys(names)) is None
