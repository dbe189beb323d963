"""YAML to JSON values, strictly: a document of resources, however large, in one pass over libyaml's events.

Not by a loader: PyYAML's resolves each scalar in Python (4 s for 10,000 routes, where this takes 1 s), keeps the last
of two equal keys without a word, and lets aliases come to any size. Beyond JSON there are aliases, merges (`<<`) and
the core tags of YAML 1.1, which is what lyaml reads, APISIX's reader; a date stays text, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from gw.schema.screen import MAX_DEPTH
from gw.settings.yaml_file import reason_of

# The document and the list of a kind stand above a resource.
_MAX_NESTING: Final = MAX_DEPTH + 2
_MERGE: Final = "<<"
_CORE: Final = "tag:yaml.org,2002:"
# What a node counts for, where aliases are written out, beside the characters of its text.
_NODE_BYTES: Final = 2

_LOADER: Final[type] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVERS: Final[Mapping[str, Sequence[tuple[str, Any]]]] = yaml.SafeLoader.yaml_implicit_resolvers


class _Refused(yaml.MarkedYAMLError):
    """What is YAML, and no document of ours. Its text quotes names at most."""


def parse_yaml(raw: bytes, limit_bytes: int) -> Any:
    """The value of a YAML text; None when it holds none.

    `limit_bytes` bounds what its aliases come to when they are written out. Raises ValueError with the line and the
    reason; no value is quoted, since it may be a secret.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start})") from None
    builder = _Builder(limit_bytes)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except _Refused as error:
        mark = error.problem_mark
        assert mark is not None
        raise ValueError(f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(reason_of(error, text)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"is not valid YAML: {str(error).splitlines()[0]}") from None
    return builder.value


@dataclass(slots=True)
class _Open:
    """A mapping or sequence whose end has not come. `key` waits for its value; `merged` are those of `<<`."""

    value: dict[str, Any] | list[Any]
    start: yaml.CollectionStartEvent
    size: int = _NODE_BYTES
    key: str | None = None
    merged: list[dict[str, Any]] = field(default_factory=list)


class _Builder:
    def __init__(self, limit_bytes: int) -> None:
        self.value: Any = None
        self._limit_bytes = limit_bytes
        self._documents = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._written_out_bytes = 0
        self._plain: dict[str, Any] = {}  # text -> value: documents repeat their scalars

    def take(self, event: yaml.Event) -> None:
        """One event. Raises _Refused."""
        take = _TAKES.get(type(event))
        if take is not None:
            take(self, event)

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            raise _refused("a second document begins here; there may be one", event)

    def _mapping(self, event: yaml.MappingStartEvent) -> None:
        self._begin({}, event, "map")

    def _sequence(self, event: yaml.SequenceStartEvent) -> None:
        self._begin([], event, "seq")

    def _begin(self, value: dict[str, Any] | list[Any], event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _CORE + kind):
            raise _refused(f"the tag {event.tag!r} has no meaning here", event)
        if len(self._open) >= _MAX_NESTING:
            raise _refused(f"nested more than {_MAX_NESTING} levels deep", event)
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            raise _refused("a key must be text or a number", event)
        self._open.append(_Open(value, event))

    def _end(self, _event: yaml.CollectionEndEvent) -> None:
        done = self._open.pop()
        for more in done.merged:
            assert isinstance(done.value, dict)
            # What is written in the mapping itself wins, then the first of several.
            done.value.update({key: value for key, value in more.items() if key not in done.value})
        self._put(done.value, done.size, done.start.anchor, done.start)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.value, dict) and top.key is None:
            key = event.value
            if key in top.value:
                raise _refused(f"key {key!r} is written twice", event)
            top.key = key
            top.size += len(key) + _NODE_BYTES
            if event.anchor:
                self._anchors[event.anchor] = (key, len(key) + _NODE_BYTES)
            return
        self._put(self._value_of(event), len(event.value) + _NODE_BYTES, event.anchor, event)

    def _alias(self, event: yaml.AliasEvent) -> None:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            raise _refused("an alias of what is not there, or of what it stands in", event)
        value, size = found
        self._written_out_bytes += size
        if self._written_out_bytes > self._limit_bytes:
            raise _refused(f"aliases come to more than {self._limit_bytes} bytes when written out", event)
        self._put(value, size, None, event)

    def _put(self, value: Any, size: int, anchor: str | None, event: Any) -> None:
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.value = value
            return
        top = self._open[-1]
        top.size += size
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is None:
            raise _refused("a key must be written out", event)
        elif top.key == _MERGE:
            top.merged += _mappings_of(value, event)
            top.key = None
        else:
            top.value[top.key] = value
            top.key = None

    def _value_of(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if event.tag is None and event.implicit[0]:
            if text not in self._plain:
                self._plain[text] = _construct(_tag_of(text), text, event)
            return self._plain[text]
        if event.tag in (None, "!"):
            return text
        if event.tag is None or event.tag not in _CONSTRUCTORS:
            raise _refused(f"the tag {event.tag!r} has no meaning here", event)
        return _construct(event.tag, text, event)


_TAKES: Final[dict[type, Callable[[_Builder, Any], None]]] = {
    yaml.ScalarEvent: _Builder._scalar,
    yaml.MappingStartEvent: _Builder._mapping,
    yaml.MappingEndEvent: _Builder._end,
    yaml.SequenceStartEvent: _Builder._sequence,
    yaml.SequenceEndEvent: _Builder._end,
    yaml.AliasEvent: _Builder._alias,
    yaml.DocumentStartEvent: _Builder._document,
}


def _mappings_of(value: Any, event: Any) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) for each in found):
        raise _refused("<< takes a mapping or a list of mappings", event)
    return found


def _tag_of(text: str) -> str:
    for tag, pattern in _RESOLVERS.get(text[:1], ()):
        if pattern.match(text):
            return tag
    return _CORE + "str"


_scalars: Final = yaml.constructor.SafeConstructor()
_CONSTRUCTORS: Final[dict[str, Callable[[Any], Any]]] = {
    _CORE + "null": lambda _: None,
    _CORE + "bool": _scalars.construct_yaml_bool,
    _CORE + "int": _scalars.construct_yaml_int,
    _CORE + "float": _scalars.construct_yaml_float,
    _CORE + "str": lambda node: node.value,
}


def _construct(tag: str, text: str, event: yaml.ScalarEvent) -> Any:
    construct = _CONSTRUCTORS.get(tag)
    if construct is None:  # a date, or `=`: text, as for lyaml
        return text
    try:
        return construct(yaml.ScalarNode(tag, text))
    except (ValueError, KeyError, IndexError):
        raise _refused(f"is not a {tag.removeprefix(_CORE)}, or one that is too long", event) from None


def _refused(problem: str, event: Any) -> _Refused:
    return _Refused(problem=problem, problem_mark=event.start_mark)
