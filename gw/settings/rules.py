"""What must hold between settings, each of which is right by itself. Decides only; reads nothing but its arguments."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from gw.settings.agent_tree import AgentTree
from gw.settings.client_address import trust_warnings
from gw.settings.network import Listen
from gw.settings.tree import Settings
from gw.settings.unknown import Problem

# sun_path of Linux has 108 bytes with its final NUL.
_MAX_SOCKET_PATH_BYTES: Final = 107
_DOCUMENT_SCHEMES: Final = ("yaml:", "json:", "standalone:")


def named_listens(settings: Settings) -> Iterator[tuple[str, Listen]]:
    """(dotted path, address) of every listener that is switched on."""
    for index, listen in enumerate(settings.apisix.node_listen):
        yield f"apisix.node_listen[{index}]", listen
    if settings.apisix.enable_admin:
        yield "deployment.admin.admin_listen", settings.deployment.admin.listen
    if settings.apisix.control.enabled:
        yield "apisix.control", settings.apisix.control.listen
    yield "apisix.status", settings.apisix.status.listen
    if settings.plugin_attr.prometheus.enable_export_server:
        yield "plugin_attr.prometheus.export_addr", settings.plugin_attr.prometheus.listen


def settings_problems(settings: Settings) -> Iterator[Problem]:
    """What stops a start, in the part that all processes read."""
    for (first, one), (second, other) in itertools.combinations(named_listens(settings), 2):
        if one.overlaps(other):
            yield Problem(second, f"{other} is taken by {first} ({one})")
    excess = len(bytes(settings.socket_path)) - _MAX_SOCKET_PATH_BYTES
    if excess > 0:
        yield Problem(
            "gw.run_dir", f"is {excess} bytes too long: a socket's path ({settings.socket_path}) has at most 107 bytes"
        )
    admin = settings.deployment.admin
    if settings.apisix.enable_admin and not admin.admin_key_required and _is_open(settings):
        yield Problem(
            "deployment.admin.admin_key_required",
            f"may be false only where loopback alone reaches the Admin API; it listens on {admin.listen} and lets in "
            f"{', '.join(map(str, admin.allow_admin))}",
        )


def _is_open(settings: Settings) -> bool:
    admin = settings.deployment.admin
    return not admin.listen.is_loopback and any(not block.is_loopback for block in admin.allow_admin)


def settings_warnings(settings: Settings) -> Iterator[str]:
    """What is accepted, but should be known."""
    yield from trust_warnings(settings.apisix.trusted_addresses, settings.nginx_config.http.real_ip_from)
    admin = settings.deployment.admin
    if not settings.apisix.enable_admin:
        return
    if not admin.allow_admin:
        yield "deployment.admin.allow_admin is empty, which lets nobody use the Admin API (in APISIX: everybody)"
    if not admin.admin_key_required:
        yield "deployment.admin.admin_key_required is off: every process of this host may change the configuration"
    elif not admin.listen.is_loopback and any(block.prefixlen == 0 for block in admin.allow_admin):
        yield (
            f"deployment.admin: the Admin API is open to the world on {admin.listen}; its keys travel in clear and are "
            "all that protects it"
        )


def agent_problems(agent: AgentTree) -> Iterator[Problem]:
    """What stops a start, in the agent's part."""
    etcd = agent.deployment.etcd
    if (etcd.user is None) != (etcd.password is None):
        missing, given = ("user", "password") if etcd.user is None else ("password", "user")
        yield Problem(f"deployment.etcd.{missing}", f"is missing, but {given} is given")
    if (etcd.tls.cert is None) != (etcd.tls.key is None):
        missing, given = ("cert", "key") if etcd.tls.cert is None else ("key", "cert")
        yield Problem(f"deployment.etcd.tls.{missing}", f"is missing, but {given} is given")


def chosen_store(agent: AgentTree, raw: dict[str, Any], settings: Settings) -> str:
    """The store's URL. `raw` is what the user wrote, without defaults: naming etcd there chooses it."""
    if agent.gw.store is not None:
        return agent.gw.store
    return "etcd" if _names_etcd(raw) else f"sqlite:///{settings.gw.data_dir / 'config.db'}"


def is_embedded(store_url: str) -> bool:
    """Whether the store is this host's own, so that keys for it can be made here."""
    return store_url.startswith("sqlite:")


def is_document(store_url: str) -> bool:
    """Whether resources come as one document that people write, and not one by one through the Admin API."""
    return store_url.startswith(_DOCUMENT_SCHEMES)


def _names_etcd(raw: dict[str, Any]) -> bool:
    deployment = raw.get("deployment") or {}
    role = deployment.get("role_traditional") or {}
    return bool(deployment.get("etcd") or role.get("config_provider"))


def agent_warnings(agent: AgentTree, raw: dict[str, Any], settings: Settings, store_url: str) -> Iterator[str]:
    """What is accepted, but should be known, in the agent's part."""
    if store_url != "etcd" and _names_etcd(raw):
        yield "gw.store wins over deployment.etcd and config_provider: etcd is not used"
    etcd = agent.deployment.etcd
    if store_url == "etcd" and not etcd.tls.verify and etcd.hosts[0].startswith("https"):
        yield (
            "deployment.etcd.tls.verify is off: whoever stands between us and etcd can read and change everything. "
            "Name etcd's CA in apisix.ssl.ssl_trusted_certificate instead"
        )
    if (
        store_url == "etcd"
        and settings.apisix.enable_admin
        and settings.deployment.admin.admin_key_required
        and not agent.deployment.admin.admin_key
    ):
        yield (
            "deployment.admin.admin_key is empty, so nobody can use the Admin API: with etcd, which hosts share, no "
            "key is generated"
        )


def holds_secrets(raw: dict[str, Any]) -> bool:
    """Whether a file as written has what others on the host should not read. What a variable brings lies elsewhere."""
    deployment = raw.get("deployment") or {}
    admin_keys = (deployment.get("admin") or {}).get("admin_key") or []
    written = [item.get("key") for item in admin_keys if isinstance(item, dict)]
    written.append((deployment.get("etcd") or {}).get("password"))
    apisix = raw.get("apisix") or {}
    for section, name in (("data_encryption", "keyring"), ("ssl", "key_encrypt_salt")):
        keys = (apisix.get(section) or {}).get(name)
        written += keys if isinstance(keys, list) else [keys]
    return any(isinstance(value, str) and value and not value.startswith("${{") for value in written)
