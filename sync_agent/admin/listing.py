"""What a list shows: which resources the filters let through, and which of them a page holds. No I/O.

Patterns come from the caller, and Python's `re` can be made to run for ages by a pattern with repetition. So patterns
are the part of regular expressions that runs in linear time: literals, `.`, classes, escapes and anchors. What needs
repetition, alternation or groups is refused, not misread.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping
from typing import Any, Final

from gw.model.operations import Item, List

# Repetition, alternation and groups. Outside a class only; inside one they are literals, but refusing them is simpler.
_BEYOND_LINEAR: Final = frozenset("*+?{|()")
# As long as the longest name a resource may have, so that each name can be asked for in full.
_LONGEST_PATTERN: Final = 256


class InvalidFilter(ValueError):
    """A filter that cannot be used. Its text names the parameter."""


class Filter:
    """The filters of one list. Raises InvalidFilter for a pattern that is not one, or could run long."""

    def __init__(self, wanted: List) -> None:
        self._name = _pattern("name", wanted.name)
        self._uri = _pattern("uri", wanted.uri)
        self._label = wanted.label
        references = (("service_id", wanted.service_id), ("upstream_id", wanted.upstream_id))
        self._references = tuple((field, id) for field, id in references if id is not None)

    def passes(self, resource: Mapping[str, Any]) -> bool:
        """Is this resource one of those asked for? All filters that are given must agree."""
        return (
            self._passes_name(resource)
            and self._passes_uri(resource)
            and self._passes_label(resource)
            and self._passes_references(resource)
        )

    def _passes_name(self, resource: Mapping[str, Any]) -> bool:
        if self._name is None:
            return True
        name = resource.get("name")
        return isinstance(name, str) and self._name.search(name) is not None

    def _passes_uri(self, resource: Mapping[str, Any]) -> bool:
        if self._uri is None:
            return True
        uris = resource.get("uris")
        candidates = [resource.get("uri"), *(uris if isinstance(uris, list) else ())]
        return any(isinstance(uri, str) and self._uri.search(uri) for uri in candidates)

    def _passes_label(self, resource: Mapping[str, Any]) -> bool:
        if self._label is None:
            return True
        labels = resource.get("labels")
        return isinstance(labels, dict) and self._label in labels

    def _passes_references(self, resource: Mapping[str, Any]) -> bool:
        """An id is text or a number, and `"1"` names what `1` names."""
        return all(field in resource and str(resource[field]) == id for field, id in self._references)


class PageOf:
    """Keeps one page of what it is given, in the order of creation, and no more items than the pages up to it hold."""

    def __init__(self, page: int, page_size: int) -> None:
        self._first = (page - 1) * page_size
        self._end = page * page_size
        # A heap whose root is the youngest of the oldest `_end` items: negated, because heapq keeps the smallest there.
        self._oldest: list[tuple[int, int, Item]] = []
        self._given = 0

    def add(self, item: Item) -> None:
        """Take an item into account. Items created at one revision keep the order in which they are given."""
        self._given += 1
        entry = (-item.create_revision, -self._given, item)
        if len(self._oldest) < self._end:
            heapq.heappush(self._oldest, entry)
        else:
            heapq.heappushpop(self._oldest, entry)

    def items(self) -> tuple[Item, ...]:
        """The page, once everything is given."""
        ordered = sorted(self._oldest, key=lambda entry: (-entry[0], -entry[1]))
        return tuple(item for _, _, item in ordered[self._first : self._end])


def _pattern(parameter: str, text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    if len(text) > _LONGEST_PATTERN:
        raise InvalidFilter(f"invalid argument {parameter}: a pattern has at most {_LONGEST_PATTERN} characters")
    if _BEYOND_LINEAR & set(re.sub(r"\\.", "", text, flags=re.DOTALL)):
        raise InvalidFilter(
            f"invalid argument {parameter}: repetition, alternation and groups are not supported in a pattern"
        )
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidFilter(f"invalid argument {parameter}: {error}") from None
