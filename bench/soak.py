"""The soak of the tests for as long as one likes: a real gateway under changes, requests and kills.

Ends with an error, and all that went wrong, when a request failed that no kill explains, when the workers and the store
do not agree in the end, or when something leaked. `--seed` repeats the plan of a run.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from bench.report import progress
from tests.support.soak.run import soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="default 10")
    parser.add_argument("--seed", type=int, help="of the plan of changes and kills (default: any)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory() as directory:
        soak(Path(directory), arguments.minutes * 60, seed, progress)


if __name__ == "__main__":
    main()
