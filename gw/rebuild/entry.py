"""One resource as a worker holds it: kept as long as its content hash, decoded when first used.

An entry is replaced, never changed, so "is my parent still the one I was made from" is a comparison of identities. Only
where its bytes lie moves, when the base it was read from makes room for a newer one. What carries state from request to
request (an upstream's balancer) hangs on the entry that the upstream is written in, and moves on to the entry that
replaces it as long as the upstream itself stays equal.

100,000 of these are held, most of them never asked for: what a resource becomes when it is first used is one more
object, made then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from gw.model.digest import decode_resource
from gw.model.keys import ResourceKey
from gw.model.plugin_config import PluginConfig
from gw.model.plugin_metadata import PluginMetadata
from gw.model.routing import RouteKey
from gw.model.service import Service
from gw.model.upstream import Upstream
from gw.pipeline.caller import Caller
from gw.pipeline.route import CompiledRoute
from gw.pipeline.upstream import UpstreamRuntime
from gw.shm.base import Chunk
from gw.shm.log import Change

V = TypeVar("V")
CONSUMERS: Final = "consumers"
CREDENTIALS: Final = "credentials"
# (resource in which an upstream is written, the upstream, what it takes the place of) -> what requests to it share.
MakeRuntime = Callable[[ResourceKey, Upstream, UpstreamRuntime | None], UpstreamRuntime]


class Source(Protocol):
    """Where blobs are: a base, or what was copied from the log."""

    def blob(self, key: ResourceKey, hash: int, place: Any) -> bytes:
        """A resource's canonical bytes. Raises SegmentError when they are damaged or gone."""
        ...


class _Copied:
    """For bytes that were copied from the log, where they are soon overwritten: the place is the bytes."""

    def blob(self, key: ResourceKey, hash: int, place: bytes) -> bytes:
        return place


COPIED: Final[Source] = _Copied()


class Entry:
    """What all kinds share. `hash` is what the resource adds to the digest; `source` has its bytes at `place`."""

    __slots__ = ("_runtime", "hash", "id", "kind", "place", "source")

    def __init__(self, kind: str, id: str, hash: int, source: Source, place: Any) -> None:
        self.kind = kind
        self.id = id
        self.hash = hash
        self.source = source
        self.place = place
        self._runtime: tuple[int, UpstreamRuntime] | None = None

    @property
    def key(self) -> ResourceKey:
        return ResourceKey(self.kind, self.id)

    def replaces(self, other: Entry) -> None:
        """Go on with the state of the entry that this one takes the place of."""
        self._runtime = other._runtime

    def runtime_of(self, upstream: Upstream, make: MakeRuntime) -> UpstreamRuntime:
        """What requests to the upstream written in this resource share: the same object while it stays equal."""
        if self._runtime is None or self._runtime[0] != upstream.fingerprint:
            before = None if self._runtime is None else self._runtime[1]
            self._runtime = (upstream.fingerprint, make(self.key, upstream, before))
        return self._runtime[1]

    def decode(self) -> dict[str, object]:
        """The resource. Raises SegmentError."""
        return decode_resource(self.blob())

    def blob(self) -> bytes:
        """Its canonical bytes. Raises SegmentError."""
        return self.source.blob(self.key, self.hash, self.place)

    def copy(self) -> None:
        """Take the bytes out of the base, so that it can go. Raises SegmentError, and has changed nothing then."""
        self.place = self.blob()
        self.source = COPIED


class _Decoded(Entry, Generic[V]):
    """An entry whose value is kept once it was asked for."""

    __slots__ = ("_value",)

    def __init__(self, kind: str, id: str, hash: int, source: Source, place: Any) -> None:
        super().__init__(kind, id, hash, source, place)
        self._value: V | None = None

    def _decode(self, read: Callable[[], V]) -> V:
        if self._value is None:
            self._value = read()
        return self._value


class ServiceEntry(_Decoded[Service]):
    __slots__ = ()

    @property
    def value(self) -> Service:
        """The service. Raises SegmentError."""
        return self._decode(lambda: Service.from_dict(self.id, self.decode()))


