"""Adds, sets and removes header fields, as the `headers` of proxy-rewrite and response-rewrite say.

In APISIX's order: add, then set, then remove. So a name that is set loses what was added to it, and a name that is
removed is gone whatever else is said of it; both are settled once, and a request's list is walked once. A value that
comes out empty sets nothing: the field is gone, as in OpenResty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gw.pipeline.context import Context
from gw.pipeline.fields import Headers, field
from gw.pipeline.variables import Getter, compile_template, find_variable

log = logging.getLogger(__name__)

# How a message ends is the gateway's to say: a wrong word there lets one request be read as two (RFC 9112 11.2).
FRAMING: Final = frozenset(("content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "trailer"))
_ACTIONS: Final = ("add", "set", "remove")

_Value = Callable[[Context], str]
_Pair = tuple[bytes, bytes]


class HeaderEdits:
    """The edits of one instance, settled. Call it with a context and the list to change in place."""

    __slots__ = ("_constant", "_dropped", "_made")

    def __init__(self, dropped: Iterable[bytes], constant: Iterable[_Pair], made: Iterable[tuple[str, _Value]]) -> None:
        self._dropped = frozenset(dropped)
        self._constant = tuple(constant)
        self._made = tuple(made)

    def __bool__(self) -> bool:
        return bool(self._dropped or self._constant or self._made)

    def __call__(self, ctx: Context, headers: Headers) -> None:
        """Raises ValueError for a value that would be more than one field."""
        made = [field(name, value) for name, get in self._made if (value := get(ctx))]
        dropped = self._dropped
        if dropped:
            headers[:] = [pair for pair in headers if pair[0] not in dropped]
        headers += self._constant
        headers += made


def compile_edits(
    headers: Mapping[str, Any],
    owner: str,
    *,
    find: Callable[[str], Getter | None] = find_variable,
    not_ours: frozenset[str] = FRAMING,
) -> HeaderEdits:
    """Settle `headers` of a configuration: `{add, set, remove}`, or what is to be set. Raises ValueError.

    `add` is an object, or a list of lines `name: value`; a value that is an array is so many fields. `not_ours`: names
    that are left alone, which is logged.
    """
    actions = headers if _has_actions(headers) else {"set": headers}
    added = list(_fields(actions.get("add", {})))
    assigned = _assigned(actions.get("set", {}))
    removed = [name.lower() for name in actions.get("remove", ())]
    for name in sorted({name for name, _ in added + assigned} | set(removed)):
        if name in not_ours:
            log.warning("%s: the header %s is left alone: it is not this plugin's to change", owner, name)
    gone = {name for name in removed if name not in not_ours}
    replaced = {name for name, _ in assigned if name not in not_ours}
    kept = [pair for pair in added if pair[0] not in replaced] + assigned
    templates = [
        (name, compile_template(text, find=find)) for name, text in kept if name not in gone and name not in not_ours
    ]
    # All fields of a name are made in one go, so that they keep their order.
    made_names = {name for name, template in templates if not template.is_constant}
    constant = [field(name, each.text) for name, each in templates if name not in made_names and each.text]
    made = [pair for pair in templates if pair[0] in made_names]
    return HeaderEdits((name.encode("ascii") for name in gone | replaced), constant, made)


def _has_actions(headers: Mapping[str, Any]) -> bool:
    return any(isinstance(headers.get(action), dict | list) for action in _ACTIONS)


def _fields(written: Mapping[str, Any] | list[str]) -> Iterable[tuple[str, str]]:
    if isinstance(written, list):
        for line in written:
            name, _, value = line.partition(":")
            yield name.strip().lower(), value.strip()
    else:
        for name, values in written.items():
            for value in values if isinstance(values, list) else (values,):
                yield name.lower(), _text(value)


def _assigned(written: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of a name that stands there in two spellings the last one counts."""
    by_name = {name.lower(): list(_fields({name: values})) for name, values in written.items()}
    return [pair for pairs in by_name.values() for pair in pairs]


def _text(value: Any) -> str:
    """A number as Lua writes it: 3.0 is 3."""
    return value if isinstance(value, str) else f"{value:.14g}"
