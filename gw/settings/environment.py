"""`${{VAR}}` and `${{VAR:=default}}` inside string values, by APISIX's rules (apisix/cli/file.lua, resolve_conf_var).

A variable that is set wins over the default, also when it is set to nothing; one that is neither set nor has a
default is an error. Names are letters, digits and `_`; blanks inside the braces do not count. APISIX then reads the
whole value as a number or a boolean where it looks like one. Here the declared type decides instead, so a key of
digits alone stays text: the result is marked as EnvText, and the kinds that are not text read it as a YAML scalar.

Values are resolved one setting at a time, when that setting is read: a worker never needs a variable that only the
agent's settings name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gw.settings.declare import Refused

_VARIABLE: Final = re.compile(r"\$\{\{\s*(?P<name>\w+?)\s*(?::=(?P<default>.*?))?\s*\}\}", re.ASCII | re.DOTALL)


class EnvText(str):
    """Text that a variable had a part in, so its type is still open."""

    __slots__ = ()


def substitute(value: object, environ: Mapping[str, str], at: str = "") -> object:
    """The value with every variable in it replaced, in lists and mappings too. Raises Refused naming the variable."""
    if isinstance(value, str):
        return EnvText(replace_variables(value, environ, at, strict=True)) if "${{" in value else value
    if isinstance(value, list):
        return [substitute(item, environ, f"{at}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: substitute(item, environ, f"{at}.{key}") for key, item in value.items()}
    return value


def replace_variables(text: str, environ: Mapping[str, str], at: str = "", *, strict: bool = False) -> str:
    """The text with every variable in it replaced. Raises Refused naming a variable that is not set.

    `strict` refuses text that has `${{` and no variable; without it, as in APISIX, that is text like any other.
    """

    def replace(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = environ.get(name, None if default is None else default.strip())
        if found is None:
            raise Refused(
                f"environment variable {name} is not set; set it, or give a default: ${{{{{name}:=value}}}}", at=at
            )
        return found

    replaced, count = _VARIABLE.subn(replace, text)
    if strict and not count:
        raise Refused("has ${{ without a variable; write ${{NAME}} or ${{NAME:=default}}", at=at)
    return replaced
