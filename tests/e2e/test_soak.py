"""A minute of everything at once: 2,000 changes after warming up, even on a busy machine.

Longer: `python -m bench.soak --minutes N`, or JITTERWAY_SOAK_S.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.support.soak.run import soak

SECONDS = float(os.environ.get("JITTERWAY_SOAK_S", "60"))


def test_nothing_is_lost_and_nothing_leaks_under_changes_and_kills(tmp_path: Path):
    seed = int(os.environ.get("JITTERWAY_SOAK_SEED") or random.SystemRandom().randrange(10**6))
    soak(tmp_path / "gateway", SECONDS, seed)
