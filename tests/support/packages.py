"""Installed distributions as pip leaves them, made in a directory of a test's own: metadata, modules, data files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A plugin whose module leaves a file behind for each process that imports it.
GREETING = """\
import os
from pathlib import Path

from gw.plugins.api import Context, Plugin

(Path(__file__).parent / f"imported-by-{os.getpid()}").touch()


class Greeting(Plugin):
    name = "greeting"
    priority = 10
    version = "1.2"

    def header_filter(self, ctx: Context) -> None:
        ctx.response.set_header("x-greeting", self.conf["text"])
"""
GREETING_SCHEMA = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 2}, "loud": {"type": "boolean", "default": False}},
    "required": ["text"],
}
GREETING_METADATA_SCHEMA = {"type": "object", "properties": {"language": {"type": "string", "default": "en"}}}


def install(
    directory: Path, distribution: str, plugins: Mapping[str, str], files: Mapping[str, str | Mapping[str, Any]]
) -> None:
    """A distribution whose entry points are `plugins` (name -> module:Class), with files; a mapping becomes JSON."""
    info = directory / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    entries = "".join(f"{name} = {value}\n" for name, value in plugins.items())
    (info / "entry_points.txt").write_text(f"[gw.plugins]\n{entries}")
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def install_greeting(directory: Path, package: str = "jwtest_greeting") -> Path:
    """The plugin `greeting` of a third party; the directory in which importing it leaves files."""
    install(
        directory,
        package.replace("_", "-"),
        {"greeting": f"{package}.parts.greeting:Greeting"},
        {
            f"{package}/__init__.py": "",
            f"{package}/parts/__init__.py": "",
            f"{package}/parts/greeting.py": GREETING,
            f"{package}/parts/schemas/greeting.json": GREETING_SCHEMA,
            f"{package}/parts/schemas/greeting.metadata.json": GREETING_METADATA_SCHEMA,
        },
    )
    return directory / package / "parts"
