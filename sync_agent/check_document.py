"""`python -m sync_agent.check_document -c CONFIG`: judge the document that the agent would read, and start nothing.

`gw test` runs it, since only the agent's code knows what it accepts. Standard output: warnings, and how many resources
there are. Standard error: each resource that would not be served, with its place. Exits with 0 without any, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gw.errors import ConfigError, InvalidResource
from gw.model.keys import ResourceKey
from gw.schema import PluginSchemas, load_plugin_schemas
from gw.settings import AgentSettings, load_agent_settings
from sync_agent.encryption import Protection
from sync_agent.encryption.provision import load_protection
from sync_agent.intake import admit
from sync_agent.stores import FILE_SCHEMES
from sync_agent.stores.standalone.document import InvalidDocument, named_items, read_document, value_of


class Finding(NamedTuple):
    """What is wrong at a place (`routes[2] (routes/7).uri`, empty for the whole document). Else it is a warning."""

    place: str
    reason: str
    is_refused: bool

    def __str__(self) -> str:
        text = f"{self.place}: {self.reason}" if self.place else self.reason
        return text if self.is_refused else f"warning: {text}"


def document_of(store_url: str) -> tuple[Path, str] | None:
    """The file and its form (yaml, json) that a store's URL names; None for a store of another kind."""
    for scheme, form in FILE_SCHEMES.items():
        if store_url.startswith(scheme):
            return Path(store_url.removeprefix(scheme)), form
    return None


class Check:
    """How the agent of these settings judges a document. Makes no keyring. Raises ConfigError."""

    def __init__(self, settings: AgentSettings, environ: Mapping[str, str]) -> None:
        self._limits = settings.settings.gw.limits
        self._allow_code = settings.settings.gw.allow_code
        self._environ = environ
        self._plugins: PluginSchemas = load_plugin_schemas(settings.settings.plugins)
        keyring_file = settings.keyring_file
        if keyring_file is not None and not keyring_file.exists():
            settings = replace(settings, keyring_file=None)
        self._protection: Protection = load_protection(settings, self._plugins)
        self.resources = 0

    def findings(self, raw: bytes, form: str) -> Iterator[Finding]:
        """What is to be said of a document in a file, in its order."""
        try:
            document = read_document(raw, form, self._limits.document_bytes, needs_end=form == "yaml")
        except InvalidDocument as error:
            yield Finding("", str(error), is_refused=True)
            return
        notes: list[str] = []
        seen: set[ResourceKey] = set()
        for named in named_items(document, notes.append, self._environ):
            self.resources += 1
            place = f"{named.kind}[{named.index}] ({named.key})"
            if named.key in seen:
                yield Finding(place, "stands there more than once; the last one counts", is_refused=False)
            seen.add(named.key)
            value = value_of(named, self._environ)
            if value.refusal:
                yield Finding(place, value.refusal, is_refused=True)
            elif (finding := self._judge(named.key, value.raw, place)) is not None:
                yield finding
        for note in notes:
            yield Finding("", note, is_refused=False)

    def _judge(self, key: ResourceKey, raw: bytes, place: str) -> Finding | None:
        bounds = (self._limits.resource_bytes, self._plugins, self._protection)
        is_refused = True
        try:
            admit(key, raw, *bounds)
            is_refused = False
            # It is published, and may answer 500 (a plugin that is not enabled, a condition that nobody can ask).
            admit(key, raw, *bounds, refuse_unknown=True, allow_code=self._allow_code)
        except InvalidResource as error:
            at = f"{place}: {error.path}" if error.path else place
            reason = error.reason if is_refused else f"the Admin API would refuse it: {error.reason}"
            return Finding(at, reason, is_refused)
        return None


def main(arguments: list[str] | None = None) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m sync_agent.check_document")
    parser.add_argument("-c", "--config", required=True)
    try:
        settings = load_agent_settings(Path(parser.parse_args(arguments).config))
        found = document_of(settings.store_url)
        if found is None:
            raise ConfigError("gw.store", "is no document in a file")
        path, form = found
        raw = path.read_bytes()
        check = Check(settings, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{path}: cannot be read: {error.strerror}", file=sys.stderr)
        return 1
    is_fit = True
    for finding in check.findings(raw, form):
        is_fit = is_fit and not finding.is_refused
        print(f"{path}: {finding}", file=sys.stderr if finding.is_refused else sys.stdout)
    if is_fit:
        print(f"{path}: ok ({check.resources} resources)")
    return 0 if is_fit else 1


if __name__ == "__main__":
    sys.exit(main())
