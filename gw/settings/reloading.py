"""The settings of `gw reload`: how long each side of a change of workers may take."""

from __future__ import annotations

from dataclasses import dataclass

from gw.settings import kinds
from gw.settings.declare import setting


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """Old workers drain, new ones begin to serve. A part of `gw` itself: its keys stand directly below that."""

    drain_timeout_s: float = setting(
        # Below, a client that has just connected would be cut off before its first request is here.
        kinds.seconds(0.5, 3600),
        key="drain_timeout",
        # Longer than the pauses of a client that is at work; who pauses longer meets what it meets at the end of
        # keepalive_timeout anyway. nginx's keepalive_min_timeout and haproxy's idle-close-on-response have no default
        # to go by (0 and off).
        default="5s",
        unit="seconds",
        help="At a reload, how long an idle client connection of an old worker waits for one more request, which is "
        "answered with Connection: close; then it is closed.",
    )
    reload_timeout_s: float = setting(
        kinds.seconds(1, 3600),
        key="reload_timeout",
        default="60s",
        unit="seconds",
        help="At a reload, within what time all new workers must hold a configuration and serve; else they end, and "
        "the old ones go on.",
    )
