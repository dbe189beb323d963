"""`gw openapi`: the OpenAPI document of the Admin API, for the plugins that are enabled. Imports the plugins."""

from __future__ import annotations

import argparse
import json

from gw.admin.openapi import openapi_document
from gw.cli import exit_codes
from gw.plugins.catalogue import Catalogue
from gw.plugins.registry import load_registry
from gw.settings import load_settings


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0."""
    catalogue = Catalogue(load_registry(load_settings(arguments.config).plugins))
    print(json.dumps(openapi_document(catalogue), indent=2))
    return exit_codes.OK
