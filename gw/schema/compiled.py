"""Schemas made into functions, by code that fastjsonschema generates."""

from collections.abc import Callable
from typing import Any, TypeAlias

import fastjsonschema

from gw.schema.explain import Schema
from gw.schema.formats import FORMATS

# Raises JsonSchemaException for a value that does not fit, and fills defaults into one that does.
Check: TypeAlias = Callable[[Any], Any]


def compile_check(schema: Schema, *, knows_const: bool = False) -> Check:
    """The check of a schema. `const` may stand in it only where `knows_const` says so: fastjsonschema 2.22 trips over
    it unless its exceptions carry details, which nobody here reads.

    Raises JsonSchemaDefinitionException, re.error and the like for what is no schema."""
    check: Check = fastjsonschema.compile(
        schema,
        formats={name: accepts for name, (_, accepts) in FORMATS.items()},
        detailed_exceptions=knows_const,
    )
    return check
