"""A plugin config: plugins that several routes share. Built from dicts that `gw.schema.validate` has passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """For routes whose `plugin_config_id` it is; see `gw.model.merge` for what a route's own plugins do to it."""

    id: str
    plugins: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, str]

    @classmethod
    def from_dict(cls, id: str, config: Mapping[str, Any]) -> Self:
        return cls(id=id, plugins=config["plugins"], labels=config.get("labels", {}))
