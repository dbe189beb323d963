"""How `gw status` writes a table: aligned columns, and numbers that stay short whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A line for each row, columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def short_time(time_ms: float) -> str:
    """A time in at most seven characters, up to a day."""
    if time_ms < 100:
        return f"{time_ms:.1f}ms".replace(".0ms", "ms")
    return f"{time_ms:.0f}ms" if time_ms < 10_000 else f"{time_ms / 1000:.0f}s"


def short_size(size_bytes: int) -> str:
    """A number of bytes in at most six characters, up to 1000 PB; units are decimal."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f}{unit}" if unit == "B" or size >= 99.95 else f"{size:.1f}{unit}"
