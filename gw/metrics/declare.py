"""Every metric of our own, declared once: its name after the prefix, its meaning, and how one look gives its value.

A name that ends in `_total` is a counter, every other one a gauge; units are Prometheus's base units. None means that
there is nothing true to say, and the metric is left out. docs/operate.md lists them for people, which a test checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gw.metrics.host_view import HostView
from gw.shm.layout import Cell, CellState, RebuildKind, Slot


@dataclass(frozen=True, slots=True)
class HostMetric:
    """One number of the whole host."""

    name: str
    help: str
    value: Callable[[HostView], float | None]


@dataclass(frozen=True, slots=True)
class WorkerMetric:
    """One number of each worker. `of_rebuild`: of its last application, labelled with the kind that this was."""

    name: str
    help: str
    value: Callable[[Cell, HostView], float | None]
    of_rebuild: bool = False


def _of_slot(value: Callable[[Slot], float]) -> Callable[[HostView], float | None]:
    return lambda seen: None if seen.slot is None else value(seen.slot)


def _of_cell(value: Callable[[Cell], float]) -> Callable[[Cell, HostView], float]:
    return lambda cell, _: value(cell)


def _of_rebuild(value: Callable[[Cell], float]) -> Callable[[Cell, HostView], float | None]:
    return lambda cell, _: None if cell.rebuild_kind is RebuildKind.NONE else value(cell)


def _serving(seen: HostView) -> int:
    return sum(cell.state is CellState.SERVING for _, cell in seen.live)


def _heartbeat_age_s(seen: HostView) -> float | None:
    return None if seen.slot is None else _age_s(seen, seen.slot.heartbeat_ns)


def _published_at_s(seen: HostView) -> float | None:
    return seen.slot.published_wall_ns / 1e9 if seen.slot is not None and seen.slot.published_wall_ns else None


def _is_current(cell: Cell, seen: HostView) -> bool:
    """Version 0 means that no configuration is served, however equal it is."""
    served = cell.epoch, cell.version, cell.digest
    return cell.version > 0 and seen.slot is not None and served == seen.slot.identity


def _applied_at_s(cell: Cell, _: HostView) -> float | None:
    return cell.applied_wall_ns / 1e9 if cell.applied_wall_ns else None


def _staleness_s(cell: Cell, seen: HostView) -> float:
    """A worker that takes a change up writes its cell at once: what waited when the cell was written still waits."""
    return cell.staleness_ms / 1e3 + _age_s(seen, cell.written_ns) if cell.staleness_ms else 0.0


def _worst_staleness_s(cell: Cell, seen: HostView) -> float:
    return max(cell.worst_staleness_ms / 1e3, _staleness_s(cell, seen))


def _report_age_s(cell: Cell, seen: HostView) -> float:
    return _age_s(seen, cell.written_ns)


def _age_s(seen: HostView, then_ns: int) -> float:
    return max(0, seen.now_ns - then_ns) / 1e9


HOST: Final = (
    HostMetric(
        "gateway_workers_expected", "Workers that the gunicorn master means to have.", lambda seen: seen.expected
    ),
    HostMetric("gateway_workers_live", "Workers whose process runs, in any state.", lambda seen: len(seen.live)),
    HostMetric("gateway_workers_serving", "Workers that hold a configuration and do not drain.", _serving),
    HostMetric("gateway_agent_up", "Whether the sync agent's process runs.", lambda seen: seen.agent_is_alive),
    HostMetric("gateway_agent_heartbeat_age_seconds", "Time since the sync agent's last heartbeat.", _heartbeat_age_s),
    HostMetric("gateway_config_version", "Version the sync agent published last.", _of_slot(lambda slot: slot.version)),
    HostMetric(
        "gateway_config_revision",
        "Revision of the store up to which the sync agent has published what changed.",
        _of_slot(lambda slot: slot.revision),
    ),
    HostMetric("gateway_config_published_timestamp_seconds", "When the last version was published.", _published_at_s),
)

WORKER: Final = (
    WorkerMetric(
        "gateway_worker_config_version",
        "Version the worker serves, 0 for none.",
        _of_cell(lambda cell: cell.version),
    ),
    WorkerMetric(
        "gateway_worker_config_revision",
        "Revision of the store that what the worker serves stands for.",
        _of_cell(lambda cell: cell.revision),
    ),
    WorkerMetric(
        "gateway_worker_config_current",
        "Whether the worker serves the version published last, with the digest that was published.",
        _is_current,
    ),
    WorkerMetric(
        "gateway_worker_config_applied_timestamp_seconds", "When the worker took up what it serves.", _applied_at_s
    ),
    WorkerMetric(
        "gateway_worker_staleness_seconds", "For how long a change has been seen and not served.", _staleness_s
    ),
    WorkerMetric(
        "gateway_worker_staleness_max_seconds",
        "The longest that a change ever waited in this worker.",
        _worst_staleness_s,
    ),
    WorkerMetric(
        "gateway_worker_jitter_seconds",
        "The random wait that was drawn last.",
        _of_cell(lambda cell: cell.jitter_ms / 1e3),
    ),
    WorkerMetric(
        "gateway_worker_rebuild_duration_seconds",
        "How long the last application took, requests between its slices included.",
        _of_rebuild(lambda cell: cell.rebuild_ns / 1e9),
        of_rebuild=True,
    ),
    WorkerMetric(
        "gateway_worker_rebuild_cpu_seconds",
        "CPU time of the last application.",
        _of_rebuild(lambda cell: cell.rebuild_cpu_ns / 1e9),
        of_rebuild=True,
    ),
    WorkerMetric(
        "gateway_worker_rebuild_held_seconds",
        "The longest that a slice of the last application held the event loop.",
        _of_rebuild(lambda cell: cell.rebuild_held_ns / 1e9),
        of_rebuild=True,
    ),
    WorkerMetric(
        "gateway_worker_rebuild_held_max_seconds",
        "The longest that any slice of any application held the event loop.",
        _of_cell(lambda cell: cell.worst_held_ns / 1e9),
    ),
    WorkerMetric(
        "gateway_worker_updates_total",
        "Applications of what changed since the version before.",
        _of_cell(lambda cell: cell.updates),
    ),
    WorkerMetric(
        "gateway_worker_full_rebuilds_total",
        "Applications of the whole configuration.",
        _of_cell(lambda cell: cell.fulls),
    ),
    WorkerMetric(
        "gateway_worker_digest_mismatches_total",
        "Applications that ended with another digest than was published.",
        _of_cell(lambda cell: cell.mismatches),
    ),
    WorkerMetric(
        "gateway_worker_apply_failures_total",
        "Attempts to take up a version that failed; each is tried again.",
        _of_cell(lambda cell: cell.failures),
    ),
    WorkerMetric(
        "gateway_worker_problems",
        "Routes, among those used so far, that are not served as they are written.",
        _of_cell(lambda cell: cell.problems),
    ),
    WorkerMetric("gateway_worker_resources", "Resources the worker holds.", _of_cell(lambda cell: cell.resources)),
    WorkerMetric("gateway_worker_report_age_seconds", "Time since the worker last wrote its cell.", _report_age_s),
)
