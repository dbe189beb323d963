"""The `checks` of an upstream as what uses them needs them: every default in place, lists as sets, events by status.

Built from a mapping that `gw.schema.validate` has passed. That fills defaults into objects which are there; into those
that are not (`active: {}`), they are put here. Source: docs/en/latest/tutorials/health-check.md of APISIX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Self

from gw.health.state import Counts, Event, State
from gw.model.digest import decode_resource, encode_resource, fingerprint

# Seconds; also where a resource says 0 or less, which the schema lets through.
DEFAULT_TIMEOUT_S: Final = 1.0
DEFAULT_INTERVAL_S: Final = 1.0
DEFAULT_CONCURRENCY: Final = 10
_ACTIVE_HEALTHY: Final = (200, 302)
_ACTIVE_UNHEALTHY: Final = (429, 404, 500, 501, 502, 503, 504, 505)
_ACTIVE_THRESHOLDS: Final = Counts(successes=2, http_failures=5, tcp_failures=2, timeouts=3)
_PASSIVE_HEALTHY: Final = (*range(200, 209), 226, *range(300, 309))
_PASSIVE_UNHEALTHY: Final = (429, 500, 503)
_PASSIVE_THRESHOLDS: Final = Counts(successes=5, http_failures=5, tcp_failures=2, timeouts=7)
# lua-resty-healthcheck takes a status line it cannot read for status 0, and that for a failure.
UNREADABLE: Final = 0
# Thousands of upstreams have the same few checks: equal ones are one object in memory, some 3 KB.
SHARED: Final = 1024


class ProbeType(Enum):
    """What a probe does."""

    HTTP = "http"
    HTTPS = "https"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is seen, as what it counts as. `events` holds statuses alone that count; the others say nothing."""

    events: Mapping[int, Event]
    thresholds: Counts


@dataclass(frozen=True, slots=True)
class ActiveChecks:
    """Probes. `host` and `port` stand in for those of each node, None where they do not."""

    type: ProbeType
    timeout_s: float
    concurrency: int
    host: str | None
    port: int | None
    method: str
    path: str
    body: str
    verify: bool
    header_lines: tuple[str, ...]
    healthy_interval_s: float
    unhealthy_interval_s: float
    verdicts: Verdicts

    def interval_s(self, state: State) -> float:
        """From the start of one probe of a node in that state to the start of the next."""
        return self.healthy_interval_s if state.is_up else self.unhealthy_interval_s


@dataclass(frozen=True, slots=True)
class Checks:
    """All of an upstream's `checks`. `passive` is None where the traffic does not count.

    `fingerprint` is taken over the whole configuration of the checks: with another one, all states begin anew.
    """

    active: ActiveChecks
    passive: Verdicts | None
    fingerprint: int

    @property
    def type(self) -> str:
        """As /v1/healthcheck names it."""
        return self.active.type.value

    @classmethod
    def from_dict(cls, checks: Mapping[str, Any]) -> Self:
        """`checks` is `gw.model.upstream.Upstream.checks`."""
        # Encoded first: two who read the same resource may hold its keys in another order.
        return cls._from_blob(encode_resource(checks))

    @classmethod
    @lru_cache(SHARED)
    def _from_blob(cls, blob: bytes) -> Self:
        checks = decode_resource(blob)
        passive = checks.get("passive")
        return cls(
            _active(checks["active"]),
            None if passive is None else _verdicts(passive, _PASSIVE_HEALTHY, _PASSIVE_UNHEALTHY, _PASSIVE_THRESHOLDS),
            fingerprint({"checks": blob}),
        )


def _active(active: Mapping[str, Any]) -> ActiveChecks:
    timeout_s = float(active.get("timeout", DEFAULT_TIMEOUT_S))
    return ActiveChecks(
        type=ProbeType(active.get("type", "http")),
        timeout_s=timeout_s if timeout_s > 0 else DEFAULT_TIMEOUT_S,
        concurrency=max(active.get("concurrency", DEFAULT_CONCURRENCY), 1),
        host=active.get("host"),
        port=active.get("port"),
        method=active.get("http_method", "GET"),
        path=active.get("http_path", "/"),
        body=active.get("http_req_body", ""),
        verify=active.get("https_verify_certificate", True),
        header_lines=tuple(active.get("req_headers", ())),
        healthy_interval_s=float(active.get("healthy", {}).get("interval", DEFAULT_INTERVAL_S)),
        unhealthy_interval_s=float(active.get("unhealthy", {}).get("interval", DEFAULT_INTERVAL_S)),
        verdicts=_verdicts(active, _ACTIVE_HEALTHY, _ACTIVE_UNHEALTHY, _ACTIVE_THRESHOLDS),
    )


def _verdicts(
    checks: Mapping[str, Any], succeeding: tuple[int, ...], failing: tuple[int, ...], default: Counts
) -> Verdicts:
    """A status in both lists is a success, as in lua-resty-healthcheck, which asks in that order."""
    healthy, unhealthy = checks.get("healthy", {}), checks.get("unhealthy", {})
    thresholds = Counts(
        healthy.get("successes", default.successes),
        unhealthy.get("http_failures", default.http_failures),
        unhealthy.get("tcp_failures", default.tcp_failures),
        unhealthy.get("timeouts", default.timeouts),
    )
    events = dict.fromkeys((UNREADABLE, *unhealthy.get("http_statuses", failing)), Event.HTTP_FAILURE)
    events |= dict.fromkeys(healthy.get("http_statuses", succeeding), Event.SUCCESS)
    return Verdicts({status: event for status, event in events.items() if thresholds[event]}, thresholds)
