"""The settings that the agent alone reads, declared once: the store, its credentials, the admin keys, the keyring.

They stand in config.yaml, or apart in agent.yaml beside it, which only the agent's user can read. No field with a
secret in it shows in a repr.
"""
# ruff: noqa: RUF009 - setting, section and derived are field specifiers, as dataclasses.field is

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gw.settings import kinds, network
from gw.settings.declare import Context, Kind, Refused, derived, section, setting
from gw.settings.encryption import AgentSsl, DataEncryption
from gw.settings.kinds import mapping_fields, parse_at
from gw.settings.tree import Settings

# Published in APISIX's documents and images, so known to everyone who scans for them (CVE-2020-13945).
KNOWN_KEYS: Final = frozenset({"edd1c9f034335f136f87ad84b625c8f1", "4054f7cf07e344346cd3f287985e76a2"})

# 16 characters of hexadecimal are 64 bits: beyond guessing over a network.
MIN_KEY_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key of the Admin API. `role`: admin may do everything, viewer may read."""

    name: str
    key: str = dataclasses.field(repr=False)
    role: str


def check_admin_key(key: str) -> str:
    """The key, when it can be one. Raises Refused, never with the key in the reason."""
    if key in KNOWN_KEYS:
        raise Refused("is a default key that APISIX published: anyone knows it. Make one: openssl rand -hex 16")
    if len(key) < MIN_KEY_CHARS:
        raise Refused(f"is shorter than {MIN_KEY_CHARS} characters. Make one: openssl rand -hex 16")
    # It must fit into a header field as it stands.
    if not key.isascii() or not key.isprintable() or key != key.strip():
        raise Refused("must be of printable ASCII characters, without blanks around it")
    return key


def _admin_keys() -> Kind[tuple[AdminKey, ...]]:
    form = "a list of {name: ..., key: ..., role: admin or viewer}"
    items = kinds.list_of(Kind(form, _admin_key, secret=True), form)

    def parse(raw: object, context: Context) -> tuple[AdminKey, ...]:
        keys = tuple(key for key in items.parse(raw, context) if key is not None)
        for index, key in enumerate(keys):
            if any(key.name == other.name for other in keys[:index]):
                raise Refused(f"two keys have the name {key.name!r}")
            if any(key.key == other.key for other in keys[:index]):
                raise Refused(f"the key of {key.name!r} is another one's too; its role would be open")
        return keys

    return Kind(form, parse, secret=True)


def _admin_key(raw: object, context: Context) -> AdminKey | None:
    fields = mapping_fields(raw, {"name": True, "key": False, "role": True}, "{name: ..., key: ..., role: ...}")
    name = parse_at(".name", kinds.text("a name", r"[^\s]{1,64}").parse, fields["name"], context)
    role = parse_at(".role", kinds.choice("admin", "viewer").parse, fields["role"], context)
    if fields.get("key") in (None, ""):
        # APISIX's own default file has an empty key, to be generated at the first start.
        return None
    written = parse_at(".key", kinds.text("a string of characters", secret=True).parse, fields["key"], context)
    return AdminKey(name, parse_at(".key", lambda key, _: check_admin_key(str(key)), written, context), role)


def _store_url() -> Kind[str]:
    """The URL of a store, its path absolute: `etcd` or `sqlite:////absolute/file`."""
    form = "etcd or sqlite:///path"

    def parse(raw: object, context: Context) -> str:
        if raw == "etcd":
            return "etcd"
        scheme, _, rest = str(raw).partition("://") if isinstance(raw, str) else ("", "", "")
        if scheme in ("postgresql", "mysql", "nats", "yaml"):
            raise Refused(f"a {scheme} store is not supported yet; it must be {form}")
        if scheme != "sqlite" or not rest.startswith("/") or rest == "/" or "\0" in rest:
            # Not repeated: a URL may hold a password.
            raise Refused(f"must be {form}")
        return f"sqlite:///{kinds.resolved_path(rest[1:], context)}"

    return Kind(form, parse)


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """How etcd proves itself to us, and we to it. `ca` is apisix.ssl.ssl_trusted_certificate."""

    verify: bool = setting(
        kinds.boolean(),
        default=True,
        help="Whether etcd's certificate is verified. false accepts any that etcd shows when a connection is opened.",
    )
    cert: Path | None = setting(
        kinds.optional(kinds.file_path()), default=None, help="PEM file with the client certificate."
    )
    key: Path | None = setting(
        kinds.optional(kinds.file_path()), default=None, help="PEM file with the private key of cert."
    )
    sni: str | None = setting(
        kinds.optional(kinds.text("a host name", r"[A-Za-z0-9.-]{1,253}")),
        default=None,
        help="Name the certificate must have. null: the host of the endpoint.",
    )
    ca: Path | None = derived(None)


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """An etcd cluster, or kine."""

    hosts: tuple[str, ...] = setting(
        network.endpoint_urls(),
        key="host",
        default=["http://127.0.0.1:2379"],
        help="Endpoints of one cluster; another one is tried when one does not answer.",
    )
    prefix: str = setting(
        kinds.text("text that is more than slashes, without a NUL", r"[^\0]*[^/\0][^\0]*"),
        default="/apisix",
        help="What all keys start with: <prefix>/routes/1.",
    )
    timeout_s: float = setting(
        kinds.seconds(0.1, 3600),
        key="timeout",
        default=30,
        unit="seconds",
        help="Within what time a call must be answered.",
    )
    user: str | None = setting(
        kinds.optional(kinds.text("a name", r".{1,256}")), default=None, help="User, where etcd has authentication on."
    )
    password: str | None = setting(
        kinds.optional(kinds.text("a string", secret=True)),
        default=None,
        help="Password of user. Better in agent.yaml than in config.yaml.",
    )
    tls: EtcdTls = section(EtcdTls)


@dataclass(frozen=True, slots=True)
class AgentAdmin:
    """Who may use the Admin API."""

    admin_key: tuple[AdminKey, ...] = setting(
        _admin_keys(),
        default=[],
        help="Keys of the Admin API, at least 16 characters each. With the embedded store and no key here, one is made "
        "at the first start and laid into <data_dir>/admin.key.",
    )


@dataclass(frozen=True, slots=True)
class AgentDeployment:
    """The agent's part of APISIX's deployment section."""

    admin: AgentAdmin = section(AgentAdmin)
    etcd: EtcdSettings = section(EtcdSettings)


@dataclass(frozen=True, slots=True)
class AgentGw:
    """The agent's part of what is ours."""

    store: str | None = setting(
        kinds.optional(_store_url()),
        default=None,
        help="Where resources are kept: etcd (see deployment.etcd), or an SQLite file (sqlite:///file counts from the "
        "directory of config.yaml, sqlite:////file is absolute). null: etcd where your configuration names it "
        "(deployment.etcd, or config_provider: etcd), else <data_dir>/config.db.",
    )


