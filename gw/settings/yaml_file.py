"""Reading a configuration file: strict YAML, and who may read a file that holds secrets.

Only the safe loader, which makes plain data. A key written twice is an error (YAML readers otherwise keep the last one
silently). An error text never quotes the line, because the line may hold a secret.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import yaml

from gw.errors import ConfigError

# The complete default file has 10 KB; whatever is this big is not a configuration file, and YAML is slow to read.
MAX_FILE_BYTES: Final = 4 * 1024 * 1024

# More than the one character that "found character '@' that cannot start any token" is about.
_QUOTED: Final = re.compile(r"'[^']{2,}'|\"[^\"]{2,}\"")


class _DuplicateKey(yaml.MarkedYAMLError):
    """One mapping names a key twice."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a mapping with one key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Keys that come in through a merge (`<<`) may be overridden: only what is written in this mapping is compared.
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = key_node.value
            line = key_node.start_mark.line + 1
            if key in seen:
                raise _DuplicateKey(
                    problem=f"key {key!r} is written twice, first in line {seen[key]}", problem_mark=key_node.start_mark
                )
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def read_settings_file(path: Path) -> dict[str, Any]:
    """The mapping a configuration file holds; an empty file is an empty mapping, so all defaults.

    Raises ConfigError when the file cannot be read, is not UTF-8, not YAML, or not a mapping.
    """
    return _parse(_read(path, private=False), path)


def read_private_file(path: Path) -> dict[str, Any] | None:
    """As `read_settings_file` for a file with secrets; None when there is no such file.

    Raises ConfigError too when anyone but its owner could read or write it, or its owner is neither we nor root.
    """
    try:
        return _parse(_read(path, private=True), path)
    except FileNotFoundError:
        return None


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with path.open("rb") as file:
            if private:
                _check_private(os.fstat(file.fileno()), path)
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if private:
            raise
        raise ConfigError("", "there is no such file; give one with -c", source=str(path)) from None
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}", source=str(path)) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError("", f"is larger than {MAX_FILE_BYTES} bytes", source=str(path))
    return content


def _check_private(status: os.stat_result, path: Path) -> None:
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            "", f"holds secrets, but its mode {mode:04o} lets others at it: chmod 600 {path}", source=str(path)
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError("", f"belongs to uid {status.st_uid}, neither ours nor root's", source=str(path))


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("", f"is not UTF-8 (byte {error.start})", source=str(path)) from None
    try:
        # S506 asks for safe_load; this loader is a SafeLoader.
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        raise ConfigError("", reason_of(error, text), source=str(path)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ReaderError quotes one character only; ValueError is a date such as 2024-99-99.
        reason = str(error).splitlines()[0] if str(error) else "nested too deep"
        raise ConfigError("", f"is not valid YAML: {reason}", source=str(path)) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("", f"must hold a mapping of settings, not a {type(value).__name__}", source=str(path))
    return value


def reason_of(error: yaml.MarkedYAMLError, text: str) -> str:
    """What is wrong with a YAML text and where, without a value of it."""
    # What YAML takes for an alias or a tag may be a password that should have been quoted (`*secret`).
    problem = error.problem if isinstance(error, _DuplicateKey) else _QUOTED.sub("'...'", error.problem or "")
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"is not valid YAML: {problem}"
    lines = text.splitlines()
    hint = ""
    if mark.line < len(lines) and "${{" in lines[mark.line]:
        hint = " (inside [ ] or { } put quotes around ${{...}})"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{hint}"
