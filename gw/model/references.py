"""References between resources: ids may be written as strings or numbers, and are strings everywhere behind this."""

from collections.abc import Mapping
from typing import Any


def reference(resource: Mapping[str, Any], field: str) -> str | None:
    """The id that a field of a validated resource refers to, None when the field is not there."""
    id = resource.get(field)
    return None if id is None else str(id)
