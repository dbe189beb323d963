"""An agent, a worker, and the truth: what the machine of test_equality drives.

`Worker` is the one place that touches the engine's inside: how a worker is brought up to date step by step, what it
answers, what that answer is made of. `Host` is the agent's side, with a model of its own: plain dictionaries.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from gw.errors import SegmentError
from gw.model.digest import content_hash, digest_of, encode_resource
from gw.model.keys import ResourceKey
from gw.model.merge import Missing
from gw.model.routing import route_key
from gw.pipeline.caller import Caller
from gw.pipeline.context import Context
from gw.pipeline.phases import Phases
from gw.pipeline.route import CompiledRoute
from gw.rebuild.entry import RouteEntry
from gw.rebuild.state import ConfigState, Handle
from gw.schema import validate
from gw.shm.layout import AgentState, Slot
from gw.shm.names import SegmentNames
from gw.shm.reader import Cursor, SnapshotReader
from gw.shm.snapshot import Entry
from gw.shm.writer import Publisher
from tests.router import naive
from tests.shm.world import HandClock
from tests.support.finished import STARTED_S, request
from tests.support.memory_space import MemorySpace
from tests.support.workers import change

NAMES = SegmentNames("equality")
Model = Mapping[ResourceKey, Mapping[str, Any]]
# What a reader calls stale, and more: it looks whether the name leads elsewhere by now.
LONG_S = 5.0


# What a request may be besides path, host and method: no more than conditions ask for.
HEADS: tuple[Context, ...] = tuple(
    Context(request([(b"host", b"x"), *headers], peer=peer), STARTED_S)
    for peer, headers in (("192.0.2.1", []), ("192.0.2.1", [(b"x-a", b"1")]), ("10.0.0.1", []))
)
# Fields of a route, and which of these requests meet them. What cannot be asked is met by all, and answers 500.
CONDITIONS: tuple[tuple[Mapping[str, Any], frozenset[int]], ...] = (
    ({"vars": [["http_x_a", "==", "1"]]}, frozenset((1,))),
    ({"vars": ["!OR", ["http_x_a", "==", "1"], ["remote_addr", "ipmatch", "10.0.0.0/8"]]}, frozenset((0,))),
    ({"remote_addr": "10.0.0.0/8"}, frozenset((2,))),
    ({"remote_addrs": ["192.0.2.0/24"], "vars": [["http_x_a", "~=", "1"]]}, frozenset((0,))),
    ({"filter_func": "lambda vars: vars['http_x_a'] == '1'"}, frozenset((1,))),
    ({"filter_func": "function(vars) return true end"}, frozenset((0, 1, 2))),
    ({"vars": [["nobody", "==", "1"]], "remote_addrs": ["10.0.0.1"]}, frozenset((2,))),
    ({"vars": []}, frozenset((0, 1, 2))),
)
_ASKING = ("vars", "remote_addr", "remote_addrs", "filter_func")


def meeting(route: Mapping[str, Any]) -> frozenset[int]:
    """Which of HEADS meet what a route asks."""
    asked = {name: route[name] for name in _ASKING if name in route}
    return next((meet for fields, meet in CONDITIONS if fields == asked), frozenset((0, 1, 2)))


class Answer(NamedTuple):
    """What a worker does with a request, in values that can be compared between two workers."""

    id: str
    uri: str
    params: Mapping[str, str] | None
    substance: Any


class Live:
    """A plugin's instance. Those named `broken` cannot be made; `auth` finds consumers by their `key`."""

    priority = 1

    def __init__(self, name: str, conf: Mapping[str, Any], owner: str) -> None:
        if name == "broken":
            raise ValueError("it is broken")
        self.name, self.conf, self.owner = name, dict(conf), owner
        self.is_closed = False
        self.attaches_consumers = name == "auth"

    def rewrite(self, ctx: Any) -> None: ...

    def log(self, ctx: Any) -> None: ...

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class Worker:
    """A reader and a state, stepped by hand as the follower steps them. `held` is the version that is served.

    `is_updating` says of the steps given out last that they change in place what is served, and do not build aside.
    """

    def __init__(self, space: MemorySpace, clock: HandClock, mode: str) -> None:
        self._clock = clock
        self._reader = SnapshotReader(space, NAMES, clock)
        self._state = ConfigState(mode, allow_code=True)
        self._state.use_plugins(self._make, credential_fields={"auth": "key"})
        self._made: list[Live] = []
        self._cursor: Cursor | None = None
        self.held: Slot | None = None
        self.fulls = 0
        self.is_updating = False

    def _make(self, name: str, conf: Mapping[str, Any], owner: str) -> Live:
        self._made.append(Live(name, conf, owner))
        return self._made[-1]

    # --- bringing up to date

    def is_current(self) -> bool:
        """Whether what is served is the newest version. Looks for another control segment as well."""
        self._clock.now_s += LONG_S
        slot = self._reader.peek()
        return slot is None or not slot.version or (self.held is not None and self.held.identity == slot.identity)

    def bring_up_to_date(self) -> None:
        """As many applications as it takes, each to its end."""
        for _ in range(5):
            if self.is_current():
                return
            try:
                for _ in self.steps():
                    pass
            except SegmentError:
                self._clock.now_s += LONG_S
        raise AssertionError("a worker cannot come to the newest version")

    def rebuild_in_full(self) -> None:
        for _ in self.steps(full=True):
            pass

    def steps(self, *, full: bool = False) -> Generator[None, None, None]:
        """One application, as the follower's: an update where the log reaches back, else a full rebuild."""
        changes = None if full or self._cursor is None else self._reader.changes(self._cursor)
        self.is_updating = changes is not None
        return self._full_steps() if changes is None else self._update_steps(changes)

    def move_steps(self) -> Generator[None, None, None]:
        """To the newest base, as the follower moves there when nothing else is due; nothing where that must not be."""
        slot = self._reader.peek()
        if slot is None or self._cursor is None or slot.epoch != self._cursor.epoch:
            return
        if slot.snapshot_version <= self._cursor.version:
            base = self._reader.open_base(slot)
            yield from base.check_steps()
            yield from self._state.move_to(base)
            assert self._state.snapshot == slot.snapshot_number

    def _full_steps(self) -> Generator[None, None, None]:
        loaded = yield from self._reader.load_steps()
        left = yield from self._state.rebuild(loaded)
        self._finish(loaded.slot, loaded.cursor)
        self.fulls += 1
        for _ in left:
            pass

    def _update_steps(self, changes: Any) -> Generator[None, None, None]:
        yield from self._state.update(changes.changes)
        self._finish(changes.slot, changes.cursor)

    def _finish(self, slot: Slot, cursor: Cursor) -> None:
        assert self._state.digest == slot.digest, "what is held is not what was published"
        self._cursor, self.held = cursor, slot

    # --- looking

    @property
    def digest(self) -> int:
        return self._state.digest

    def problems(self) -> dict[ResourceKey, str]:
        return dict(self._state.problems)

    def route(self, path: str, host: str, method: str, head: int) -> CompiledRoute | None:
        """What a request walks."""
        handle = self._state.find(path, host, method, HEADS[head])
        return None if handle is None else handle.resolve()

    def answer(self, path: str, host: str, method: str, head: int) -> Answer | None:
        match = self._state._tables.index.match(path, host, method, HEADS[head])
        handle = self._state.find(path, host, method, HEADS[head])
        if match is None or handle is None:
            assert match is None
            assert handle is None
            return None
        compiled = handle.resolve()
        assert compiled.id == match.id
        assert handle.resolve() is compiled, "nothing changed since"
        return Answer(match.id, match.uri, handle.params, substance(compiled))

    def caller(self, key: str) -> Any:
        """Who shows this, and by what."""
        return _shown(self._state.by_credential("auth", key))

    def named(self, name: str) -> Any:
        """The consumer of this name."""
        return _shown(self._state.by_name(name))

    def joined(self, probe: tuple[str, str, str], name: str) -> Any:
        """What a request goes on with when it turns out to be this consumer's."""
        compiled, caller = self.route(*probe), self._state.by_name(name)
        if compiled is None or caller is None:
            return None
        join = [step for step in compiled.phases.request if step.plugin == "consumer"]
        if not join:
            return None
        ctx = SimpleNamespace(consumer=caller, route=compiled, state={}, _client=None)
        for _ in range(2):
            going = join[0].run(ctx)
            if going is not None:  # it answers, which is to be awaited
                going.close()
            ctx.route, again = compiled, ctx.route
        return substance(again), walked(again.phases)

    def unmatched(self) -> Any:
        """What a request without a route walks."""
        return walked(self._state.unmatched())

    def metadata(self, plugin: str) -> Mapping[str, Any]:
        return self._state.metadata(plugin)

    def settle(self, key: ResourceKey) -> None:
        """Compile a route whether or not a request finds it, or the global rules."""
        if key.kind == "global_rules":
            self._state.unmatched()
            return
        if key.kind in ("consumers", "credentials"):
            return
        entry = self._state._tables.find(key)
        assert isinstance(entry, RouteEntry)
        Handle(self._state, entry, None).resolve()

    def check(self) -> None:
        """What must hold inside, whatever the history."""
        self._state._tables.index.check()

    def check_instances(self, model: Model) -> None:
        """What lives is configured, just so, and once."""
        alive = [live for live in self._made if not live.is_closed]
        assert len({(live.owner, live.name) for live in alive}) == len(alive) == len(self._state._instances)
        for live in alive:
            written = model[ResourceKey(*live.owner.split("/", 1))]["plugins"][live.name]
            assert live.conf == {name: value for name, value in written.items() if name != "_meta"}
            assert not written.get("_meta", {}).get("disable")
        self._made = alive

    def close(self) -> None:
        self._reader.close()


