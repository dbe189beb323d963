"""`gw version`: ours, and that of what we build on."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from gw import __version__
from gw.cli import exit_codes


def run(arguments: argparse.Namespace) -> int:
    """Always 0."""
    print(f"jitterway {__version__} (gunicorn {metadata.version('gunicorn')}, Python {platform.python_version()})")
    return exit_codes.OK
