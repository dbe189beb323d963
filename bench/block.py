"""One block of load as figures: latencies from the intended send time, errors, and how punctual the generator was."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Final

from hdrh.histogram import HdrHistogram

from bench.generator import ANSWERED, TIMED_OUT, Recorded

_NS_PER_US: Final = 1_000
# From 1 us to a minute, with three digits.
_LEAST_US, _MOST_US, _DIGITS = 1, 60_000_000, 3
# Width of what the plots show as one point.
SLOT_S: Final = 0.1


class Block:
    """Percentiles are over what was answered (with whatever status) and what was not answered in time, which counts
    with the time until it was given up. What failed at once (a reset) has no latency, and is in `errors` alone.
    """

    def __init__(self, recorded: Recorded, rate_per_s: float, seconds: float, late_limit_ms: float) -> None:
        self.start_ns = recorded.start_ns
        self.seconds = seconds
        self.errors = dict(recorded.errors)
        self.opened = recorded.opened
        self.waited = recorded.waited
        self.requests = len(recorded.outcomes)
        self.histogram = new_histogram()
        self.slots: list[tuple[float, float, float]] = []  # (s since start, p99 in ms, maximum in ms)
        self._read(recorded, rate_per_s)
        self._late = new_histogram()
        for late_ns in recorded.late_ns:
            self._late.record_value(max(_LEAST_US, late_ns // _NS_PER_US))
        # What the generator took up within the block's time, its own lateness included.
        self.sent_per_s = _sent_in_time(recorded, rate_per_s, seconds) / seconds
        self.generator_cpu_share = recorded.cpu_s / seconds
        self.invalid = self._why_invalid(recorded, rate_per_s, late_limit_ms)

    def quantile_ms(self, percent: float) -> float:
        """The latency that `percent` of the requests did not exceed."""
        return quantile_ms(self.histogram, percent)

    def late_ms(self, percent: float) -> float:
        """How late `percent` of the requests, at most, were taken up by the generator."""
        return quantile_ms(self._late, percent)

    def figures(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            **percentiles(self.histogram),
            "requests": self.requests,
            "errors": self.errors,
            "sent_per_s": self.sent_per_s,
            "late_p99_ms": self.late_ms(99),
            "late_max_ms": self.late_ms(100),
            "generator_cpu_share": self.generator_cpu_share,
            "connections_opened": self.opened,
            "waited_for_a_connection": self.waited,
            "invalid": self.invalid,
        }

    def _read(self, recorded: Recorded, rate_per_s: float) -> None:
        per_slot = max(1, int(rate_per_s * SLOT_S))
        record = self.histogram.record_value
        for begin in range(0, self.requests, per_slot):
            latencies_us = array("q")
            for number in range(begin, min(begin + per_slot, self.requests)):
                if recorded.outcomes[number] in (ANSWERED, TIMED_OUT):
                    due_ns = recorded.start_ns + int(number * recorded.interval_ns)
                    latencies_us.append(max(_LEAST_US, (recorded.ended_ns[number] - due_ns) // _NS_PER_US))
            for latency_us in latencies_us:
                record(min(latency_us, _MOST_US))
            if latencies_us:
                ordered = sorted(latencies_us)
                at_99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
                self.slots.append((begin / rate_per_s, at_99 / 1e3, ordered[-1] / 1e3))

    def _why_invalid(self, recorded: Recorded, rate_per_s: float, late_limit_ms: float) -> str:
        """Why the block says nothing; empty when it does."""
        if recorded.given_up:
            return "the generator fell behind by half a second and stopped"
        if self.late_ms(99) > late_limit_ms:
            return f"the generator was {self.late_ms(99):.2f} ms late at p99, above {late_limit_ms:g} ms"
        if self.sent_per_s < 0.99 * rate_per_s:
            return f"the generator sent {self.sent_per_s:.0f}/s instead of {rate_per_s:g}/s"
        return ""


def _sent_in_time(recorded: Recorded, rate_per_s: float, seconds: float) -> int:
    end_ns = seconds * 1e9
    interval_ns = 1e9 / rate_per_s
    sent = sum(number * interval_ns + late <= end_ns for number, late in enumerate(recorded.late_ns))
    # Those that were never taken up, when the block was broken off, stand there as punctual.
    return sent - recorded.outcomes.count(0)


def new_histogram() -> HdrHistogram:
    """An empty histogram of microseconds."""
    return HdrHistogram(_LEAST_US, _MOST_US, _DIGITS)


def quantile_ms(histogram: HdrHistogram, percent: float) -> float:
    return float(histogram.get_value_at_percentile(percent)) / 1e3


def percentiles(histogram: HdrHistogram) -> dict[str, float]:
    """The four figures that are always told."""
    return {
        "p50_ms": quantile_ms(histogram, 50),
        "p99_ms": quantile_ms(histogram, 99),
        "p99.9_ms": quantile_ms(histogram, 99.9),
        "max_ms": quantile_ms(histogram, 100),
    }


def together(blocks: Iterable[Block]) -> HdrHistogram:
    """All blocks as one histogram."""
    whole = new_histogram()
    for block in blocks:
        whole.add(block.histogram)
    return whole
