"""The engines for regular expressions, imported before the first pattern is met."""

from __future__ import annotations


def import_engines() -> None:
    """For a worker that does not serve yet: with the first pattern, its loop would be held for up to 40 ms.

    They take 15 ms of CPU and 0.8 MB that workers do not share. The agent and the command line import what they use.
    """
    import re2  # noqa: F401 - imported for those who do later
    import regex  # noqa: F401 - as above
