"""Whether a value may be written: as it will be judged for publishing, and what publishing only warns of is refused.

One judge for single writes and for the items of documents, and APISIX's words for what it finds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gw.errors import InvalidResource
from gw.model.keys import ResourceKey
from gw.schema import PluginSchemas
from sync_agent.encryption import Protection
from sync_agent.intake import admit

# What a value may be turned away by: `worded` says each.
UNFIT: Final = (InvalidResource, ValueError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Judge:
    """`resource_bytes` bounds a value, `protection` opens its secrets; `allow_code`: see gw.schema.validate."""

    resource_bytes: int
    plugins: PluginSchemas
    protection: Protection
    allow_code: bool

    def admit(self, key: ResourceKey, stored: bytes) -> None:
        """Raises one of UNFIT for a value that may not be written."""
        admit(
            key,
            stored,
            self.resource_bytes,
            self.plugins,
            self.protection,
            refuse_unknown=True,
            allow_code=self.allow_code,
        )


def worded(error: Exception) -> str:
    """What the Admin API says of one of UNFIT."""
    if not isinstance(error, InvalidResource):
        return f"invalid configuration: {error}"
    return error.reason if error.stands_alone else f"invalid configuration: {error.reason}"
