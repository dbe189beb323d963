"""Jitterway: an API gateway whose configuration changes without any request noticing.

Nothing starts at import, here or in any module below: what runs is opened by `gw.server` after the fork.
"""

__version__ = "0.1.0"
