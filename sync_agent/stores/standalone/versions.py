"""What becomes of a document that a client puts over another one (`update` of apisix/admin/standalone.lua). Pure.

A client says per kind which version its list is of. A lower version than the one here is refused, an equal one leaves
the kind as it is whatever the list says, a higher one (or none, which counts as the next) replaces it. Within a kind,
an item that brings the `modifiedIndex` it had is left as it was, too: the document shows what was put, and what is
served is the older value, as in APISIX (sync_data in apisix/core/config_yaml.lua).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from gw.model.keys import KINDS, parse_store_key
from sync_agent.stores.standalone.document import (
    DIGEST,
    LAST_MODIFIED,
    MODIFIED_INDEX,
    VERSION_SUFFIX,
    InvalidDocument,
    Value,
    named_items,
    value_of,
)

# Beyond it numbers of JSON are not the same for everybody.
_MAX_VERSION: Final = 2**63


@dataclass(frozen=True, slots=True)
class Standing:
    """What has been accepted: the document as GET shows it, and the values by store key that are served for it."""

    document: Mapping[str, Any]
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def digest(self) -> str | None:
        """What the client called this document. None: there has been none."""
        found = self.document.get(DIGEST)
        return found if isinstance(found, str) else None


def kinds_of_documents() -> tuple[str, ...]:
    """The members of a document that hold resources. Credentials lie among the consumers."""
    return tuple(kind for kind in KINDS if parse_store_key(kind) or parse_store_key(f"{kind}/1"))


def nothing_yet() -> Standing:
    """Where everybody begins."""
    return Standing({f"{kind}{VERSION_SUFFIX}": 0 for kind in kinds_of_documents()})


def check_versions(body: Mapping[str, Any]) -> None:
    """Raises InvalidDocument for a version that is no number."""
    for kind in kinds_of_documents():
        version = body.get(f"{kind}{VERSION_SUFFIX}")
        if version is not None and not is_version(version):
            raise InvalidDocument(f"{kind}{VERSION_SUFFIX} must be a number")


def is_version(version: object) -> bool:
    """Whether this can be a version: a number, of any sign."""
    if isinstance(version, bool) or not isinstance(version, int | float):
        return False
    return isfinite(version) and abs(version) < _MAX_VERSION


def succeed(standing: Standing, body: Mapping[str, Any], digest: str, now_s: float) -> Standing:
    """What stands once `body` has been put at `now_s` (Unix time). Its versions have been checked.

    Raises InvalidDocument for a version that is lower than the one that stands.
    """
    document: dict[str, Any] = {}
    kept_kinds = set()
    for kind in kinds_of_documents():
        name = f"{kind}{VERSION_SUFFIX}"
        current = standing.document.get(name, 0)
        wanted = body.get(name)
        if wanted is not None and wanted < current:
            raise InvalidDocument(f"{name} must be greater than or equal to ({current})")
        document[name] = current + 1 if wanted is None else wanted
        if document[name] == current:
            kept_kinds.add(kind)
        items = (standing.document if kind in kept_kinds else body).get(kind)
        if items:
            document[kind] = items
    document[LAST_MODIFIED] = int(now_s)
    document[DIGEST] = digest
    return Standing(document, _values(document, standing, kept_kinds))


def restored(document: Mapping[str, Any], held: Mapping[str, Value]) -> Standing:
    """What stood, from the document and what was served in the place of some of its items."""
    return Standing(document, {**_own_values(document), **held})


def held_back(standing: Standing) -> dict[str, Value]:
    """The values that are served in the place of what the document says."""
    own = _own_values(standing.document)
    return {key: value for key, value in standing.values.items() if own.get(key) != value}


def _own_values(document: Mapping[str, Any]) -> dict[str, Value]:
    return {str(named.key): value_of(named, None) for named in named_items(document, _ignore)}


def _values(document: Mapping[str, Any], before: Standing, kept_kinds: set[str]) -> dict[str, Value]:
    indexes = {
        str(named.key): named.item.get(MODIFIED_INDEX)
        for named in named_items(before.document, _ignore)
        if isinstance(named.item, dict)
    }
    values: dict[str, Value] = {}
    for named in named_items(document, _ignore):
        key = str(named.key)
        index = named.item.get(MODIFIED_INDEX) if isinstance(named.item, dict) else None
        stays = named.kind in kept_kinds or (index is not None and indexes.get(key) == index)
        found = before.values.get(key) if stays else None
        values[key] = value_of(named, None) if found is None else found
    return values


def _ignore(_note: str) -> None:
    """A client's document may have members of its own, as in APISIX."""