class UpstreamEntry(_Decoded[Upstream]):
    __slots__ = ()

    @property
    def value(self) -> Upstream:
        """The upstream. Raises SegmentError."""
        return self._decode(lambda: Upstream.from_dict(self.decode(), self.id))


class PluginConfigEntry(_Decoded[PluginConfig]):
    __slots__ = ()

    @property
    def value(self) -> PluginConfig:
        """The plugin config. Raises SegmentError."""
        return self._decode(lambda: PluginConfig.from_dict(self.id, self.decode()))


class PluginMetadataEntry(_Decoded[PluginMetadata]):
    __slots__ = ()

    @property
    def value(self) -> PluginMetadata:
        """The metadata. Raises SegmentError."""
        return self._decode(lambda: PluginMetadata.from_dict(self.id, self.decode()))


class CredentialEntry(Entry):
    """A consumer or a credential: what may show that a request comes from somebody.

    `shows`: by plugin, the hash under which it stands in the index; None until that was read. `caller`: what was last
    made of it, see gw.rebuild.callers.
    """

    __slots__ = ("caller", "shows")

    def __init__(self, kind: str, id: str, hash: int, source: Source, place: Any) -> None:
        super().__init__(kind, id, hash, source, place)
        self.shows: tuple[tuple[str, int], ...] | None = None
        self.caller: Caller | None = None


class Settled:
    """What a route was last compiled into, and from which parents. See `gw.rebuild.state` for when that holds.

    `rules` are the global rules that are part of it, as one object per version of them.
    """

    __slots__ = ("compiled", "generation", "parents", "rules")

    def __init__(
        self, compiled: CompiledRoute, parents: tuple[tuple[ResourceKey, Entry | None], ...], rules: object
    ) -> None:
        self.compiled = compiled
        self.parents = parents
        self.rules = rules
        self.generation = -1  # in which it was last found to hold


class RouteEntry(Entry):
    """A route that the index leads to.

    The route itself is not kept decoded: it is needed to compile, and that happens again only when a parent changes.
    """

    __slots__ = ("routing", "settled")

    def __init__(self, kind: str, id: str, hash: int, source: Source, place: Any, routing: RouteKey) -> None:
        # PERF: Entry's own, in place: a full rebuild makes 100,000 of these (bench/rebuild.py).
        self.kind = kind
        self.id = id
        self.hash = hash
        self.source = source
        self.place = place
        self._runtime = None
        self.routing = routing
        self.settled: Settled | None = None


_CLASSES: Final[dict[str, type[Entry]]] = {
    "services": ServiceEntry,
    "upstreams": UpstreamEntry,
    "plugin_configs": PluginConfigEntry,
    "plugin_metadata": PluginMetadataEntry,
    CONSUMERS: CredentialEntry,
    CREDENTIALS: CredentialEntry,
}
# RouteKey(*routing) without its Python frame.
_route_key: Final = cast("Callable[[Any], RouteKey]", partial(tuple.__new__, RouteKey))


def entry_of(change: Change) -> Entry:
    """The entry for a resource that was put. Raises TypeError when its routing is not what a route has there."""
    (kind, id), hash, blob, routing = change
    if kind == "routes":
        return RouteEntry(kind, id, hash, COPIED, blob, RouteKey(*routing))
    return _CLASSES.get(kind, Entry)(kind, id, hash, COPIED, blob)


def entries_of(chunk: Chunk, source: Source) -> Sequence[Entry]:
    """The entries for a chunk of a base. Raises TypeError when a route has no routing."""
    kind, ids, hashes, places, routings = chunk
    if kind == "routes":
        routing = map(_route_key, routings)
        rows = zip(ids, hashes, places, routing, strict=True)
        return [RouteEntry(kind, id, hash, source, place, key) for id, hash, place, key in rows]
    make = _CLASSES.get(kind, Entry)
    return [make(kind, id, hash, source, place) for id, hash, place in zip(ids, hashes, places, strict=True)]
