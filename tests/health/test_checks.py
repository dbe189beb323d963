"""`checks` as they are used: defaults where the resource says nothing, and which events count."""

from __future__ import annotations

from typing import Any

import pytest

from gw.health.checker import Checker, checker_of, unpack_checker
from gw.health.checks import Checks, ProbeType
from gw.health.serving import serving_nodes
from gw.health.state import Counts, Event, State
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.schema.validate import validate

KEY = ResourceKey("upstreams", "1")


def upstream(checks: Any, nodes: Any = None, **fields: Any) -> Upstream:
    """Validated, as a worker gets it."""
    written = {"nodes": {"10.0.0.1:80": 1, "10.0.0.2:80": 1} if nodes is None else nodes, "checks": checks, **fields}
    return Upstream.from_dict(validate("upstreams", "1", written))


def checks(written: dict[str, Any]) -> Checks:
    return Checks.from_dict(upstream(written).checks or {})


def checker(written: Any, nodes: Any = None, **fields: Any) -> Checker:
    made = checker_of(KEY, upstream(written, nodes, **fields))
    assert made is not None
    return made


@pytest.mark.parametrize("written", [{"active": {}}, {"active": {"healthy": {}, "unhealthy": {}}}])
def test_active_defaults_are_those_of_the_documentation(written):
    active = checks(written).active
    assert (active.type, active.timeout_s, active.concurrency) == (ProbeType.HTTP, 1.0, 10)
    assert (active.method, active.path, active.body, active.verify) == ("GET", "/", "", True)
    assert (active.host, active.port, active.header_lines) == (None, None, ())
    assert [active.interval_s(state) for state in State] == [1.0] * 4
    assert active.verdicts.thresholds == Counts(2, 5, 2, 3)
    succeeding = {status for status, event in active.verdicts.events.items() if event is Event.SUCCESS}
    failing = active.verdicts.events.keys() - succeeding
    assert (succeeding, failing) == ({200, 302}, {0, 404, 429, 500, 501, 502, 503, 504, 505})


@pytest.mark.parametrize("passive", [{}, {"healthy": {}, "unhealthy": {}}])
def test_passive_defaults_are_those_of_the_documentation(passive):
    verdicts = checks({"active": {}, "passive": passive}).passive
    assert verdicts is not None
    assert verdicts.thresholds == Counts(5, 5, 2, 7)
    succeeding = {status for status, event in verdicts.events.items() if event is Event.SUCCESS}
    assert succeeding == {*range(200, 209), 226, *range(300, 309)}
    assert verdicts.events.keys() - succeeding == {0, 429, 500, 503}


def test_no_passive_checks_where_none_are_written():
    assert checks({"active": {}}).passive is None


def test_what_is_written_holds():
    written = {
        "active": {
            "type": "https",
            "timeout": 2.5,
            "concurrency": 3,
            "host": "a.example",
            "port": 8443,
            "http_method": "POST",
            "http_path": "/live",
            "http_req_body": "x",
            "https_verify_certificate": False,
            "req_headers": ["A: b"],
            "healthy": {"interval": 7, "http_statuses": [204], "successes": 4},
            "unhealthy": {"interval": 3, "http_statuses": [500], "http_failures": 6, "tcp_failures": 7, "timeouts": 8},
        }
    }
    active = checks(written).active
    assert (active.type, active.timeout_s, active.concurrency) == (ProbeType.HTTPS, 2.5, 3)
    assert (active.host, active.port, active.method, active.path) == ("a.example", 8443, "POST", "/live")
    assert (active.body, active.verify, active.header_lines) == ("x", False, ("A: b",))
    assert [active.interval_s(state) for state in State] == [7.0, 7.0, 3.0, 3.0]
    assert active.verdicts.thresholds == Counts(4, 6, 7, 8)
    assert active.verdicts.events == {204: Event.SUCCESS, 500: Event.HTTP_FAILURE, 0: Event.HTTP_FAILURE}


@pytest.mark.parametrize(
    ("passive", "events"),
    [
        ({"healthy": {"http_statuses": [200], "successes": 0}, "unhealthy": {"http_statuses": [500]}}, {500, 0}),
        ({"healthy": {"http_statuses": [200]}, "unhealthy": {"http_statuses": [500], "http_failures": 0}}, {200}),
        # As in lua-resty-healthcheck, what is in both lists is a success.
        ({"healthy": {"http_statuses": [500]}, "unhealthy": {"http_statuses": [500, 503]}}, {500, 503, 0}),
    ],
)
def test_statuses_that_count(passive, events):
    verdicts = checks({"active": {}, "passive": passive}).passive
    assert verdicts is not None
    assert verdicts.events.keys() == events


