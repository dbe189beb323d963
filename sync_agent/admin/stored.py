"""Values as they lie in the store: JSON objects in UTF-8. Others may have written them, so reading believes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gw.schema import parse_json


class StoredValueError(ValueError):
    """A value in the store is not a JSON object. Its text says what is wrong and shows nothing of the value."""


def parse_stored(value: bytes) -> dict[str, Any]:
    """The object behind a stored value. Raises StoredValueError."""
    try:
        parsed = parse_json(value)
    except (ValueError, RecursionError) as error:
        raise StoredValueError(f"the stored value is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise StoredValueError("the stored value is not a JSON object")
    return parsed


def encode_stored(resource: Mapping[str, Any]) -> bytes:
    """A resource as it is written: compact, members in the order they have, text as UTF-8.

    Raises ValueError for what JSON or UTF-8 cannot carry (NaN, lone surrogates), TypeError for what is not JSON at all,
    RecursionError for what is nested beyond Python's depth.
    """
    return json.dumps(resource, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
