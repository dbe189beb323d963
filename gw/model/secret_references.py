"""References in the place of values: `$env://NAME`, `$env://NAME/member`, `$secret://manager/id/key`.

In any text of a plugin's configuration, as in APISIX 3.x (docs/en/latest/terminology/secret.md, apisix/core/env.lua,
apisix/secret.lua): the text as a whole is the reference, and what it names is taken as it is, never looked at again.

What cannot be resolved is an error here. APISIX goes on with the reference as if it were the value (but for consumers'
credentials), so that who knows the configuration's text knows the secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from gw.errors import JitterwayError

_ENV: Final = "$env://"
_MANAGED: Final = "$secret://"
# A shorter text is no reference; most texts do not even begin as one.
_BEGINS: Final = "$"


class UnresolvedReference(JitterwayError):
    """What a reference names is not there. Its text names the reference, and shows no value."""


def is_reference(text: str) -> bool:
    """Whether a text names a value instead of being one."""
    return text[: len(_ENV)].lower() == _ENV or text.startswith(_MANAGED)


def resolve_references(value: Any, environ: Mapping[str, str]) -> Any:
    """A configuration with what its references name; the same object where there is none.

    `environ` are the variables of this process's environment. Raises UnresolvedReference, with the place.
    """
    return _resolved(value, environ, "")


def resolve_text(text: str, environ: Mapping[str, str]) -> Any:
    """What a text stands for: itself, unless it is a reference. Raises UnresolvedReference."""
    if not text.startswith(_BEGINS):
        return text
    if text[: len(_ENV)].lower() == _ENV:
        return _of_environment(text, environ)
    if text.startswith(_MANAGED):
        raise UnresolvedReference(f"{text}: secret managers are not supported yet; use $env://NAME")
    return text


def _resolved(value: Any, environ: Mapping[str, str], place: str) -> Any:
    if isinstance(value, str):
        try:
            return resolve_text(value, environ)
        except UnresolvedReference as error:
            raise UnresolvedReference(f"{place}: {error}" if place else str(error)) from None
    if isinstance(value, Mapping):
        items = {
            name: _resolved(item, environ, f"{place}.{name}" if place else str(name)) for name, item in value.items()
        }
        return value if all(items[name] is item for name, item in value.items()) else items
    if isinstance(value, list | tuple):
        texts = [_resolved(item, environ, f"{place}[{index}]") for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(texts, value, strict=True)) else type(value)(texts)
    return value


def _of_environment(text: str, environ: Mapping[str, str]) -> Any:
    name, _, member = text[len(_ENV) :].partition("/")
    found = environ.get(name)
    if found is None:
        raise UnresolvedReference(f"{text}: the workers' environment has no variable {name}")
    if not member:
        return found
    try:
        members = json.loads(found)
    except (ValueError, RecursionError):
        # Without the parser's words: they may quote the value.
        raise UnresolvedReference(f"{text}: the variable {name} is not JSON, so it has no members") from None
    if not isinstance(members, dict) or not isinstance(members.get(member), str | int | float):
        raise UnresolvedReference(f"{text}: the variable {name} has no text or number as its member {member}")
    return members[member]
