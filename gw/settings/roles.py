"""What an instance is for, and where its resources come from: APISIX's `deployment.role` and `config_provider`s."""
# ruff: noqa: RUF009 - setting and section are field specifiers, as dataclasses.field is

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gw.settings import kinds
from gw.settings.declare import section, setting

TRADITIONAL: Final = "traditional"
DATA_PLANE: Final = "data_plane"
# Providers that bring all resources as one document.
DOCUMENT_FORMS: Final = ("yaml", "json")


@dataclass(frozen=True, slots=True)
class TraditionalRole:
    """The role that serves traffic and the Admin API."""

    config_provider: str = setting(
        kinds.choice("etcd", "yaml"),
        default="etcd",
        help="etcd is APISIX's name for a store with a watch; which store it is says gw.store. yaml: all resources are "
        "put as one document, PUT /apisix/admin/configs, and kept in <data_dir>; with apisix.enable_admin off they are "
        "read from apisix.yaml beside config.yaml.",
    )


@dataclass(frozen=True, slots=True)
class DataPlaneRole:
    """The role that serves traffic alone."""

    config_provider: str = setting(
        kinds.choice("etcd", "yaml", "json", later=("xds", "control_plane")),
        default="etcd",
        help="etcd: a store with a watch; which store it is says gw.store. yaml, json: the file apisix.yaml or "
        "apisix.json beside config.yaml.",
    )


@dataclass(frozen=True, slots=True)
class DeploymentRoles:
    """The part of APISIX's deployment section that says what this instance is."""

    role: str = setting(
        kinds.choice(TRADITIONAL, DATA_PLANE, later=("control_plane",)),
        default=TRADITIONAL,
        help="traditional: serve traffic and the Admin API. data_plane: serve traffic alone, whatever "
        "apisix.enable_admin says.",
    )
    role_traditional: TraditionalRole = section(TraditionalRole)
    role_data_plane: DataPlaneRole = section(DataPlaneRole)

    @property
    def config_provider(self) -> str:
        """The provider of the role that this instance has."""
        role = self.role_traditional if self.role == TRADITIONAL else self.role_data_plane
        return role.config_provider

    @property
    def takes_documents(self) -> bool:
        """Whether resources come as one document over the Admin API, where that is switched on."""
        return self.role == TRADITIONAL and self.config_provider in DOCUMENT_FORMS
