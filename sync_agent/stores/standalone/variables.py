"""`${{VAR}}` and `${{VAR:=default}}` in a document of resources, by APISIX's rules (apisix/cli/file.lua).

In names of members as in values. A value that a variable had a part in and that then reads as a number or as true or
false is one: so `"${{PORT}}"` is a port. (The settings have the same notation and other rules: there a declared type
decides, see gw/settings/environment.py.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gw.settings.environment import replace_variables

# What Lua's tonumber takes and JSON can carry.
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_HEXADECIMAL: Final = re.compile(r"[+-]?0[xX][0-9a-fA-F]{1,15}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)
_BOOLEANS: Final = {"true": True, "false": False}


def resolve(value: Any, environ: Mapping[str, str]) -> Any:
    """The value with its variables replaced; a value without any is returned as it is.

    Raises gw.settings.Refused with the variable that is not set and the place where it stands.
    """
    return _resolve(value, environ, "")


def _resolve(value: Any, environ: Mapping[str, str], at: str) -> Any:
    if isinstance(value, str):
        return value if "${{" not in value else _typed(replace_variables(value, environ, at), value)
    if isinstance(value, list):
        return [_resolve(item, environ, f"{at}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {_name(key, environ, at): _resolve(item, environ, f"{at}.{key}") for key, item in value.items()}
    return value


def _name(key: str, environ: Mapping[str, str], at: str) -> str:
    return key if "${{" not in key else replace_variables(key, environ, f"{at}.{key}")


def _typed(text: str, written: str) -> str | int | float | bool:
    if text == written:
        return text
    stripped = text.strip()
    if _INTEGER.fullmatch(stripped):
        return int(stripped)
    if _HEXADECIMAL.fullmatch(stripped):
        return int(stripped, 16)
    if _DECIMAL.fullmatch(stripped):
        return float(stripped)
    return _BOOLEANS.get(text, text)
