"""A configuration with what its references name, which the plugin's schema could not look at before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from itertools import count
from typing import Any, Final, NoReturn

from gw.errors import JitterwayError
from gw.model.secret_references import resolve_references
from gw.schema.plugin_schemas import PluginSchema
from gw.schema.wording import Place, path_of

# Times that a configuration is held against its schema, with one text after the other read as what is asked for there.
# After so many all of them are.
_MOST_READINGS: Final = 16


class UnfitReference(JitterwayError):
    """A plugin cannot take what a reference of its configuration names. Its text shows no value."""


def resolved_conf(
    conf: Mapping[str, Any], schema: PluginSchema | None, environ: Mapping[str, str]
) -> Mapping[str, Any]:
    """The configuration with the values that its references name; the same object where there is none.

    A variable of the environment is a text. Where a number, true or false is asked for, one that reads so is that, as
    Lua takes it. Raises UnresolvedReference, and UnfitReference for a value that the schema refuses; neither shows one.
    """
    reading: Any = resolve_references(conf, environ)
    if reading is conf or schema is None:
        result: Mapping[str, Any] = reading
        return result
    for readings in count(1):
        fitting: dict[str, Any] = deepcopy(dict(reading))
        complaint = schema.own_complaint(fitting)
        if complaint is None:
            return fitting
        # Where the schema complains, and nowhere else: a password of digits is a text.
        before, reading = reading, _as_scalars(reading, conf, complaint.place if readings < _MOST_READINGS else ())
        if reading is before:
            place = path_of(complaint.place)
            raise UnfitReference(f"it does not fit its schema{place and f' at {place}'} with what its references name")
    raise AssertionError("each reading but the last one has fewer texts")


def _as_scalars(found: Any, written: Any, place: Place) -> Any:
    """`found` with texts at a place and below, which a reference stood for, read as JSON where that is a number, true
    or false; the same object where none does.
    """
    if found is written:
        return found
    if isinstance(found, str):
        return _scalar(found)
    if isinstance(found, Mapping):
        items = {
            name: _as_scalars(value, written[name], place[1:]) if not place or place[0] == name else value
            for name, value in found.items()
        }
        return found if all(items[name] is value for name, value in found.items()) else items
    if isinstance(found, list | tuple):
        values = [
            _as_scalars(value, written[number], place[1:]) if not place or place[0] == number else value
            for number, value in enumerate(found)
        ]
        return found if all(new is old for new, old in zip(values, found, strict=True)) else values
    return found


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) else text


def _no_number(name: str) -> NoReturn:
    """NaN and infinities keep no bound that a schema sets."""
    raise ValueError(name)