def substance(compiled: CompiledRoute) -> Any:
    """All that decides how a request is proxied, but for whose turn it is."""
    upstream, plugins = compiled.upstream, walked(compiled.phases)
    own = (compiled.id, compiled.name, compiled.service_id, compiled.service_name, compiled.upgrades, compiled.timeouts)
    if isinstance(upstream, Missing):
        return *own, upstream.status, upstream.reason, plugins
    return (
        *(*own, tuple(upstream._candidates.items())),
        *(type(upstream._balancer), upstream._type, upstream._key, upstream.scheme, upstream.keepalive),
        *(upstream.retries, upstream.retry_timeout_s, upstream._passes_host, upstream.timeouts, upstream.unsupported),
        plugins,
    )


def walked(phases: Phases) -> Any:
    """The plugins of a chain, phase by phase, with what they were configured with."""
    steps = (phases.request, phases.rest, phases.before_proxy, phases.header_filter, phases.body_filter, phases.log)
    return tuple(tuple((step.plugin, step.owner, _conf_of(step.run)) for step in phase) for phase in steps)


def _conf_of(run: Any) -> str:
    return repr(getattr(getattr(run, "__self__", None), "conf", None))


def _shown(caller: Caller | None) -> Any:
    if caller is None:
        return None
    return caller.fields, caller.group_id, caller.credentials, caller.brings_plugins


