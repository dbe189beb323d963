"""New code on disk, and code that is broken, without touching the repository: a sitecustomize.py in PYTHONPATH.

Every Python process of a gateway that is started while `Code.environment` is in force runs it before anything else.
"""

from __future__ import annotations

from pathlib import Path

_SITECUSTOMIZE = """
import os, sys, time
from pathlib import Path

here = Path(__file__).parent
if not (here / "fine").exists():
    sys.modules["falcon"] = None  # "import falcon" fails
if "gunicorn" in sys.orig_argv:
    (here / "held").touch()
    while (here / "hold").exists():
        time.sleep(0.01)
    if (here / "dies").exists():
        os._exit(9)
import gw
gw.__version__ = (here / "version").read_text()
"""


class Code:
    """The code that processes started from now on find."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        (directory / "sitecustomize.py").write_text(_SITECUSTOMIZE)
        (directory / "fine").touch()
        self.set_version("1.0")

    def set_version(self, version: str) -> None:
        """What the Server header of its answers says."""
        (self.directory / "version").write_text(version)

    def set_broken(self, is_broken: bool) -> None:
        """An import of what serves fails."""
        self._set("fine", not is_broken)

    def set_dying(self, is_dying: bool) -> None:
        """gunicorn ends with exit code 9 before it does anything."""
        self._set("dies", is_dying)

    def hold_gunicorn(self, is_held: bool) -> None:
        """gunicorn gets nowhere until it is released again."""
        (self.directory / "held").unlink(missing_ok=True)
        self._set("hold", is_held)

    @property
    def is_gunicorn_held(self) -> bool:
        return (self.directory / "held").exists()

    def _set(self, name: str, exists: bool) -> None:
        if exists:
            (self.directory / name).touch()
        else:
            (self.directory / name).unlink(missing_ok=True)
