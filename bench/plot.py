"""How a benchmark shows what it measured: a PNG beside the JSON of the same name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.report import RESULTS

_INCHES = (9.0, 4.5)
_DOTS_PER_INCH = 110


@contextmanager
def figure(name: str, *, rows: int = 1, columns: int = 1, height: float = 1.0) -> Iterator[Any]:
    """Axes to draw on (one, or an array of them), written to `bench/results/<name>.png` at the end."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("plots need matplotlib: make .venv/.bench-installed") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(rows, columns, figsize=(_INCHES[0], _INCHES[1] * height), squeeze=True)
    yield axes
    drawn.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.png"
    drawn.savefig(path, dpi=_DOTS_PER_INCH)
    pyplot.close(drawn)
    print(f"drawn to {path}", file=sys.stderr)
