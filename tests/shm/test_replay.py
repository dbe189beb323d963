"""The agent may be killed at any moment: whatever it had stored by then, readers see one whole version.

A scenario is played once, in memory, with every step recorded. Then it is replayed step by step, and each store is cut
at every byte, its rest being what was there before or zeros. In every state that comes about, readers must find the
version from before the publisher's call or the one from after it, and a fresh agent must be able to carry on.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from gw.errors import SegmentError
from gw.shm.layout import AgentState
from gw.shm.reader import Cursor, SnapshotReader
from gw.shm.writer import Publisher
from tests.shm.world import (
    NAMES,
    WATCHING,
    Content,
    HandClock,
    attach,
    content_of,
    delete,
    entries_of,
    key,
    published,
    put,
    updated,
)
from tests.support.memory_space import Created, MemorySegment, MemorySpace, Renamed, Step, Stored, Unlinked

Identity = tuple[int, int]  # (epoch, version)


@dataclass
class Call:
    """One call of the publisher: what it stored, and what was published before and after."""

    name: str
    steps: list[Step]
    before: Identity
    after: Identity


class Scenario:
    """Plays calls on a publisher and keeps what each version held."""

    def __init__(self) -> None:
        self.space = MemorySpace()
        self.clock = HandClock()
        self.calls: list[Call] = []
        self.contents: dict[Identity, Content] = {}
        self._random = Random(7)
        self._publisher: Publisher | None = None
        self._identity = (0, 0)

    def attach(self, log_size_bytes: int = 1024) -> None:
        def begin(_: Publisher | None) -> None:
            rng = self._random
            self._publisher = attach(self.space, self.clock, log_size_bytes=log_size_bytes, rng=rng)

        self.call(f"attach {log_size_bytes}", begin)

    def call(self, name: str, act: Callable[[Publisher], object]) -> None:
        del self.space.steps[:]
        self.clock.now_s += 0.5
        act(self._publisher)
        before = self._identity
        self._identity = (self._publisher.epoch, self._publisher.version)
        self.contents[self._identity] = published(self._publisher)
        self.calls.append(Call(name, list(self.space.steps), before, self._identity))

    def renew_among_changes(self) -> None:
        """A renewal in steps, with a change before each."""
        self._until_due()
        is_under_way = True
        while is_under_way:
            self._change()
            is_under_way = self._renew_step()

    def begin_renewal(self) -> None:
        """A renewal whose base has a name, some of its bytes, and no slot that names it."""
        self._until_due()
        names = len(self.space.list(NAMES.prefix))
        while len(self.space.list(NAMES.prefix)) == names:
            self._renew_step()
        self._renew_step()

    def _until_due(self) -> None:
        while not self._renew_step():
            self._change()

    def _change(self) -> None:
        value = len(self.calls)
        self.call(f"change {value}", lambda agent: agent.publish([put("1", value)], 3, WATCHING))

    def _renew_step(self) -> bool:
        more = []
        self.call("renewal", lambda agent: more.append(agent.renew_step()))
        return more[0]


def play() -> Scenario:
    scenario = Scenario()
    scenario.attach()
    scenario.call("the empty configuration", lambda agent: agent.publish([], 1, WATCHING))
    scenario.call("first resources", lambda agent: agent.publish([put("1"), put("2")], 2, WATCHING))
    scenario.call("touch", lambda agent: agent.touch(AgentState.BACKING_OFF))
    for value in range(14):  # wraps the ring, makes room in it, renews the base when there is no other way
        changes = [put("1", value), put("s", value, "services")]
        scenario.call(f"change {value}", lambda agent, changes=changes: agent.publish(changes, 3, WATCHING))
    scenario.renew_among_changes()
    scenario.call("delete", lambda agent: agent.publish([delete("2")], 4, WATCHING))
    scenario.call("sweep", lambda agent: agent.sweep(set()))
    scenario.call("nothing new", lambda agent: agent.publish([delete("2")], 5, WATCHING))
    scenario.begin_renewal()
    scenario.call("large change", lambda agent: agent.publish([put("3", "x" * 230)], 6, WATCHING))
    scenario.begin_renewal()
    scenario.attach()
    scenario.call("change after takeover", lambda agent: agent.publish([put("4")], 7, WATCHING))
    scenario.call("restore", lambda agent: agent.restore(entries_of([put("1"), put("5")]), 90, 8))
    scenario.call("change after restore", lambda agent: agent.publish([put("6")], 9, WATCHING))
    scenario.attach(log_size_bytes=1100)
    scenario.call("change in the new epoch", lambda agent: agent.publish([put("7"), delete("5")], 10, WATCHING))
    scenario.call("last sweep", lambda agent: agent.sweep(set()))
    return scenario


class Replay:
    """A space built step by step from a record of another."""

    def __init__(self) -> None:
        self.space = MemorySpace()
        self._segments: dict[int, MemorySegment] = {}

    def apply(self, step: Step) -> None:
        match step:
            case Created(serial, name, size):
                self._segments[serial] = self.space.create(name, size, 0o640)
            case Stored(serial, offset, data):
                self._segments[serial].view[offset : offset + len(data)] = data
            case Renamed(old, new):
                self.space.rename(old, new)
            case Unlinked(name):
                self.space.unlink(name)

    def cuts(self, step: Stored) -> Iterator[None]:
        """Puts the store in place up to each byte, one after the other; afterwards nothing of it is there."""
        view = self._segments[step.serial].view[step.offset : step.offset + len(step.data)]
        old = bytes(view)
        seen = {old, step.data}
        for cut in range(len(step.data)):
            for rest in (old[cut:], bytes(len(old) - cut)):
                state = step.data[:cut] + rest
                if state not in seen:
                    seen.add(state)
                    view[:] = state
                    yield
        view[:] = old


class Watcher:
    """Looks at a state through every kind of reader, and says which version it saw."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.clock = HandClock()
        self.cursor: Cursor | None = None  # what a worker holds that applied everything so far

    def look(self, space: MemorySpace, call: Call) -> Identity | None:
        """A worker that is new, and one that held the version from before the call."""
        reader = SnapshotReader(space, NAMES, self.clock)
        try:
            loaded = reader.load()
        except SegmentError:
            assert call.before[1] == 0, f"nothing can be loaded during {call.name}"
            return None
        seen = loaded.slot.epoch, loaded.slot.version
        assert seen in (call.before, call.after), call.name
        assert content_of(loaded) == self._scenario.contents[seen], call.name
        if self.cursor is not None:
            found = reader.changes(self.cursor)
            if found is not None:
                held = self._scenario.contents[self.cursor.epoch, self.cursor.version]
                assert updated(held, found) == self._scenario.contents[found.cursor.epoch, found.cursor.version]
                assert found.slot.identity == loaded.slot.identity
        reader.close()
        return seen

    def carry_on(self, space: MemorySpace, call: Call, seen: Identity | None) -> None:
        """A fresh agent on a copy of this state, and a reader that was there before it."""
        space = copy.deepcopy(space)
        reader = SnapshotReader(space, NAMES, self.clock)
        reader.peek()
        heir = attach(space, self.clock)
        version = 0 if seen is None else seen[1]
        assert heir.version == version, call.name
        assert heir.recovered == (seen is not None)
        expected = {} if seen is None else dict(self._scenario.contents[seen])
        assert published(heir) == expected, call.name
        assert heir.publish([put("heir", call.name)], 99, WATCHING) > version
        self.clock.now_s += 0.2
        assert content_of(reader.load()) == expected | {key("heir"): call.name}
        reader.close()


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return play()


