"""The settings of the state that the workers of a host share: counters, breakers (gw/shared)."""

from __future__ import annotations

from dataclasses import dataclass

from gw.settings import kinds
from gw.settings.declare import setting


@dataclass(frozen=True, slots=True)
class SharedStateSettings:
    """What the workers of this host count together."""

    size_bytes: int = setting(
        # Below 4m a few of the largest values (64k) would push everything else out.
        kinds.size(4 << 20, 1 << 40),
        key="size",
        default="32m",
        unit="bytes",
        help="Shared memory for what the workers of this host count together, reserved in full: some 160 bytes a "
        "counter. When it is full, what expires first makes room. Another size takes effect when the gateway is "
        "stopped and started.",
    )
