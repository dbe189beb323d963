"""What benchmarks under a constant load have in common on the command line."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any, Final

_QUICK: Final = {"routes": 2_000, "block_s": 3.0, "pairs": 2}


class _Quick(argparse.Action):
    """Smaller defaults; what is given after it still counts."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, *_: Any) -> None:
        namespace.quick = True
        for name, value in _QUICK.items():
            setattr(namespace, name, value)


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Routes, rate, blocks; `--quick` first, so that it can be varied."""
    shown = ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in _QUICK.items())
    parser.add_argument("--quick", action=_Quick, nargs=0, default=False, help=f"to see that it works: {shown}")
    parser.add_argument("--routes", type=int, default=100_000, help="default 100000")
    parser.add_argument("--rate", type=float, default=2_000, help="requests per second (default 2000)")
    parser.add_argument("--block-s", type=float, default=20.0, help="length of a block (default 20)")
    parser.add_argument("--pairs", type=int, default=10, help="blocks with changes, between idle ones (default 10)")
    parser.add_argument("--body-bytes", type=int, default=1024, help="size of the answer (default 1024)")
    parser.add_argument(
        "--late-ms", type=float, default=1.0,
        help="a block counts only if the generator's own p99 lateness is below this (default 1)",
    )  # fmt: skip


def duration_text(seconds: float) -> str:
    """About how long: in seconds below two minutes, in minutes above."""
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} minutes"


def ending_cleanly() -> None:
    """End on SIGTERM as on Ctrl-C, so that every process that was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
