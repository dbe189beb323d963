"""Keys of APISIX's configuration that mean nothing here: not yet, not any more, or never.

A configuration written for APISIX should start, and nothing in it may be ignored in silence: each such key that stands
in a file is a warning. Those whose silence would be dangerous (the operator believes in TLS, in an allow-list) stop the
start. A name that neither we nor APISIX know is an error in any case. Names as in conf/config.yaml.example of 3.x.
"""

from __future__ import annotations

from typing import Final

_LATER: Final = "is not supported yet, and does nothing"
_NGINX: Final = "configures nginx, and does nothing here"
_NEVER: Final = "has no meaning here, and does nothing"

# Dotted path -> what to tell. A path covers everything below it.
IGNORED: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "apisix.enable_dev_mode",
            "apisix.enable_http2",
            "apisix.proxy_cache",
            "apisix.router.ssl",
            "apisix.ssl.enable",
            "apisix.ssl.listen",
            "apisix.ssl.ssl_protocols",
            "apisix.ssl.ssl_ciphers",
            "apisix.ssl.ssl_session_tickets",
            "apisix.ssl.fallback_sni",
            "apisix.lru",
            "apisix.tracing",
            "apisix.global_rule_skip_internal_api",
            "deployment.admin.enable_admin_ui",
            "discovery",
            "stream_plugins",
            "plugin_attr.prometheus.metrics",
            "plugin_attr.prometheus.default_buckets",
            "api_breaker",
            "nginx_config.http.proxy_ssl_server_name",
            "nginx_config.http.charset",
        ),
        _LATER,
    ),
    **dict.fromkeys(
        (
            "nginx_config.user",
            "nginx_config.error_log",
            "nginx_config.enable_cpu_affinity",
            "nginx_config.worker_rlimit_nofile",
            "nginx_config.max_pending_timers",
            "nginx_config.max_running_timers",
            "nginx_config.event",
            "nginx_config.envs",
            "nginx_config.meta",
            "nginx_config.stream",
            "nginx_config.main_configuration_snippet",
            "nginx_config.http_configuration_snippet",
            "nginx_config.http_server_configuration_snippet",
            "nginx_config.http_server_location_configuration_snippet",
            "nginx_config.http_admin_configuration_snippet",
            "nginx_config.http_end_configuration_snippet",
            "nginx_config.stream_configuration_snippet",
            "nginx_config.http.lua_shared_dict",
            "nginx_config.http.custom_lua_shared_dict",
            "nginx_config.http.variables_hash_max_size",
        ),
        _NGINX,
    ),
    **dict.fromkeys(
        (
            "apisix.enable_reuseport",
            "apisix.extra_lua_path",
            "apisix.extra_lua_cpath",
            "apisix.lua_module_hook",
            "apisix.disable_sync_configuration_during_start",
            "apisix.worker_startup_time_threshold",
            "apisix.router.router_rebuild_min_interval",
            "apisix.events",
            "plugin_attr.prometheus.refresh_interval",
            "deployment.etcd.use_grpc",
            "deployment.etcd.resync_delay",
            "deployment.etcd.watch_timeout",
            "deployment.etcd.health_check_timeout",
            "deployment.etcd.startup_retry",
            "deployment.role_control_plane",
            "deployment.certs",
            "ext-plugin",
            "wasm",
            "xrpc",
        ),
        _NEVER,
    ),
    "apisix.match_uri_encoded_slash": "does nothing; an encoded slash never separates segments here",
    "nginx_config.error_log_level": "does nothing; use gw.log_level",
}

# Below it stands a name per plugin, and an operator's own plugin has a name that only the operator knows.
_PLUGIN_ATTR: Final = "plugin_attr."

# What must not be ignored: while it is switched on, the operator counts on it.
STOPPING: Final[dict[str, str]] = {
    "apisix.proxy_protocol": "is not supported yet; without it clients would appear under the balancer's address",
    "apisix.proxy_mode": "is not supported yet, other than http; streams would not be proxied",
    "apisix.stream_proxy": "is not supported yet; its ports would not be open",
    "deployment.admin.https_admin": "is not supported yet; keys would travel in clear. Leave the Admin API on loopback",
    "deployment.admin.admin_api_mtls": "is not supported yet; nobody's certificate would be asked for",
}

# APISIX 2.x, or what hands remember: where it is now.
MOVED: Final[dict[str, str]] = {
    "etcd": "deployment.etcd",
    "apisix.admin_key": "deployment.admin.admin_key",
    "apisix.allow_admin": "deployment.admin.allow_admin",
    "apisix.admin_listen": "deployment.admin.admin_listen",
    "apisix.port_admin": "deployment.admin.admin_listen.port",
    "apisix.https_admin": "deployment.admin.https_admin",
    "apisix.admin_api_mtls": "deployment.admin.admin_api_mtls",
    "apisix.admin_api_version": "deployment.admin.admin_api_version",
    "apisix.enable_admin_cors": "deployment.admin.enable_admin_cors",
    "apisix.data_encryption.enable": "apisix.data_encryption.enable_encrypt_fields",
    "apisix.config_center": "deployment.role_traditional.config_provider or deployment.role_data_plane.config_provider",
}


def ignored(path: str) -> str | None:
    """What to tell of a key that is accepted and does nothing; None for one that nobody knows."""
    is_of_plugin = path.startswith(_PLUGIN_ATTR) and "." not in path.removeprefix(_PLUGIN_ATTR)
    return IGNORED.get(path) or (_LATER if is_of_plugin else None)


def is_off(value: object) -> bool:
    """Whether a value of a key in STOPPING asks for nothing: empty, false, the default, or a mapping of such."""
    if isinstance(value, dict):
        return all(is_off(item) for item in value.values())
    return not value or value in ("http", "off", "false")
