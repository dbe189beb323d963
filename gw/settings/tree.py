"""The settings that every process reads, declared once. Nothing in here is a secret: those are in `agent_tree`.

APISIX's names where it has them (conf/config.yaml.example of 3.x), ours under `gw`. An attribute has its unit at the
end of its name. What the help says is printed into conf/config-default.yaml by `gw.settings.reference`.
"""
# ruff: noqa: RUF009 - setting, section and derived are field specifiers, as dataclasses.field is

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from gw.settings import kinds, network
from gw.settings.access_log import AccessLogSettings
from gw.settings.admin import AdminAnswers, AdminSettings
from gw.settings.client_address import RealIpSettings, TrustSettings
from gw.settings.declare import derived, section, setting
from gw.settings.matching import GraphqlSettings, MatchingSettings
from gw.settings.network import Listen
from gw.settings.reloading import ReloadSettings
from gw.settings.resolver import ResolverSettings
from gw.settings.roles import DeploymentRoles
from gw.settings.shared_state import SharedStateSettings

Window: TypeAlias = tuple[int, int]

# The plugins that come with the gateway, in the order in which they run.
OWN_PLUGINS: Final = (
    *("request-id", "basic-auth", "key-auth", "forward-auth", "proxy-rewrite"),
    *("limit-count", "response-rewrite", "http-logger"),
)

# Longer than any wait that makes sense for one client (nginx takes more, but a day is already "never").
_MAX_TIME_S = 86400.0


@dataclass(frozen=True, slots=True)
class ControlListen:
    """Where the control API listens, and whether it does."""

    ip: str = setting(network.ip_address(), default="127.0.0.1", help="Address of the control API.")
    port: int = setting(network.PORT, default=9090, help="Port of the control API.")
    enabled: bool = derived(True)

    @property
    def listen(self) -> Listen:
        return Listen(self.ip, self.port)


@dataclass(frozen=True, slots=True)
class StatusListen:
    """Where /status and /status/ready are answered."""

    ip: str = setting(network.ip_address(), default="127.0.0.1", help="Address of the status listener.")
    port: int = setting(network.PORT, default=7085, help="Port of the status listener.")

    @property
    def listen(self) -> Listen:
        return Listen(self.ip, self.port)


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """How a route is found."""

    http: str = setting(
        kinds.choice("radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"),
        default="radixtree_host_uri",
        help="What a route is looked up by: host and path; path alone; path alone, with :name and *name in it.",
    )


@dataclass(frozen=True, slots=True)
class SslSettings:
    """TLS towards others: etcd, and upstreams whose certificate is verified."""

    ssl_trusted_certificate: Path | None = setting(
        kinds.either("system", None, kinds.file_path()),
        default="system",
        help="PEM file with the CA certificates that TLS peers are verified against; system: those of the host.",
    )


@dataclass(frozen=True, slots=True)
class ApisixSettings(MatchingSettings, ResolverSettings, TrustSettings):
    """The gateway's listeners, its router, whom it trusts, and how it finds the addresses of nodes."""

    node_listen: tuple[Listen, ...] = setting(
        network.traffic_listens(),
        default=[9080],
        help="Where HTTP traffic is accepted. Without an ip: 0.0.0.0, all IPv4 addresses of the host.",
    )
    enable_admin: bool = setting(kinds.boolean(), default=True, help="Whether the Admin API is served.")
    enable_control: bool = setting(kinds.boolean(), default=True, help="Whether the control API is served.")
    disable_upstream_healthcheck: bool = setting(
        kinds.boolean(), default=False, help="Check no upstream, whatever its checks say: every node is healthy then."
    )
    enable_server_tokens: bool = setting(
        kinds.boolean(), default=True, help="Whether Server in answers names the version (with server_header: auto)."
    )
    show_upstream_status_in_response_header: bool = setting(
        kinds.boolean(),
        default=False,
        help="Whether every answer of an upstream has X-APISIX-Upstream-Status: what each node came to that was tried. "
        "Otherwise those that end in a 5xx have it.",
    )
    control: ControlListen = section(ControlListen)
    status: StatusListen = section(StatusListen)
    router: RouterSettings = section(RouterSettings)
    ssl: SslSettings = section(SslSettings)


