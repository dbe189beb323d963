"""The schemas under the names that APISIX shows them by (apisix/schema_def.lua): mostly the kind in the singular.

Those of secrets' configurations are not among them, as there.
"""

from collections.abc import Mapping
from typing import Any, Final

from gw.model.keys import KINDS
from gw.model.operations import NOUNS
from gw.schema.load import FILES
from gw.schema.rules import KEY_PATTERNS
from gw.schema.validate import schema_of

_PLUGINS: Final = "plugins"


def published_schemas() -> Mapping[str, str]:
    """The kind behind each name."""
    return {_PLUGINS if kind == _PLUGINS else NOUNS[kind].replace(" ", "_"): kind for kind in KINDS if kind in FILES}


def published_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind, standing alone, as a copy; of the list of plugins that of the list itself.

    Raises KeyError for a kind that is not published.
    """
    schema = schema_of(kind)
    whole: dict[str, Any] = schema["properties"][_PLUGINS] if kind == _PLUGINS else schema
    return whole


def published_key_schemas() -> dict[str, Any]:
    """What the control API shows beside the kinds: of the `key` of an upstream, by which clients check theirs."""
    return {
        f"upstream_hash_{hash_on}_schema": {"type": "string", "pattern": KEY_PATTERNS[hash_on]}
        for hash_on in ("vars", "header")
    }
