"""What a list shows: which resources the filters let through, and which of them a page holds. No I/O.

A list is taken page by page of the store, and only what is yet to be decided is kept: a page of the caller's, and
resources under the names that APISIX 2.x gave them, which count where there is none under the newer name.
"""

from __future__ import annotations

import contextlib
import heapq
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from gw.model.keys import OLD_NAMES, ResourceKey, credential_key, has_old_name, parse_store_key
from gw.model.operations import Item, List
from sync_agent.admin.pattern import Search, compile_search
from sync_agent.admin.stored import StoredValueError, parse_stored
from sync_agent.stores.base import KeyValue

# Of a page that ends behind more than these, in the order of creation, keys alone are kept: two of the longest pages.
KEPT_ITEMS: Final = 1000


class InvalidFilter(ValueError):
    """A filter that cannot be used. Its text names the parameter."""


class Filter:
    """The filters of one list. Raises InvalidFilter for a pattern that cannot be searched for."""

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
        return isinstance(name, str) and self._name(name)

    def _passes_uri(self, resource: Mapping[str, Any]) -> bool:
        if self._uri is None:
            return True
        uris = resource.get("uris")
        candidates = [resource.get("uri"), *(uris if isinstance(uris, list) else ())]
        return any(isinstance(uri, str) and self._uri(uri) for uri in candidates)

    def _passes_label(self, resource: Mapping[str, Any]) -> bool:
        if self._label is None:
            return True
        labels = resource.get("labels")
        return isinstance(labels, dict) and self._label in labels

    def _passes_references(self, resource: Mapping[str, Any]) -> bool:
        """An id is text or a number, and `"1"` names what `1` names."""
        return all(field in resource and str(resource[field]) == id for field, id in self._references)


class Candidate(NamedTuple):
    """What may stand on a page. `store_key` is where it lies, also under a name that APISIX 2.x gave it."""

    store_key: str
    item: Item


class PageOf:
    """Keeps one page of what it is given, in the order of creation.

    Up to the end of the page there may be few resources or nearly all there are. Few are kept as they are; of more, the
    keys alone, and those of the page are to be read again.
    """

    def __init__(self, page: int, page_size: int) -> None:
        self._first = (page - 1) * page_size
        self._end = page * page_size
        self._keeps_items = self._end <= KEPT_ITEMS
        # A heap whose root is the youngest of the oldest `_end` items: negated, because heapq keeps the smallest there.
        self._oldest: list[tuple[int, int, Item]] = []
        self._given = 0
        # Of all that was given, where no items are kept.
        self._created = array("Q")
        self._keys: list[str] = []

    def add(self, candidate: Candidate) -> None:
        """Take an item into account. Items created at one revision keep the order in which they are given."""
        item = candidate.item
        if not self._keeps_items:
            self._created.append(item.create_revision)
            self._keys.append(candidate.store_key)
            return
        self._given += 1
        entry = (-item.create_revision, -self._given, item)
        if len(self._oldest) < self._end:
            heapq.heappush(self._oldest, entry)
        else:
            heapq.heappushpop(self._oldest, entry)

    def items(self) -> tuple[Item, ...]:
        """The page, once everything is given; empty where it is to be read again."""
        ordered = sorted(self._oldest, key=lambda entry: (-entry[0], -entry[1]))
        return tuple(item for _, _, item in ordered[self._first : self._end])

    def keys_to_read(self) -> tuple[str, ...]:
        """The store's keys of the page, once everything is given; empty where `items` has it."""
        ordered = sorted(range(len(self._keys)), key=self._created.__getitem__)
        return tuple(self._keys[number] for number in ordered[self._first : self._end])


# Makes the item that is shown of a resource: its key, as it lies in the store, and parsed.
ItemOf = Callable[[ResourceKey, KeyValue, dict[str, Any]], Item]


class Shown:
    """What one list shows of what the store holds below `below`, which is to be given in the store's order."""

    def __init__(self, wanted: List, item_of: ItemOf) -> None:
        """Raises InvalidFilter."""
        self._wanted = wanted
        self._passing = Filter(wanted)
        self._item_of = item_of
        self._page = None if wanted.page_size is None else PageOf(wanted.page, wanted.page_size)
        # By id; None where the filter lets it not through.
        self._old: dict[str, Candidate | None] = {}
        self._total = 0
        self.is_empty = True  # no resource of the kind was there at all

    @property
    def below(self) -> str:
        """Where in the store all that may be shown lies. An older name begins the newer one, and is a range with it."""
        if self._wanted.parent is not None:
            return str(credential_key(self._wanted.parent, ""))
        return next((old for old, kind in OLD_NAMES.items() if kind == self._wanted.kind), f"{self._wanted.kind}/")

    def take(self, stored: Iterable[KeyValue]) -> list[Item]:
        """What can be sent already. A value that is no JSON object is left out: the agent's status names it."""
        return [candidate.item for candidate in self._passing_items(stored) if self._is_sent_now(candidate)]

    def finish(self) -> tuple[tuple[Item, ...], int]:
        """What is to be sent after all that was, and how many there are on all pages."""
        kept = [each.item for each in self._old.values() if each is not None and self._is_sent_now(each)]
        return tuple(kept) if self._page is None else self._page.items(), self._total

    def keys_to_read(self) -> tuple[str, ...]:
        """After `finish`: what else is to be sent, read again and given to `take_again` in this order."""
        return () if self._page is None else self._page.keys_to_read()

    def take_again(self, kv: KeyValue) -> Item | None:
        """What was on the page a moment ago, as it is now; None where it no longer belongs into the list."""
        key = parse_store_key(kv.key)
        candidate = None if key is None else self._passing_item(key, kv)
        return None if candidate is None else candidate.item

    def _passing_items(self, stored: Iterable[KeyValue]) -> Iterator[Candidate]:
        for kv in stored:
            key = parse_store_key(kv.key)
            if key is None or key.kind != self._wanted.kind:
                continue
            self.is_empty = False
            candidate = self._passing_item(key, kv)
            if has_old_name(kv.key):
                self._old[key.id] = candidate
                continue
            self._old.pop(key.id, None)
            if candidate is not None:
                yield candidate

    def _passing_item(self, key: ResourceKey, kv: KeyValue) -> Candidate | None:
        with contextlib.suppress(StoredValueError):
            resource = parse_stored(kv.value)
            if self._passing.passes(resource):
                return Candidate(kv.key, self._item_of(key, kv, resource))
        return None

    def _is_sent_now(self, candidate: Candidate) -> bool:
        self._total += 1
        if self._page is not None:
            self._page.add(candidate)
        return self._page is None


def _pattern(parameter: str, text: str | None) -> Search | None:
    if text is None:
        return None
    try:
        return compile_search(text)
    except ValueError as error:
        raise InvalidFilter(f"invalid argument {parameter}: {error}") from None
