"""Output that somebody may stop reading: `gw openapi | head`, `gw start | head -1`."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def say(text: str) -> None:
    """Tell people something while the gateway runs, on standard error. It goes on where nobody reads that any more."""
    print_while_read(f"gw: {text}", sys.stderr)


def print_while_read(text: str, to: TextIO) -> None:
    """Print at once; where the reader is gone, this and all that follows goes nowhere."""
    try:
        print(text, file=to, flush=True)
    except BrokenPipeError:
        let_go_of(to)


def let_go_of(stream: TextIO) -> None:
    """Send what is still buffered nowhere: the interpreter would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