class Host:
    """The agent's side. `model` is what the store holds, `published` what it held at each version."""

    def __init__(self, log_size_bytes: int) -> None:
        self.space = MemorySpace()
        self.clock = HandClock()
        self.model: dict[ResourceKey, Mapping[str, Any]] = {}
        self.versions: dict[tuple[int, int], Model] = {}
        self._random = random.Random(7)
        self._revision = 0
        self._publisher: Publisher | None = None
        self._last_good: tuple[Mapping[ResourceKey, Entry], int, Model] = ({}, 0, {})
        self.start(log_size_bytes)
        self.publish({})

    def start(self, log_size_bytes: int) -> None:
        """An agent that starts, over whatever the last one left."""
        if self._publisher is not None:
            self._publisher.close()
        self._publisher = Publisher.attach(
            self.space, NAMES, log_size_bytes=log_size_bytes, clock=self.clock, rng=self._random
        )
        self._note()

    @property
    def publisher(self) -> Publisher:
        assert self._publisher is not None
        return self._publisher

    def publish(self, resources: Mapping[ResourceKey, Mapping[str, Any] | None]) -> None:
        """Make these the next version; None deletes."""
        self._revision += 1
        before, was = self.publisher.version, dict(self.model)
        for key, resource in resources.items():
            self.model.pop(key, None)
            if resource is not None:
                self.model[key] = validate(*key, dict(resource))
        changes = [change(*key, resource) for key, resource in resources.items()]
        version = self.publisher.publish(changes, self._revision, AgentState.WATCHING)
        if before:
            assert (version == before) is (was == self.model), "a version stands for a change in substance"
        self._note()

    def keep_last_good(self) -> None:
        """As the agent does every now and then."""
        self._last_good = (dict(self.publisher.entries), self.publisher.version, dict(self.model))

    def lose_segments(self) -> None:
        """Somebody removes everything, and the agent notices at its next heartbeat."""
        self._unlink()
        self.publisher.touch(AgentState.WATCHING)
        self._note()

    def start_from_last_good(self, log_size_bytes: int) -> None:
        """A reboot: segments and agent are gone, and the configuration that was kept may be an older one."""
        self._unlink()
        self.start(log_size_bytes)
        entries, version, model = self._last_good
        self.publisher.restore(entries, version, self._revision)
        self.model = dict(model)
        self._note()

    def digest(self) -> int:
        """Of the model, taken without any of the engine's state."""
        return digest_of(content_hash(key, encode_resource(resource)) for key, resource in self.model.items())

    def routes(self) -> list[naive.Route]:
        """The model's routes under their effective hosts, for the naive matcher."""
        found = []
        for key, resource in self.model.items():
            if key.kind == "routes":
                routing = route_key(resource)
                service = self.model.get(ResourceKey("services", str(routing.service_id)), {})
                hosts = tuple(routing.hosts or service.get("hosts", ()))
                found.append(naive.Route(key.id, routing, hosts, meeting(resource).__contains__))
        return found

    def sweep(self, used: Iterable[int]) -> None:
        self.publisher.sweep(used)

    def close(self) -> None:
        self.publisher.close()

    def _unlink(self) -> None:
        for name in self.space.list(NAMES.prefix):
            self.space.unlink(name)

    def _note(self) -> None:
        if self.publisher.version:
            self.versions[self.publisher.epoch, self.publisher.version] = dict(self.model)
