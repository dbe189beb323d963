"""What `gw start` shows a newcomer when everything serves. Text only."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gw import __version__
from gw.server.listeners import ADMIN, CONTROL, METRICS, STATUS, TRAFFIC, Listener, listeners
from gw.settings import AgentSettings
from gw.settings.rules import is_document

_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened on

_PATHS = {TRAFFIC: "", ADMIN: "/apisix/admin", CONTROL: "/v1/convergence", STATUS: "/status/ready"}

_TITLES = {TRAFFIC: "traffic", ADMIN: "Admin API", CONTROL: "control API", STATUS: "status", METRICS: "metrics"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the greeting tells of the settings, the agent's too: where things lie, never a secret."""

    store_url: str
    key_file: Path | None
    keyring_file: Path | None
    key_source: Path
    asks_for_key: bool
    metrics_path: str

    @classmethod
    def of(cls, agent: AgentSettings) -> Surroundings:
        settings = agent.settings
        agent_file = settings.source.parent / "agent.yaml"
        return cls(
            store_url=agent.store_url,
            key_file=agent.key_file if agent.generate_admin_key else None,
            keyring_file=agent.keyring_file if agent.generate_keyring else None,
            key_source=agent_file if agent_file.exists() else settings.source,
            asks_for_key=settings.deployment.admin.admin_key_required,
            metrics_path=settings.plugin_attr.prometheus.export_uri,
        )


def greeting(surroundings: Surroundings, opened: Sequence[Listener], workers: int) -> str:
    """The lines to print: addresses, where the key lies, two commands to copy, and what does not hold here."""
    lines = ["", f"Jitterway {__version__} serves: {workers} workers, store {surroundings.store_url}", ""]
    paths = {**_PATHS, METRICS: surroundings.metrics_path}
    lines += [
        f"  {_TITLES[listener.role]:<12} http://{_reachable(listener)}{paths[listener.role]}{_where(listener)}"
        for listener in opened
    ]
    by_role = {listener.role: listener for listener in reversed(opened)}
    if admin := by_role.get(ADMIN):
        lines += [f"  {'admin key':<12} {_key_place(surroundings)}"]
        if surroundings.keyring_file:
            lines += [f"  {'keyring':<12} generated, in {surroundings.keyring_file}: back it up with the store"]
        lines += _first_steps(surroundings, admin, by_role)
    else:
        lines += [f"  {'Admin API':<12} does not listen (apisix.enable_admin, or deployment.role: data_plane)", ""]
    lines += [
        "Agent and workers run as one user here, so the workers could read what is the agent's alone. The systemd",
        "units in conf/ keep them apart. Ctrl-C stops; once more, at once.",
        "",
    ]
    return "\n".join(lines)


def of_settings(agent: AgentSettings) -> str:
    """`greeting` for a configuration."""
    return greeting(Surroundings.of(agent), listeners(agent.settings), agent.settings.gw.workers)


def _first_steps(surroundings: Surroundings, admin: Listener, by_role: dict[str, Listener]) -> list[str]:
    if is_document(surroundings.store_url):
        return ["", "All resources come as one document; docs/standalone.md shows how.", ""]
    return ["", "Put a route, then call it:", "", *_commands(surroundings, admin, by_role), ""]


def _commands(surroundings: Surroundings, admin: Listener, by_role: dict[str, Listener]) -> list[str]:
    """A route that any machine can serve without another program: to the gateway's own status listener."""
    status, traffic = by_role[STATUS], by_role[TRAFFIC]
    body = f'{{"uri": "/status", "upstream": {{"pass_host": "node", "nodes": {{"{_reachable(status)}": 1}}}}}}'
    route = f"http://{_reachable(admin)}/apisix/admin/routes/1?wait=2000"
    return [
        f"  curl -X PUT '{route}'{_key_header(surroundings)} -d '{body}'",
        f"  curl -i http://{_reachable(traffic)}/status",
    ]


def _key_header(surroundings: Surroundings) -> str:
    if not surroundings.asks_for_key:
        return ""
    key = f"$(cat {shlex.quote(str(surroundings.key_file))})" if surroundings.key_file else "$ADMIN_KEY"
    return f' -H "X-API-KEY: {key}"'


def _key_place(surroundings: Surroundings) -> str:
    if not surroundings.asks_for_key:
        return "none is asked for"
    if surroundings.key_file:
        return f"generated, in {surroundings.key_file}"
    return f"deployment.admin.admin_key in {surroundings.key_source}"


def _where(listener: Listener) -> str:
    return f"  (all addresses: {listener.address})" if listener.ip in _UNSPECIFIED else ""


def _reachable(listener: Listener) -> str:
    return Listener(listener.role, _UNSPECIFIED.get(listener.ip, listener.ip), listener.port).address
