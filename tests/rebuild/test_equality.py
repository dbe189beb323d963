"""Whatever a worker has been through, it answers as one that was built from nothing a moment ago.

A publisher with a log so small that it goes round, a worker that applies it in steps with requests and further changes
between any two of them, agents that restart, segments that vanish. The truth is a worker built from a full load, and
beside it a linear scan over plain dictionaries and a digest taken over them.

Longer: JITTERWAY_HYPOTHESIS=<examples> (default 120 per mode).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gw.errors import SegmentError
from gw.model.keys import ResourceKey
from gw.pipeline.route import CompiledRoute
from gw.router import MODES
from tests.rebuild.world import CONDITIONS, HEADS, Answer, Host, Model, Worker, substance
from tests.router import naive

EXAMPLES = int(os.environ.get("JITTERWAY_HYPOTHESIS", "120"))
# A record may have a quarter of the ring: some batches are a base by themselves, ten small ones overrun a worker.
LOG_BYTES = [2048, 4096]

CONSUMERS = ["j0", "j1", "j2"]
KEYS = ["k0", "k1", "k2", ""]
Probe = tuple[str, str, str, int]
Resource = Mapping[str, Any]

URIS = ["/*", "/a", "/a*", "/a/b", "/a/b*", "/a/:x", "/:x/b", "/a/*rest"]
HOSTS = ["a.com", "b.com", "*.a.com", "*.x.a.com"]
PATHS = ["/", "/a", "/a/b", "/ab", "/a/b/c", "/q/b"]
REQUEST_HOSTS = ["a.com", "b.com", "w.x.a.com", ""]
ALL_PROBES: list[Probe] = [
    (path, host, method, head)
    for path in PATHS
    for host in REQUEST_HOSTS
    for method in ("GET", "POST", "PURGE")
    for head in range(len(HEADS))
]


class Maker:
    """Resources that are like one another in all but a few fields, over few ids: so that what one leaves behind when
    it goes or moves is in the way of another.
    """

    def __init__(self) -> None:
        self._random = random.Random(3)

    def change(self) -> tuple[ResourceKey, Resource | None]:
        kind, ids, make = self._random.choice(
            [
                ("routes", ["r0", "r1", "r2", "r3"], self.route),
                ("routes", ["r0", "r1", "r2", "r3"], self.route),
                ("services", ["s0", "s1"], self.service),
                ("upstreams", ["u0", "u1"], self.upstream),
                ("plugin_configs", ["c0", "c1"], self.plugin_config),
                ("global_rules", ["g0", "g1"], self.global_rule),
                ("plugin_metadata", ["a"], self.plugin_metadata),
                ("consumers", CONSUMERS, None),
                ("credentials", ["j0/x", "j0/y", "j1/x"], self.credential),
                ("consumer_groups", ["g0", "g1"], self.plugin_config),
            ]
        )
        id = self._random.choice(ids)
        if self._chance(0.2):
            return ResourceKey(kind, id), None
        return ResourceKey(kind, id), self.consumer(id) if make is None else make()

    def route(self) -> Resource:
        route: dict[str, Any] = {"uris": self._some(URIS, 3)}
        route |= self._maybe(0.3, hosts=self._some(HOSTS, 2), timeout={"connect": 4, "send": 5, "read": 6})
        route |= self._maybe(0.2, methods=self._some(["GET", "POST"], 2), priority=1, plugins=self._plugins())
        if self._chance(0.3):
            route |= self._random.choice(CONDITIONS)[0]
        route |= self._maybe(0.1, status=0) | self._maybe(0.3, plugin_config_id=self._id("c"))
        route |= self._maybe(0.2, enable_websocket=self._chance(0.5))
        for _ in range(self._random.choice([1, 1, 1, 2])):
            route |= self._random.choice([{"service_id": self._id("s")}, {"service_id": self._id("s")}, self._origin()])
        return route

    def service(self) -> Resource:
        service = self._maybe(0.6, hosts=self._some(HOSTS, 2)) | self._maybe(0.3, plugins=self._plugins())
        service |= self._maybe(0.3, name=self._id("n")) | self._maybe(0.3, enable_websocket=self._chance(0.5))
        return service | self._origin()

    def upstream(self) -> Resource:
        nodes = [{"127.0.0.1:1": 1}, {"127.0.0.1:2": 1}, {"127.0.0.1:2": 1, "127.0.0.1:3": 2}, {"127.0.0.1:4": 0}]
        upstream = {"nodes": self._random.choice(nodes)}
        upstream |= self._maybe(0.3, timeout={"connect": 1, "send": 2, "read": 3}) | self._maybe(0.1, scheme="grpc")
        return upstream | self._maybe(0.2, pass_host="node", retries=0) | self._maybe(0.2, type="least_conn")

    def _origin(self) -> dict[str, Any]:
        return self._random.choice(
            [{"upstream_id": self._id("u")}, {"upstream_id": self._id("u")}, {"upstream": self.upstream()}]
        )

    def plugin_config(self) -> Resource:
        return {"plugins": self._plugins()} | self._maybe(0.2, desc=self._id("d"))

    def global_rule(self) -> Resource:
        return {"plugins": self._plugins()} | self._maybe(0.2, create_time=1)

    def plugin_metadata(self) -> Resource:
        return self._maybe(0.5, n=self._random.randrange(2))

    def consumer(self, name: str) -> Resource:
        consumer = {"username": name} | self._maybe(0.4, group_id=self._id("g"), labels={"custom_id": self._id("l")})
        return consumer | self._maybe(0.7, plugins=self._plugins() | self._maybe(0.6, auth=self._shown()))

    def credential(self) -> Resource:
        return {"plugins": {"auth": self._shown()}}

    def _shown(self) -> dict[str, Any]:
        return {"key": self._random.choice(KEYS)} | self._maybe(0.1, _meta={"disable": True})

    def _plugins(self) -> dict[str, Any]:
        names = self._random.choice([["a"], ["b"], ["a", "b"], ["auth"], ["auth", "a"], ["broken"], []])
        metas = [{}, {}, {}, {"disable": True}, {"priority": 7}, {"disable": False}]
        return {
            name: self._maybe(0.5, n=self._random.randrange(2)) | self._maybe(0.3, _meta=self._random.choice(metas))
            for name in names
        }

    def _maybe(self, share: float, **fields: Any) -> dict[str, Any]:
        return {name: value for name, value in fields.items() if self._chance(share)}

    def _some(self, choices: list[str], most: int) -> list[str]:
        return self._random.sample(choices, self._random.randint(1, most))

    def _id(self, letter: str) -> str:
        return f"{letter}{self._random.randrange(2)}"

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


_maker = Maker()
# Made beforehand and not by strategies: as even a choice at a tenth of the time, and a failure still prints them whole.
CHANGES = [_maker.change() for _ in range(1000)]
changes = st.integers(0, len(CHANGES) - 1).map(lambda number: CHANGES[number])
batches = st.lists(changes, min_size=1, max_size=3).map(dict)
_probe_random = random.Random(4)
SAMPLES = [[], ALL_PROBES, *(_probe_random.sample(ALL_PROBES, count) for count in (2, 4, 8, 16, 32) for _ in range(8))]
probes = st.integers(0, len(SAMPLES) - 1).map(lambda number: SAMPLES[number])
log_sizes = st.sampled_from(LOG_BYTES)


class Life(RuleBasedStateMachine):
    """One worker's. `under_way` are the steps of an application that has begun and not ended."""

    mode = MODES[0]

    @initialize(first=st.lists(changes, max_size=12).map(dict), log_bytes=log_sizes)
    def begin(self, first: dict[ResourceKey, Resource | None], log_bytes: int) -> None:
        self.host = Host(log_bytes)
        self.log_bytes = log_bytes
        self.worker = Worker(self.host.space, self.host.clock, self.mode)
        self.under_way: Generator[None, None, None] | None = None
        self.before: dict[Probe, Answer | None] = {}
        self.stands: dict[Probe, Answer | None] = {}
        self.in_flight: list[tuple[CompiledRoute, Any]] = []
        self.host.publish(first)
        self.worker.bring_up_to_date()

    @rule(rounds=st.lists(st.tuples(changes, probes), min_size=4, max_size=16))
    def change_by_change(self, rounds: list[tuple[tuple[ResourceKey, Resource | None], list[Probe]]]) -> None:
        """The common life: a change, the update, requests."""
        for (key, resource), wanted in rounds:
            self.host.publish({key: resource})
            self.the_worker_is_as_one_made_anew(wanted)

    # --- the agent's side

    @rule(batch=batches)
    def publish(self, batch: dict[ResourceKey, Resource | None]) -> None:
        self.host.publish(batch)

    @rule(batches=st.lists(batches, min_size=10, max_size=14))
    def publish_until_the_log_went_round(self, batches: list[dict[ResourceKey, Resource | None]]) -> None:
        for batch in batches:
            self.host.publish(batch)

    @rule(data=st.data())
    def put_again_what_is_there(self, data: st.DataObject) -> None:
        if self.host.model:
            keys = data.draw(st.lists(st.sampled_from(sorted(self.host.model)), min_size=1, max_size=3, unique=True))
            version = self.host.publisher.version
            self.host.publish({key: self.host.model[key] for key in keys})
            assert self.host.publisher.version == version

    @rule(data=st.data())
    def there_and_back(self, data: st.DataObject) -> None:
        """Another content and the first one again, in two versions: the worker may see both, one, or none."""
        if self.host.model:
            key = data.draw(st.sampled_from(sorted(self.host.model)))
            kept = self.host.model[key]
            self.host.publish({key: None})
            self.host.publish({key: kept})

    @rule()
    def keep_last_good(self) -> None:
        self.host.keep_last_good()

    @rule(log_bytes=log_sizes)
    def the_agent_restarts(self, log_bytes: int) -> None:
        epoch = self.host.publisher.epoch
        version = self.host.publisher.version
        self.host.start(log_bytes)
        assert self.host.publisher.version == version
        assert (self.host.publisher.epoch == epoch) is (log_bytes == self.log_bytes)
        self.log_bytes = log_bytes

    @rule()
    def segments_vanish(self) -> None:
        self.host.lose_segments()

    @rule(log_bytes=log_sizes)
    def the_host_starts_from_last_good(self, log_bytes: int) -> None:
        self.host.start_from_last_good(log_bytes)
        self.log_bytes = log_bytes

    @rule()
    def the_base_is_renewed(self) -> None:
        while self.host.publisher.renew_step():
            pass

    @rule()
    def old_bases_are_swept(self) -> None:
        self.host.sweep(() if self.worker.held is None else (self.worker.held.snapshot_number,))

    # --- the worker's side

    @precondition(lambda self: self.under_way is None and not self.worker.is_current())
    @rule(watched=probes, count=st.integers(0, 6))
    def begin_to_apply(self, watched: list[Probe], count: int) -> None:
        self._begin(watched, full=False)
        self.go_on(count)

    @precondition(lambda self: self.under_way is None)
    @rule(watched=probes, count=st.integers(0, 6))
    def begin_a_full_rebuild(self, watched: list[Probe], count: int) -> None:
        self._begin(watched, full=True)
        self.go_on(count)

    @precondition(lambda self: self.under_way is None)
    @rule(count=st.integers(0, 6), wanted=probes)
    def the_worker_moves_to_the_newest_base(self, count: int, wanted: list[Probe]) -> None:
        """Given up after `count` steps, or to its end: what is served stays as it is."""
        before = [self.worker.answer(*probe) for probe in wanted]
        with contextlib.suppress(SegmentError):  # the base went away under it
            for number, _ in enumerate(self.worker.move_steps()):
                if number == count:
                    break
        assert [self.worker.answer(*probe) for probe in wanted] == before

    def _begin(self, watched: Iterable[Probe], *, full: bool) -> None:
        """Note what must stand while the steps are taken: in a full rebuild everything, else what no change touches."""
        self.before = {probe: self.worker.answer(*probe) for probe in watched}
        held = self._model_held()
        self.under_way = self.worker.steps(full=full)
        self.stands = self._untouched(held) if self.worker.is_updating else dict(self.before)

    def _model_held(self) -> Model:
        held = self.worker.held
        assert held is not None
        return self.host.versions[held.epoch, held.version]

    def _untouched(self, held: Model) -> dict[Probe, Answer | None]:
        """The probes that one route answers before and after the update, for the same reasons, whatever the order.

        Where a service changes a route may pass through a place that it has neither before nor after. A global rule is
        part of every answer.
        """
        changed = {key for key in {*held, *self.host.model} if held.get(key) != self.host.model.get(key)}
        if any(key.kind in ("services", "global_rules") for key in changed):
            return {}
        fresh = self._fresh()
        after = {probe: fresh.answer(*probe) for probe in self.before}
        fresh.close()
        return {
            probe: answer
            for probe, answer in self.before.items()
            if answer == after[probe] and (answer is None or ResourceKey("routes", answer.id) not in changed)
        }

    @precondition(lambda self: self.under_way is not None)
    @rule(count=st.integers(1, 12))
    def go_on(self, count: int) -> None:
        assert self.under_way is not None
        try:
            for _ in range(count):
                next(self.under_way)
                self._look_in_between()
        except StopIteration:
            self.under_way = None
        except SegmentError:
            self.under_way = None  # the base or the log went away under it; what is held stays
            self._look_in_between()

    def _look_in_between(self) -> None:
        for probe, answer in self.stands.items():
            assert self.worker.answer(*probe) == answer

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def what_has_begun_is_abandoned(self) -> None:
        """As by an error: a rebuild in full follows."""
        assert self.under_way is not None
        self.under_way.close()
        self.under_way = None
        self.worker.rebuild_in_full()

    @rule(wanted=probes)
    def requests_come(self, wanted: list[Probe]) -> None:
        """At any time: whatever is built when first used is in every state when a change comes."""
        for probe in wanted:
            compiled = self.worker.route(*probe)
            if compiled is not None:
                self.in_flight.append((compiled, substance(compiled)))

    @rule()
    def requests_end(self) -> None:
        """A request goes on with what it began with, whatever has changed since."""
        for compiled, began_with in self.in_flight:
            assert substance(compiled) == began_with
        self.in_flight.clear()

    @rule(wanted=probes)
    def the_worker_is_as_one_made_anew(self, wanted: list[Probe]) -> None:
        self._finish()
        self._compare(wanted)

    def _finish(self) -> None:
        while self.under_way is not None:
            self.go_on(100)
        self.worker.bring_up_to_date()

    def _compare(self, wanted: list[Probe]) -> None:
        assert self.worker.digest == self.host.publisher.digest == self.host.digest()
        self.worker.check()
        fresh = self._fresh()
        assert fresh.digest == self.worker.digest
        routes = self.host.routes()
        for probe in wanted:
            answer = self.worker.answer(*probe)
            assert answer == fresh.answer(*probe), probe
            assert (answer and answer[:2]) == naive.answer(routes, self.mode, *probe), probe
        assert self.worker.unmatched() == fresh.unmatched()
        assert self.worker.metadata("a") == fresh.metadata("a")
        for key in KEYS:
            assert self.worker.caller(key) == fresh.caller(key), key
        for name in CONSUMERS:
            assert self.worker.named(name) == fresh.named(name), name
            for probe in wanted:
                assert self.worker.joined(probe, name) == fresh.joined(probe, name), (probe, name)
        self.worker.check_instances(self.host.model)
        self._compare_problems(fresh)
        fresh.close()

    def _compare_problems(self, fresh: Worker) -> None:
        """What requests found out is true still, and what they found out now is not forgotten."""
        mine = self.worker.problems()
        for key, reason in fresh.problems().items():
            # A consumer may have two: requests find one of them out, the other stands from the beginning.
            assert reason == mine.get(key) or (key.kind == "consumers" and reason in mine.get(key, "")), key
        for key, reason in mine.items():
            if key.kind == "consumers" and fresh.problems().get(key) != reason:
                # Found out over a route that may not be there any more.
                assert self._is_broken(key), (key, reason)
                continue
            fresh.settle(key)
            assert fresh.problems().get(key) == reason, key

    def _is_broken(self, key: ResourceKey) -> bool:
        consumer = self.host.model[key]
        group_id = consumer.get("group_id")
        group = self.host.model.get(ResourceKey("consumer_groups", str(group_id)), {})
        is_missing = group_id is not None and not group
        return is_missing or "broken" in {**group.get("plugins", {}), **consumer.get("plugins", {})}

    def _fresh(self) -> Worker:
        fresh = Worker(self.host.space, self.host.clock, self.mode)
        fresh.bring_up_to_date()
        return fresh

    def teardown(self) -> None:
        if hasattr(self, "worker"):
            self._finish()
            self._compare(ALL_PROBES)
            self.worker.close()
            self.host.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_worker_is_what_it_holds_and_not_how_it_came_there(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    machine = type("Life", (Life,), {"mode": mode})
    with caplog.at_level(logging.CRITICAL):  # each problem of each worker is logged
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
