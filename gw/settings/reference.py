"""The default file, written from the declarations: `python -m gw.settings.reference > conf/config-default.yaml`.

A test keeps the file in the repository equal to what this prints.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from typing import Final

import yaml

from gw.settings.agent_tree import AgentTree
from gw.settings.declare import Section, Setting, members
from gw.settings.encryption import DataEncryption
from gw.settings.tree import Settings

_WIDTH: Final = 118
_AGENT_MODULES: Final = frozenset({AgentTree.__module__, DataEncryption.__module__})

_HEAD: Final = """\
# All settings of Jitterway with their defaults. Do not edit: this file is written from the code (gw/settings) and not
# read by it. What you want to differ goes into config.yaml, under the same names; a wrong or unknown name stops the
# start. Names are those of Apache APISIX 3.x where it has them; ours are under gw.
#
# In any string ${{NAME}} is replaced by the environment variable NAME, and ${{NAME:=default}} by the default where NAME
# is not set. A key that is absent or null has its default.
# Times: a number of seconds, or 500ms, 60s, 4m, 1h, 1d. Sizes: a number of bytes, or 64k, 8m, 1g.
# Keys marked [agent] are read by the sync agent alone, and may stand in agent.yaml (mode 0600) beside config.yaml
# instead.
"""


def render_defaults() -> str:
    """The text of conf/config-default.yaml."""
    return _HEAD + "\n".join([*_section_lines((Settings, AgentTree), 0)]) + "\n"


def _section_lines(trees: tuple[type, ...], depth: int) -> Iterator[str]:
    """Lines of one level, where the same section may be declared in the worker's and in the agent's tree."""
    merged: dict[str, list[Section]] = {}
    leaves: list[str] = []
    for tree in trees:
        for _, declared in members(tree):
            if isinstance(declared, Section):
                merged.setdefault(declared.key, []).append(declared)
            else:
                leaves += _setting_lines(declared, depth, agent=tree.__module__ in _AGENT_MODULES)
    if depth == 0 and leaves:
        yield ""
    yield from leaves
    for key, sections in merged.items():
        if depth == 0:
            yield ""
        yield f"{'  ' * depth}{key}:"
        yield from _section_lines(tuple(section.cls for section in sections), depth + 1)


def _setting_lines(declared: Setting, depth: int, *, agent: bool) -> Iterator[str]:
    indent = "  " * depth
    mark = "[agent] " if agent else ""
    unit = f" (unit: {declared.unit})" if declared.unit else ""
    for text in (f"{mark}{declared.help}", f"Value: {declared.kind.form}{unit}."):
        yield from textwrap.wrap(
            text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
        )
    yield f"{indent}{declared.key}: {_flow(declared.default)}"


def _flow(value: object) -> str:
    """A value on one line, as YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000, explicit_end=False).removesuffix("...\n").strip()


if __name__ == "__main__":
    sys.stdout.write(render_defaults())
