"""Variables such as `$remote_addr` and `$arg_id`, and text with variables in it.

Both are settled when configuration changes: a name becomes a callable that reads the context, a text becomes a Template
that knows where its variables are. Per request nothing is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from gw.clock import Clock, SystemClock
from gw.pipeline.context import Context
from gw.pipeline.variable_table import NAMED, PREFIXED, Getter, clocked, of_process, wire_encoding

__all__ = ["Getter", "Template", "compile_template", "find_variable", "wire_encoding"]

# A name -> what reads it, or None for a name it does not know.
Finder: TypeAlias = Callable[[str], Getter | None]

_SYSTEM_CLOCK: Final = SystemClock()
# nginx's variables for headers; APISIX asks it for them by the same names.
_HEADER_ALIASES: Final = {"content_length": "http_content_length", "content_type": "http_content_type"}
# apisix/core/utils.lua, resolve_var: $name, ${name}, ${name ?? default}; a backslash before $ keeps both as they are.
_VARIABLE: Final = re.compile(r"(?<!\\)\$(?:\{\s*([^}]+?)\s*\}|([\w.]+))", re.ASCII)
_DEFAULT: Final = re.compile(r"\s*\?\?\s*")


def find_variable(name: str, clock: Clock = _SYSTEM_CLOCK) -> Getter | None:
    """What reads a variable (`remote_addr`, `arg_id`; without `$`), or None when there is no such variable.

    The getter answers text, or None where the request has no value for it.
    """
    name = _HEADER_ALIASES.get(name, name)
    if (getter := NAMED.get(name)) is not None:
        return getter
    for prefix, make in PREFIXED.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return make(name[len(prefix) :])
    return clocked(clock).get(name) or of_process().get(name)


class _Part(NamedTuple):
    """A variable of a template: what reads it (None: unknown), and what stands for it where it has no value."""

    get: Getter | None
    default: str | None


class Template:
    """Text with variables. Call it with a context; `resolve` tells how many variables had a value, too.

    `names` are the variables in order, `unknown` those among them that do not exist (they are always empty).
    """

    __slots__ = ("_escape", "_frame", "_parts", "names", "text", "unknown")

    def __init__(
        self,
        text: str,
        frame: str,
        names: tuple[str, ...],
        parts: tuple[_Part, ...],
        escape: Callable[[str], str] | None,
    ) -> None:
        """`frame`: the text for the `%` operator, a `%s` for each part."""
        self.text = text
        self.names = names
        self.unknown = tuple(name for name, part in zip(names, parts, strict=True) if part.get is None)
        self._frame = frame
        self._parts = parts
        self._escape = escape

    @property
    def is_constant(self) -> bool:
        """Whether there is no variable in it."""
        return not self._parts

    def __call__(self, ctx: Context) -> str:
        return self.resolve(ctx)[0] if self._parts else self.text

    def resolve(self, ctx: Context) -> tuple[str, int]:
        """The text for a request, and how many of its variables had a value or a default (as APISIX counts)."""
        if not self._parts:
            return self.text, 0
        count = 0
        values: list[str] = []
        escape = self._escape
        for get, default in self._parts:
            value = None if get is None else get(ctx)
            if value is None:
                value = default
            if value is None:
                values.append("")
            else:
                count += 1
                values.append(value if escape is None else escape(value))
        return self._frame % tuple(values), count


def compile_template(
    text: str,
    *,
    find: Finder = find_variable,
    escape: Callable[[str], str] | None = None,
) -> Template:
    """Settle a text in APISIX's form: `$name`, `${name}`, `${name ?? default}`; without a value a variable is empty.

    `find`: another source of variables, such as one that knows names of its own first. `escape`: applied to each value.
    """
    names: list[str] = []
    parts: list[_Part] = []

    def place(match: re.Match[str]) -> str:
        name, *rest = _DEFAULT.split(match[1] or match[2])
        names.append(name)
        parts.append(_Part(find(name), rest[0] if rest else None))
        return "%s"

    frame = _VARIABLE.sub(place, text.replace("%", "%%"))
    return Template(text, frame, tuple(names), tuple(parts), escape)