def test_a_status_in_both_lists_is_a_success():
    written = {"healthy": {"http_statuses": [500]}, "unhealthy": {"http_statuses": [500]}}
    verdicts = checks({"active": {}, "passive": written}).passive
    assert verdicts is not None
    assert verdicts.events[500] is Event.SUCCESS


@pytest.mark.parametrize(("active", "timeout_s", "concurrency"), [({"timeout": 0, "concurrency": 0}, 1.0, 1)])
def test_what_the_schema_lets_through_and_cannot_be_meant(active, timeout_s, concurrency):
    made = checks({"active": active}).active
    assert (made.timeout_s, made.concurrency) == (timeout_s, concurrency)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"active": {"timeout": 1}}, {"active": {}}, True),  # the schema writes it there
        ({"active": {"timeout": 1, "http_path": "/a"}}, {"active": {"http_path": "/a", "timeout": 1}}, True),
        ({"active": {}}, {"active": {"timeout": 2}}, False),
        ({"active": {}}, {"active": {}, "passive": {}}, False),
    ],
)
def test_fingerprint(one, other, is_same):
    assert (checks(one).fingerprint == checks(other).fingerprint) is is_same


@pytest.mark.parametrize(
    ("active", "fields", "nodes", "targets"),
    [
        ({}, {}, {"10.0.0.1:80": 1, "[::1]:81": 0}, [("10.0.0.1:80", "10.0.0.1"), ("[::1]:81", "::1")]),
        ({"host": "a.example"}, {}, {"b.example:80": 1, "c.example:80": 1}, [
            ("b.example:80", "a.example"),
            ("c.example:80", "a.example"),
        ]),
        # Nodes of one host, probed on one port, are one target.
        ({"port": 99}, {}, {"10.0.0.1:80": 1, "10.0.0.1:81": 1}, [("10.0.0.1:99", "10.0.0.1")]),
        ({"host": "a.example"}, {"pass_host": "rewrite", "upstream_host": "r.example"}, None, [
            ("10.0.0.1:80", "r.example"),
            ("10.0.0.2:80", "r.example"),
        ]),
        ({"host": "a.example"}, {"pass_host": "node"}, {"b.example:80": 1, "10.0.0.1:80": 1}, [
            ("b.example:80", "b.example"),
            ("10.0.0.1:80", "a.example"),
        ]),
    ],
)  # fmt: skip
def test_targets(active, fields, nodes, targets):
    made = checker({"active": active}, nodes, **fields)
    assert [(target.name, target.host_header) for target in made.targets] == targets


@pytest.mark.parametrize(
    ("written", "nodes"), [(None, {"10.0.0.1:80": 1, "10.0.0.2:80": 1}), ({"active": {}}, {})]
)
def test_nothing_to_check(written, nodes):
    fields = {} if written is None else {"checks": written}
    made = Upstream.from_dict(validate("upstreams", "1", {"nodes": nodes, **fields}))
    assert checker_of(KEY, made) is None


def test_another_process_makes_an_equal_checker():
    made = checker({"active": {"req_headers": ["A: b"]}, "passive": {}}, {"b.example:80": 1, "[::1]:81": 2})
    again = unpack_checker(made.packed)
    assert (again, again.mark, again.packed) == (made, made.mark, made.packed)


def test_thousands_of_nodes_fit():
    nodes = {f"10.{n // 250}.{n % 250}.7:8080": 1 for n in range(5000)}
    assert len(checker({"active": {}}, nodes).packed) < 60_000


@pytest.mark.parametrize(
    ("weights", "down", "serving"),
    [
        ((1, 1, 1), (), (0, 1, 2)),
        ((1, 1, 1), (1,), (0, 2)),
        ((1, 1, 1), (0, 1, 2), (0, 1, 2)),
        # One that takes no traffic is none to be left, unless it is the only one.
        ((1, 0, 0), (0,), (0, 1, 2)),
        ((1, 1, 0), (0, 1), (2,)),
        ((1, 1, 0), (2,), (0, 1)),
    ],
)
def test_who_serves(weights, down, serving):
    nodes = upstream({"active": {}}, {f"10.0.0.{at}:80": weight for at, weight in enumerate(weights)}).nodes
    left = serving_nodes(nodes, frozenset(nodes[at].authority for at in down))
    assert left == tuple(nodes[at] for at in serving)
