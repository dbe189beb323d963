"""The figures as bars: times nginx by load, and what plugins cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.plot import figure

_COLOURS: Final = {
    "nginx": "tab:green",
    "haproxy": "tab:olive",
    "h1": "tab:blue",
    "asgi": "tab:orange",
    "falcon+aiohttp": "tab:gray",
}
# The line at 1 is nginx.
_SHOWN: Final = tuple(name for name in _COLOURS if name != "nginx")
# Of the design, in times nginx.
_TARGETS: Final = {"h1": 2.0, "asgi": 4.0}


def draw(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """What was not measured leaves a gap."""
    compared = [row for row in rows if row["times_nginx"] and row["group"] != "plugins" and row["server"] in _SHOWN]
    plugins = [row for row in rows if row["group"] == "plugins" and row["over_base_us"] is not None]
    panels = [(compared, "times_nginx", "CPU per request, times nginx"), (plugins, "over_base_us", "a plugin, us")]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return
    with figure(name, rows=len(panels), height=1.0 * len(panels)) as drawn:
        for axes, (chosen, key, label) in zip([drawn] if len(panels) == 1 else drawn, panels, strict=True):
            _bars(axes, chosen, key, label)


def _bars(axes: Any, rows: Sequence[dict[str, Any]], key: str, label: str) -> None:
    places = list(dict.fromkeys((row["group"], row["load"]) for row in rows))
    servers = list(dict.fromkeys(row["server"] for row in rows))
    width = 0.8 / len(servers)
    for number, server in enumerate(servers):
        bars = [(places.index((row["group"], row["load"])), row[key]) for row in rows if row["server"] == server]
        at = [place + (number - (len(servers) - 1) / 2) * width for place, _ in bars]
        axes.bar(at, [value for _, value in bars], width, color=_COLOURS[server], label=server)
        if key == "times_nginx" and server in _TARGETS:
            axes.axhline(_TARGETS[server], color=_COLOURS[server], ls="--", lw=0.7)
    axes.set_xticks(range(len(places)), [_place(*place) for place in places], rotation=30, ha="right", fontsize=8)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="x-small")


def _place(group: str, load: str) -> str:
    return load if group in ("plugins", "bodies", "routes") else f"{group}: {load}"