def test_the_scenario_has_it_all(scenario):
    """Else the replay would prove less than it says."""
    steps = [step for call in scenario.calls for step in call.steps]
    sizes = [len(step.data) for step in steps if isinstance(step, Stored)]
    assert {type(step) for step in steps} == {Created, Stored, Renamed, Unlinked}
    assert len(scenario.contents) > 20
    assert max(sizes) < 1024
    renewals = [call for call in scenario.calls if call.name == "renewal" and call.steps]
    assert len(renewals) > 6
    two_part_records = [
        call
        for call in scenario.calls
        if [type(step) for step in call.steps].count(Stored) >= 3 and "change" in call.name
    ]
    assert two_part_records


def test_every_prefix_of_the_stores_shows_one_whole_version(scenario):
    replay, watcher = Replay(), Watcher(scenario)
    live = SnapshotReader(replay.space, NAMES, watcher.clock)
    held: Identity | None = None
    for call in scenario.calls:
        for step in call.steps:
            if isinstance(step, Stored):
                for _ in replay.cuts(step):
                    watcher.carry_on(replay.space, call, watcher.look(replay.space, call))
            elif isinstance(step, Created):
                look_at_a_segment_without_bytes(replay, watcher, call, step)
            replay.apply(step)
            watcher.carry_on(replay.space, call, watcher.look(replay.space, call))
            # A worker that has been there all along, and keeps what it has when it is told nothing better.
            watcher.clock.now_s += 0.2
            live.peek()
            if call.before[1]:
                loaded = live.load()
                held = loaded.slot.epoch, loaded.slot.version
                assert held in (call.before, call.after)
                assert content_of(loaded) == scenario.contents[held]
        assert watcher.look(replay.space, call) == (call.after if call.after[1] else None)
        if call.after[1]:
            watcher.cursor = SnapshotReader(replay.space, NAMES, watcher.clock).load().cursor
    assert held == scenario.calls[-1].after


def look_at_a_segment_without_bytes(replay: Replay, watcher: Watcher, call: Call, step: Created) -> None:
    """Killed between creating a segment and reserving its bytes."""
    space = copy.deepcopy(replay.space)
    space.create(step.name, 0, 0o640)
    watcher.carry_on(space, call, watcher.look(space, call))