@dataclass(frozen=True, slots=True)
class DeploymentSettings(DeploymentRoles):
    """APISIX's deployment section, without what belongs to the agent."""

    admin: AdminSettings = section(AdminSettings)


@dataclass(frozen=True, slots=True)
class UpstreamKeepalive:
    """Idle connections to upstream nodes, where the upstream itself does not say otherwise."""

    keepalive: int = setting(
        kinds.integer(0, 100_000),
        default=320,
        unit="connections",
        help="Idle connections to one node that a worker keeps at most.",
    )
    keepalive_requests: int = setting(
        kinds.integer(1, 1_000_000_000), default=1000, unit="requests", help="Requests one connection serves at most."
    )
    keepalive_timeout_s: float = setting(
        kinds.seconds(0, _MAX_TIME_S),
        key="keepalive_timeout",
        default="60s",
        unit="seconds",
        help="How long an idle connection is kept; 0 keeps none.",
    )


@dataclass(frozen=True, slots=True)
class HttpSettings(RealIpSettings, AccessLogSettings):
    """What the client side of the proxy allows, by nginx's names."""

    keepalive_timeout_s: float = setting(
        kinds.seconds(0, _MAX_TIME_S),
        key="keepalive_timeout",
        default="60s",
        unit="seconds",
        help="How long an idle client connection stays open, in whole seconds or a little longer; 0 closes after each "
        "answer.",
    )
    client_header_timeout_s: float = setting(
        kinds.seconds(0.001, _MAX_TIME_S),
        key="client_header_timeout",
        default="60s",
        unit="seconds",
        help="Within what time a client must have sent the whole head of its first request; the heads of later ones "
        "have keepalive_timeout.",
    )
    client_body_timeout_s: float = setting(
        kinds.seconds(0.001, _MAX_TIME_S),
        key="client_body_timeout",
        default="60s",
        unit="seconds",
        help="Longest pause between two pieces of a request body.",
    )
    client_max_body_size_bytes: int = setting(
        kinds.size(0, 1 << 50),
        key="client_max_body_size",
        default=0,
        unit="bytes",
        help="Largest request body; 0 means any. Above it the answer is 413.",
    )
    send_timeout_s: float = setting(
        kinds.seconds(0.001, _MAX_TIME_S),
        key="send_timeout",
        default="10s",
        unit="seconds",
        help="Longest pause in which a client takes nothing of an answer.",
    )
    underscores_in_headers: bool = setting(
        kinds.boolean(),
        default="on",
        help="on: header names with _ are passed on; off: such headers are dropped.",
    )
    upstream: UpstreamKeepalive = section(UpstreamKeepalive)


@dataclass(frozen=True, slots=True)
class NginxConfig:
    """APISIX's section for what nginx did there and gunicorn and our proxy do here."""

    worker_processes: int | None = setting(
        kinds.either("auto", None, kinds.integer(1, 1024)),
        default="auto",
        unit="processes",
        help="Workers, as APISIX names them; gw.workers wins. auto: one per CPU this process may use.",
    )
    worker_shutdown_timeout_s: float = setting(
        kinds.seconds(0, _MAX_TIME_S),
        key="worker_shutdown_timeout",
        default="240s",
        unit="seconds",
        help="How long requests in flight may take to finish when a worker is stopped.",
    )
    http: HttpSettings = section(HttpSettings)


@dataclass(frozen=True, slots=True)
class ExportAddr:
    """Where the metrics listener listens."""

    ip: str = setting(network.ip_address(), default="127.0.0.1", help="Address of the metrics listener.")
    port: int = setting(network.PORT, default=9091, help="Port of the metrics listener.")


