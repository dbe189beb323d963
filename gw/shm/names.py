"""What the segments of one gateway are called. The format is in the name, so two formats never meet in one segment."""

import re
from typing import Final

from gw.shm.layout import FORMAT

# What /dev/shm takes for a file name, without the characters that would need quoting in a shell.
_ALLOWED: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class SegmentNames:
    """The names that belong to the gateway called `name`; two gateways on one host differ in it.

    Raises ValueError for a name that is empty, longer than 100 characters, or holds more than letters, digits, `_.-`.
    """

    __slots__ = ("_any_format", "_own", "control", "counters", "log", "name", "prefix", "workers")

    def __init__(self, name: str) -> None:
        if not _ALLOWED.fullmatch(name):
            raise ValueError(f"shared-memory name {name!r}: up to 100 letters, digits and _.- are allowed")
        self.name = name
        self.prefix = f"/{name}.v{FORMAT}."
        self.control = f"{self.prefix}control"
        self.log = f"{self.prefix}log"
        self.workers = f"{self.prefix}workers"
        self.counters = f"{self.prefix}counters"
        # Matched in full: the prefix of a gateway `a` also begins the names of one called `a.v2.b`.
        single = "control|log|workers|counters"
        self._own = re.compile(re.escape(self.prefix) + rf"(?:(?:{single})(?:\.new)?|snapshot\.(\d{{1,19}}))")
        self._any_format = re.compile(rf"/{re.escape(name)}\.v(\d{{1,9}})\.(?:{single})")

    def snapshot(self, number: int) -> str:
        """The base with this number."""
        return f"{self.prefix}snapshot.{number}"

    def snapshot_number(self, name: str) -> int | None:
        """The number in a snapshot's name, None for any other name."""
        match = self._own.fullmatch(name)
        return int(match[1]) if match and match[1] else None

    def owns(self, name: str) -> bool:
        """Whether a segment of this name is one of ours, those being written aside (`.new`) included."""
        return self._own.fullmatch(name) is not None

    def format_of(self, name: str) -> int | None:
        """The format of a segment that this gateway has, or had in another version of this code; None for any other."""
        match = self._any_format.fullmatch(name)
        return int(match[1]) if match else None


def aside(name: str) -> str:
    """Where a segment is prepared before it is renamed into its place, so that nobody meets it half made."""
    return f"{name}.new"
