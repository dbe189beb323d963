"""A configuration with what its references name, which the plugin's schema could not look at before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from gw.errors import JitterwayError
from gw.model.secret_references import resolve_references
from gw.schema.plugin_schemas import PluginSchema
from gw.schema.wording import path_of


class UnfitReference(JitterwayError):
    """A plugin cannot take what a reference of its configuration names. Its text shows no value."""


def resolved_conf(
    conf: Mapping[str, Any], schema: PluginSchema | None, environ: Mapping[str, str]
) -> Mapping[str, Any]:
    """The configuration with the values that its references name; the same object where there is none.

    A variable of the environment is a text. Where a number, true or false is asked for, one that reads so is that, as
    Lua takes it. Raises UnresolvedReference, and UnfitReference for a value that the schema refuses; neither shows one.
    """
    found = resolve_references(conf, environ)
    if found is conf or schema is None:
        result: Mapping[str, Any] = found
        return result
    complaint = None
    for reading in (found, _as_scalars(found, conf)):
        fitting: dict[str, Any] = deepcopy(dict(reading))
        complaint = schema.own_complaint(fitting)
        if complaint is None:
            return fitting
    place = path_of(complaint.place) if complaint is not None else ""
    raise UnfitReference(f"it does not fit its schema{place and f' at {place}'} with what its references name")


def _as_scalars(found: Any, written: Any) -> Any:
    """`found` with texts that a reference stood for read as JSON, where that is a number, true or false."""
    if found is written:
        return found
    if isinstance(found, str):
        try:
            value = json.loads(found)
        except (ValueError, RecursionError):
            return found
        return value if isinstance(value, int | float) else found
    if isinstance(found, Mapping):
        return {name: _as_scalars(value, written[name]) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_as_scalars(value, before) for value, before in zip(found, written, strict=True)]
    return found