@dataclass(frozen=True, slots=True)
class PrometheusAttr:
    """What of APISIX's prometheus plugin the gateway itself does: a listener for Prometheus to scrape."""

    enable_export_server: bool = setting(
        kinds.boolean(),
        default=True,
        help="Whether there is a metrics listener. Without it nothing exports the metrics.",
    )
    export_uri: str = setting(
        # As it stands in a request line, so that nothing has to be decoded to compare it.
        kinds.text("a path of letters, digits and - . _ ~ between slashes", r"/|(?:/[A-Za-z0-9._~-]+)+/?"),
        default="/apisix/prometheus/metrics",
        help="Path at which the metrics are.",
    )
    metric_prefix: str = setting(
        kinds.text(
            "at most 64 letters, digits, _ and :, none of the digits first", r"(?:[A-Za-z_:][A-Za-z0-9_:]{0,63})?"
        ),
        default="apisix_",
        help="What the name of each metric begins with.",
    )
    export_addr: ExportAddr = section(ExportAddr)

    @property
    def listen(self) -> Listen:
        return Listen(self.export_addr.ip, self.export_addr.port)


@dataclass(frozen=True, slots=True)
class PluginAttr:
    """APISIX's section for what plugins have one of per gateway."""

    prometheus: PrometheusAttr = section(PrometheusAttr)


@dataclass(frozen=True, slots=True)
class ShmSettings:
    """The shared memory between agent and workers."""

    name: str = setting(
        # Long enough for any name, short enough for the socket's path (107 bytes) to leave room for a directory.
        kinds.text("1 to 40 letters, digits and - _ ., a letter or digit first", r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}"),
        default="jitterway",
        help="Name of this gateway on its host: of its shared memory, locks and sockets. Two gateways take two names.",
    )
    log_size_bytes: int = setting(
        # One resource (gw.limits.resource) must fit more than once, or each change would be a full rebuild.
        kinds.size(64 << 10, 1 << 30),
        key="log_size",
        default="8m",
        unit="bytes",
        help="Size of the change log. A worker that falls behind by more than this rebuilds in full.",
    )
    group: str | None = setting(
        kinds.optional(kinds.text("the name of a group", r"[A-Za-z0-9_.-]{1,64}")),
        default=None,
        help="Group of the workers, which may read the agent's segments. null: the group of the process.",
    )
    owners: tuple[str, ...] = setting(
        kinds.list_of(kinds.text("the name of a user", r"[A-Za-z0-9_.-]{1,64}"), "a list of names of users"),
        default=[],
        help="Users whose segments are trusted besides our own: agent and workers, where these are two users.",
    )


