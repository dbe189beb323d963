"""One resource as a worker holds it: kept as long as its content hash, decoded when first used.

An entry is replaced, never changed, so "is my parent still the one I was made from" is a comparison of identities. What
carries state from request to request (an upstream's balancer) hangs on the entry that the upstream is written in, and
moves on to the entry that replaces it as long as the upstream itself stays equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from gw.model.digest import decode_resource, entry_hash
from gw.model.keys import ResourceKey
from gw.model.routing import RouteKey
from gw.model.service import Service
from gw.model.upstream import Upstream
from gw.pipeline.route import CompiledRoute, UpstreamRuntime, compile_upstream
from gw.upstream.target import KeepAlive

V = TypeVar("V")


class Blob(Protocol):
    """Where a resource's canonical bytes are: in a base, or copied from the log."""

    def blob(self) -> bytes:
        """The bytes. Raises SegmentError when they are damaged or gone."""
        ...


class CopiedBlob:
    """Bytes that were copied from the log, where they are soon overwritten."""

    __slots__ = ("_bytes",)

    def __init__(self, copied: bytes) -> None:
        self._bytes = copied

    def blob(self) -> bytes:
        return self._bytes


class Entry:
    """What all kinds share. `mark` is what the resource adds to the digest; `source` is where its bytes are."""

    __slots__ = ("_runtime", "hash", "key", "mark", "source")

    def __init__(self, key: ResourceKey, hash: int, source: Blob) -> None:
        self.key = key
        self.hash = hash
        self.mark = entry_hash(key, hash)
        self.source = source
        self._runtime: tuple[Upstream, UpstreamRuntime] | None = None

    def replaces(self, other: Entry) -> None:
        """Go on with the state of the entry that this one takes the place of."""
        self._runtime = other._runtime

    def runtime_of(self, upstream: Upstream, keepalive: KeepAlive) -> UpstreamRuntime:
        """What requests to the upstream written in this resource share: the same object while it stays equal."""
        if self._runtime is None or self._runtime[0] != upstream:
            self._runtime = (upstream, compile_upstream(upstream, keepalive))
        return self._runtime[1]

    def decode(self) -> dict[str, object]:
        """The resource. Raises SegmentError."""
        return decode_resource(self.source.blob())


class _Decoded(Entry, Generic[V]):
    """An entry whose value is kept once it was asked for."""

    __slots__ = ("_value",)

    def __init__(self, key: ResourceKey, hash: int, source: Blob) -> None:
        super().__init__(key, hash, source)
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
        return self._decode(lambda: Service.from_dict(self.key.id, self.decode()))


class UpstreamEntry(_Decoded[Upstream]):
    __slots__ = ()

    @property
    def value(self) -> Upstream:
        """The upstream. Raises SegmentError."""
        return self._decode(lambda: Upstream.from_dict(self.decode(), self.key.id))


class RouteEntry(Entry):
    """A route that the index leads to, and what it was last compiled into. See `gw.rebuild.state` for when that holds.

    The route itself is not kept decoded: it is needed to compile, and that happens again only when a parent changes.
    """

    __slots__ = ("compiled", "parents", "routing", "settled_at")

    def __init__(self, key: ResourceKey, hash: int, source: Blob, routing: RouteKey) -> None:
        super().__init__(key, hash, source)
        self.routing = routing
        self.compiled: CompiledRoute | None = None
        self.parents: tuple[tuple[ResourceKey, Entry | None], ...] = ()
        self.settled_at = -1  # the generation in which `compiled` was last found to hold
