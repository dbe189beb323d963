"""Latencies of alternating blocks as two pictures in one: over time, and by percentile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.block import quantile_ms, together
from bench.blocks import Turns
from bench.plot import figure

_COLOURS: Final = {False: "tab:blue", True: "tab:orange"}
_LABELS: Final = {False: "idle", True: "changing"}
# The percentile axis: each step takes a tenth of what is left, as HDR plots do.
_PERCENTS: Final = (0, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.75, 99.9, 99.95, 99.99, 100)


def draw_latencies(name: str, title: str, turns: Turns, marks: Sequence[tuple[int, str]]) -> None:
    """`marks`: moments (CLOCK_MONOTONIC, ns) at which something was applied, and what kind of thing."""
    blocks = [*turns.valid(False), *turns.valid(True)]
    if not blocks:
        return
    began_ns = min(block.start_ns for block in blocks)
    with figure(name, rows=2, height=1.8) as (over_time, by_percent):
        for changing in (False, True):
            _scatter(over_time, turns, changing, began_ns)
            if chosen := turns.valid(changing):
                whole = together(chosen)
                values = [quantile_ms(whole, percent) for percent in _PERCENTS]
                by_percent.plot(values, marker=".", color=_COLOURS[changing], label=_LABELS[changing])
        _mark(over_time, marks, began_ns)
        over_time.set(title=title, xlabel="s", ylabel="latency from intended send time, ms", yscale="log")
        low, high = over_time.get_ylim()
        over_time.set_ylim(low, high * 4)  # room for the legend
        over_time.legend(loc="upper left", fontsize="x-small", ncols=3)
        by_percent.set(xlabel="percentile", ylabel="ms", yscale="log")
        by_percent.set_xticks(range(len(_PERCENTS)), [f"{percent:g}" for percent in _PERCENTS])
        by_percent.grid(alpha=0.3)
        by_percent.legend()


def _scatter(axes: Any, turns: Turns, changing: bool, began_ns: int) -> None:
    for which, size, mark in ((1, 4, "o"), (2, 9, "x")):
        points = [
            ((block.start_ns - began_ns) / 1e9 + slot[0], slot[which])
            for block in turns.valid(changing)
            for slot in block.slots
        ]
        if points:
            label = f"{_LABELS[changing]}, {'p99' if which == 1 else 'max'} of 100 ms"
            axes.scatter(*zip(*points, strict=True), s=size, marker=mark, c=_COLOURS[changing], label=label, lw=0.5)


def _mark(axes: Any, marks: Sequence[tuple[int, str]], began_ns: int) -> None:
    """As ticks at the foot: as lines, a hundred a second would cover everything."""
    for kind, colour in (("update", "tab:green"), ("full", "tab:red"), ("reload", "tab:red")):
        at_s = [(at_ns - began_ns) / 1e9 for at_ns, what in marks if what == kind]
        if at_s:
            foot = [0.02] * len(at_s)
            axes.plot(at_s, foot, "|", c=colour, ms=9, label=kind, transform=axes.get_xaxis_transform())