@dataclass(frozen=True, slots=True)
class RebuildSettings:
    """When workers take up a new version."""

    poll_interval_ms: int = setting(
        kinds.integer(1, 10_000), default=5, unit="ms", help="How often a worker looks at the version counter."
    )
    full_jitter_ms: Window = setting(
        kinds.window_ms(600_000), default=[0, 500], unit="ms", help="Random wait before a full rebuild; 0: none."
    )
    update_jitter_ms: Window = setting(
        kinds.window_ms(600_000), default=[0, 20], unit="ms", help="Random wait before applying a few changes; 0: none."
    )
    slice_ms: int = setting(
        kinds.integer(1, 1000), default=1, unit="ms", help="Longest piece of a full rebuild between two events."
    )
    max_concurrent_full: int = setting(
        kinds.integer(0, 1024),
        default=1,
        unit="workers",
        help="Workers of this host in a full rebuild at once; 0: no limit. One that serves nothing yet does not wait.",
    )
    full_timeout_ms: int = setting(
        kinds.integer(100, 3_600_000),
        default=10_000,
        unit="ms",
        help="A full rebuild that takes longer gives up its turn, and goes on.",
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Sizes beyond which something is refused, so that no client and no resource can fill the memory."""

    request_line_bytes: int = setting(
        # gunicorn's own ceiling for a limited request line is 8190.
        kinds.size(128, 8190),
        key="request_line",
        default=8190,
        unit="bytes",
        help="Longest request line (method, path and query).",
    )
    request_headers: int = setting(
        # gunicorn's ceiling.
        kinds.integer(1, 32768), default=100, unit="headers", help="Most header lines of a request."
    )
    request_header_bytes: int = setting(
        kinds.size(128, 1 << 20), key="request_header", default=8190, unit="bytes", help="Longest header line."
    )
    resource_bytes: int = setting(
        kinds.size(1 << 10, 16 << 20),
        key="resource",
        default="1m",
        unit="bytes",
        help="Largest resource (route, service, ...) in the store; a larger one is reported and not published.",
    )
    admin_body_bytes: int = setting(
        # APISIX's MAX_REQ_BODY (apisix/admin/init.lua) is 1.5 MiB.
        kinds.size(1 << 10, 64 << 20),
        key="admin_body",
        default="1536k",
        unit="bytes",
        help="Largest request body of the Admin API.",
    )
    document_bytes: int = setting(
        kinds.size(64 << 10, 64 << 20),
        key="document",
        default="32m",
        unit="bytes",
        help="Largest document of all resources: apisix.yaml, apisix.json, the body of PUT /apisix/admin/configs.",
    )


@dataclass(frozen=True, slots=True)
class GwSettings(ReloadSettings):
    """What is Jitterway's own."""

    workers: int = setting(
        # auto is 0 until `load` has worked it out.
        kinds.either("auto", 0, kinds.integer(1, 1024)),
        default="auto",
        unit="processes",
        help="Worker processes. auto: as nginx_config.worker_processes says.",
    )
    shm: ShmSettings = section(ShmSettings)
    shared_state: SharedStateSettings = section(SharedStateSettings)
    run_dir: Path = setting(kinds.file_path(), default="var/run", help="Where sockets, locks and pid files lie.")
    data_dir: Path = setting(
        kinds.file_path(), default="var", help="Where the embedded store, the last good snapshot and the key lie."
    )
    allow_code: bool = setting(
        kinds.boolean(),
        default=False,
        help="Whether Python code in the configuration (filter_func of a route) may run. Whoever may write the "
        "configuration may then do whatever the workers may.",
    )
    rebuild: RebuildSettings = section(RebuildSettings)
    limits: LimitSettings = section(LimitSettings)
    admin: AdminAnswers = section(AdminAnswers)
    edge: str = setting(
        kinds.choice("h1", "asgi"),
        default="h1",
        help="What speaks to the clients of proxied traffic: h1, our own protocol; asgi, gunicorn's, which costs more.",
    )
    log_level: str = setting(
        kinds.choice("debug", "info", "warning", "error"), default="info", help="What is worth a line in the log."
    )
    graceful_timeout_s: float = derived(0.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """The worker's part of the configuration: everything but secrets.

    `source` is the user's file, absolute. `warnings` are for people: what was accepted but does nothing, or is risky.
    """

    apisix: ApisixSettings = section(ApisixSettings)
    deployment: DeploymentSettings = section(DeploymentSettings)
    nginx_config: NginxConfig = section(NginxConfig)
    graphql: GraphqlSettings = section(GraphqlSettings)
    plugins: tuple[str, ...] = setting(
        kinds.list_of(kinds.text("the name of a plugin", r"[^\s\x00-\x1f]{1,256}"), "a list of names of plugins"),
        default=list(OWN_PLUGINS),
        help="Plugins that may be used, ours and those of installed packages; the list takes the place of the default. "
        "`gw plugins` shows all there are. What uses another one answers 500.",
    )
    plugin_attr: PluginAttr = section(PluginAttr)
    gw: GwSettings = section(GwSettings)
    source: Path = derived(Path())
    warnings: tuple[str, ...] = derived(())
    # By plugin. Not in a repr: an operator may have written a password there.
    plugin_sections: tuple[tuple[str, Mapping[str, Any]], ...] = dataclasses.field(default=(), repr=False)

    def attr_of(self, plugin: str) -> Mapping[str, Any]:
        """An enabled plugin's own section of `plugin_attr` as it is written, variables replaced; `{}` without one."""
        return next((section for name, section in self.plugin_sections if name == plugin), {})

    @property
    def socket_path(self) -> Path:
        """The Unix socket on which the agent answers."""
        return self.gw.run_dir / f"{self.gw.shm.name}.agent.sock"

    @property
    def access_log_path(self) -> Path:
        """The file of the access log, absolute."""
        return self.gw.data_dir / self.nginx_config.http.access_log

    @property
    def turn_paths(self) -> tuple[Path, ...]:
        """The lock files of which a worker holds one while it rebuilds in full; none without a cap.

        There are no more of them than workers.
        """
        turns = min(self.gw.rebuild.max_concurrent_full, self.gw.workers)
        return tuple(self.gw.run_dir / f"{self.gw.shm.name}.full.{number}.lock" for number in range(turns))
