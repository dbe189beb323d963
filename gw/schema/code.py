"""Code in configuration: where it stands, and whether it may be written.

APISIX runs Lua there, from whoever can write configuration. Here it is Python, and only where the operator says so
(`gw.allow_code`): else an administrator's key would be a login on every host.
"""

import ast
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gw.schema.explain import Complaint
from gw.schema.wording import Place, path_of

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {"routes": ("filter_func", "script"), "services": ("script",)}
# What a text nested without end makes of Python's parser, besides the errors that it is meant to raise.
_NO_PYTHON: Final = (SyntaxError, ValueError, RecursionError, MemoryError)


def code_complaint(kind: str, resource: Mapping[str, Any], *, is_allowed: bool) -> Complaint | None:
    """Why the code in a resource that fits its schema may not be written; None when it may, or there is none."""
    for place, source in _code_in(kind, resource):
        if not is_allowed:
            reason = f"{path_of(place)} is code, which runs only where the setting gw.allow_code is on; here it is off"
            return Complaint(place, reason, stands_alone=True)
        if fault := _fault(source):
            return Complaint(place, f"failed to load '{place[-1]}' string: {fault}", stands_alone=True)
    return None


def _code_in(kind: str, resource: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    for field in _FIELDS.get(kind, ()):
        if field in resource:
            yield (field,), resource[field]
    plugins = resource.get("plugins")
    for name, conf in plugins.items() if isinstance(plugins, dict) else ():
        meta = conf.get("_meta") if isinstance(conf, dict) else None
        if isinstance(meta, dict) and isinstance(meta.get("pre_function"), str):
            yield ("plugins", name, "_meta", "pre_function"), meta["pre_function"]


def _fault(source: str) -> str | None:
    """Why a text is no Python. It is parsed, and never run here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except _NO_PYTHON as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        return f"it is no Python: {error.msg if isinstance(error, SyntaxError) else type(error).__name__}{where}"
    return None