@dataclass(frozen=True, slots=True)
class AgentApisix:
    """The agent's part of APISIX's apisix section."""

    data_encryption: DataEncryption = section(DataEncryption)
    ssl: AgentSsl = section(AgentSsl)


@dataclass(frozen=True, slots=True)
class AgentTree:
    """All keys that agent.yaml may hold."""

    apisix: AgentApisix = section(AgentApisix)
    deployment: AgentDeployment = section(AgentDeployment)
    gw: AgentGw = section(AgentGw)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the agent runs by.

    `store_url` is `etcd` or `sqlite:////absolute/file`. With `generate_admin_key` there is no configured key, and the
    agent is to make one in `key_file`. `keyring_file` is where the generated keyring of an embedded store lies (None:
    the store is another one); with `generate_keyring` none is configured, and the agent is to make it. `warnings` are
    for people, and include those of `settings`.
    """

    settings: Settings
    store_url: str
    etcd: EtcdSettings
    admin_keys: tuple[AdminKey, ...]
    key_file: Path
    generate_admin_key: bool
    data_encryption: DataEncryption
    ssl: AgentSsl
    keyring_file: Path | None
    warnings: tuple[str, ...]

    @property
    def generate_keyring(self) -> bool:
        """Whether the first key is the one in `keyring_file`."""
        return self.keyring_file is not None and not self.data_encryption.keyring
