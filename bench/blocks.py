"""Blocks without and with changes in turn, and what their comparison says on a machine that is not quiet.

idle, changing, idle, changing, ..., idle: each changing block is compared with the idle one before it, and each idle
one with the idle one before it. The first ratios say what changes cost, the second what the machine does by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from bench.block import Block, percentiles, quantile_ms, together
from bench.report import progress

# What the design asks for: p99 within a tenth of that without changes.
WITHIN: Final = 1.10
# A block in which the generator was late is made anew this often; then its place stays empty.
ATTEMPTS: Final = 3


@dataclass(slots=True)
class Turns:
    """The blocks of one condition in their order; None where the generator was too late each time.

    `redone` counts the blocks thrown away.
    """

    idle: list[Block | None] = field(default_factory=list)
    changing: list[Block | None] = field(default_factory=list)
    redone: int = 0

    @property
    def ratios(self) -> list[float]:
        """p99 of each changing block over that of the idle one before it."""
        return _ratios(zip(self.idle, self.changing, strict=False))

    @property
    def idle_ratios(self) -> list[float]:
        """p99 of each idle block over that of the idle one before it."""
        return _ratios(zip(self.idle, self.idle[1:], strict=False))

    def valid(self, changing: bool) -> list[Block]:
        """The blocks of one sort that count."""
        return [block for block in (self.changing if changing else self.idle) if block is not None]


def in_turn(run: Callable[[bool], Block], pairs: int, label: str) -> Turns:
    """`pairs` changing blocks (`run(True)`) between as many idle ones and one."""
    turns = Turns()
    for number in range(pairs + 1):
        turns.idle.append(_valid_block(run, False, turns, f"{label}: idle {number + 1} of {pairs + 1}"))
        if number < pairs:
            turns.changing.append(_valid_block(run, True, turns, f"{label}: changing {number + 1} of {pairs}"))
    return turns


def blocks_in(pairs: int) -> int:
    """How many blocks `in_turn` runs."""
    return 2 * pairs + 1


def latency_rows(turns: Turns, **about: Any) -> list[dict[str, Any]]:
    """A row for all idle blocks together and one for all changing ones."""
    rows = []
    for changing in (False, True):
        blocks = turns.valid(changing)
        if not blocks:
            continue
        requests = sum(block.requests for block in blocks)
        rows.append(
            {
                **about,
                "blocks": "changing" if changing else "idle",
                **percentiles(together(blocks)),
                "errors": sum(sum(block.errors.values()) for block in blocks),
                "requests": requests,
                "sent_per_s": statistics.mean(block.sent_per_s for block in blocks),
                "late_p99_ms": max(block.late_ms(99) for block in blocks),
                "late_max_ms": max(block.late_ms(100) for block in blocks),
            }
        )
    return rows


def verdict(turns: Turns) -> dict[str, Any]:
    """The median of the ratios beside the spread (quartiles) of both sorts, and whether the target is met."""
    ratios, idle_ratios = turns.ratios, turns.idle_ratios
    if not ratios or not idle_ratios:
        return {"ratio_p99": None, "ratio_spread": "-", "idle_spread": "-", "redone": turns.redone, "met": "no figures"}
    median, (_, most) = statistics.median(ratios), _quartiles(idle_ratios)
    inside = "yes" if median <= WITHIN else "yes, inside the idle spread" if median <= most else "no"
    return {
        "ratio_p99": round(median, 3),
        "ratio_spread": _spread(ratios),
        "idle_spread": _spread(idle_ratios),
        "redone": turns.redone,
        "met": inside,
    }


def details(turns: Turns) -> dict[str, Any]:
    """For the JSON: each block and each ratio."""
    return {
        "ratios": turns.ratios,
        "idle_ratios": turns.idle_ratios,
        "idle": [block and block.figures() for block in turns.idle],
        "changing": [block and block.figures() for block in turns.changing],
    }


def _valid_block(run: Callable[[bool], Block], changing: bool, turns: Turns, label: str) -> Block | None:
    for _ in range(ATTEMPTS):
        block = run(changing)
        if not block.invalid:
            progress(
                f"{label}: p50 {block.quantile_ms(50):.2f}, p99 {block.quantile_ms(99):.2f}, max "
                f"{block.quantile_ms(100):.1f} ms, {sum(block.errors.values())} errors"
            )
            return block
        progress(f"{label}: invalid, {block.invalid}; errors: {block.errors or 'none'}")
        turns.redone += 1
    return None


def _ratios(pairs: Any) -> list[float]:
    return [
        quantile_ms(block.histogram, 99) / quantile_ms(before.histogram, 99)
        for before, block in pairs
        if before is not None and block is not None
    ]


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _spread(values: list[float]) -> str:
    low, high = _quartiles(values)
    return f"{low:.2f}-{high:.2f} ({min(values):.2f}-{max(values):.2f})"
