"""wrk, on a core of its own: one run, and what came of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCRIPT: Final = Path(__file__).with_name("load.lua")
# A 10 MB body takes a busy machine longer than wrk's own 2 s.
_PATIENCE_S: Final = 30


class LoadFailed(Exception):
    """Requests failed, so the figures of this run mean nothing. Its text has wrk's account."""


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk counted: whole answers, and their number per second."""

    requests: int
    per_s: float


def run_wrk(url: str, *, connections: int, seconds: float, core: int, script: Sequence[str] = ()) -> Run:
    """Load `url` for some seconds. `script`: the arguments of load.lua, none for plain GETs.

    Raises LoadFailed when a request failed or was answered other than 2xx or 3xx.
    """
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += ["--timeout", f"{_PATIENCE_S}s", *(["-s", str(_SCRIPT)] if script else []), url]
    command += ["--", *script] if script else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadFailed(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    return parse_run(done.stdout)


def parse_run(shown: str) -> Run:
    """What wrk printed. Raises LoadFailed as run_wrk does."""
    requests = re.search(r"(\d+) requests in", shown)
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    if requests is None or per_s is None or "Non-2xx" in shown or "Socket errors" in shown or not int(requests[1]):
        raise LoadFailed(shown)
    return Run(int(requests[1]), float(per_s[1]))
