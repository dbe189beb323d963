"""What a plugin is told once for all of its configurations. Built from dicts that `gw.schema.validate` has passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

# Of the store, and nothing that is meant for the plugin.
_STORE_FIELDS: Final = frozenset({"id", "create_time", "update_time"})


@dataclass(frozen=True, slots=True)
class PluginMetadata:
    """`id` is the plugin's name."""

    id: str
    values: Mapping[str, Any]

    @classmethod
    def from_dict(cls, id: str, metadata: Mapping[str, Any]) -> Self:
        return cls(id=id, values={name: value for name, value in metadata.items() if name not in _STORE_FIELDS})
