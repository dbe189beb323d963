"""What Prometheus is told of a host's gateway, from one look and nothing else.

The cells in shared memory are the state that the workers share, so any of them answers for all. A counter of a cell
begins anew with the process it belongs to, as Prometheus expects; those of traffic go on in the next one. Of
prometheus_client we use families and text; not its registry, its global metrics or its multiprocess files, which would
keep a second account of the same things.

The metrics of APISIX stand here where there is a truth for them; those of our own are in `gw.metrics.declare`, and what
is counted of traffic in `gw.metrics.traffic`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import exposition as plain
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics

from gw import __version__
from gw.metrics.declare import HOST, WORKER, HostMetric, WorkerMetric
from gw.metrics.host_view import HostView
from gw.metrics.traffic import traffic_families
from gw.shm.layout import AgentState, Cell
from gw.shm.reader import STALE_AFTER_NS

PLAIN: Final = plain.CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST

_WORKER_LABELS: Final = ("worker", "pid")
_COUNTER_ENDING: Final = "_total"
_END: Final = b"# EOF\n"


@dataclass(frozen=True, slots=True)
class _Collected:
    """prometheus_client's form of a registry."""

    families: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.families


def exposition(seen: HostView, prefix: str, content_type: str = PLAIN) -> Iterator[bytes]:
    """The body of an answer in one of the two forms, PLAIN or OPENMETRICS. `prefix` begins each name.

    In pieces, one per metric, for a caller that has an event loop to run: with 64 workers the whole takes 10 to 20 ms,
    and a piece some 1.
    """
    for family in _families(seen, prefix):
        collected = _Collected((family,))
        if content_type == OPENMETRICS:
            text: bytes = openmetrics.generate_latest(collected)  # type: ignore[no-untyped-call]
            yield text.removesuffix(_END)
        else:
            yield plain.generate_latest(collected)
    if content_type == OPENMETRICS:
        yield _END


def _families(seen: HostView, prefix: str) -> Iterator[Metric]:
    """All metrics with something to say."""
    yield from (family for family in _of_apisix(seen, prefix) if family.samples)
    if seen.traffic:
        yield from traffic_families(seen.traffic, (index for index, _ in seen.live), prefix)
    yield from (family for metric in HOST if (family := _of_host(metric, seen, prefix)).samples)
    yield from (family for metric in WORKER if (family := _of_workers(metric, seen, prefix)).samples)


def _of_apisix(seen: HostView, prefix: str) -> list[Metric]:
    """APISIX's names for what is true here, too. docs/compatibility.md says what they mean, and which are not there."""
    node = InfoMetricFamily(f"{prefix}node", "Info of the gateway's host.")
    node.add_metric((), {"hostname": seen.host_name, "version": __version__})
    reachable = GaugeMetricFamily(
        f"{prefix}etcd_reachable", "Whether the sync agent follows the configuration store.", _is_following(seen)
    )
    indexes = GaugeMetricFamily(
        f"{prefix}etcd_modify_indexes",
        "Revision of the store up to which the sync agent has published what changed.",
        labels=("key",),
    )
    if seen.slot is not None:
        indexes.add_metric(("max_modify_index",), seen.slot.revision)
    return [node, reachable, indexes]


def _is_following(seen: HostView) -> bool:
    """Whether changes come through: an agent that stands still is none that watches, whatever its last word was."""
    slot = seen.slot
    if slot is None or not seen.agent_is_alive:
        return False
    return slot.state is AgentState.WATCHING and seen.now_ns - slot.heartbeat_ns <= STALE_AFTER_NS


def _of_host(metric: HostMetric, seen: HostView, prefix: str) -> Metric:
    return GaugeMetricFamily(f"{prefix}{metric.name}", metric.help, metric.value(seen))


def _of_workers(metric: WorkerMetric, seen: HostView, prefix: str) -> Metric:
    is_counter = metric.name.endswith(_COUNTER_ENDING)
    family_type = CounterMetricFamily if is_counter else GaugeMetricFamily
    labels = (*_WORKER_LABELS, "kind") if metric.of_rebuild else _WORKER_LABELS
    family = family_type(f"{prefix}{metric.name}", metric.help, labels=labels)
    for index, cell in seen.live:
        value = metric.value(cell, seen)
        if value is not None:
            family.add_metric(_labels(metric, index, cell), value)
    return family


def _labels(metric: WorkerMetric, index: int, cell: Cell) -> tuple[str, ...]:
    worker = str(index), str(cell.pid)
    return (*worker, cell.rebuild_kind.name.lower()) if metric.of_rebuild else worker
