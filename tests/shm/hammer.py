"""Publishes as fast as it can, for test_concurrency.py: `python -m tests.shm.hammer NAME VERSIONS`."""

import sys
from random import Random

from gw.clock import SystemClock
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from gw.shm.writer import Publisher
from tests.shm.world import WATCHING, delete, put

RESOURCES = 40


def main(name: str, versions: int) -> None:
    """Every version puts its own number into "marker", and into some others; bases, wraps and sweeps come with it."""
    rng = Random(3)
    publisher = Publisher.attach(PosixSpace(), SegmentNames(name), log_size_bytes=8192, clock=SystemClock())
    for version in range(publisher.version + 1, versions + 1):
        ids = [str(number) for number in rng.sample(range(RESOURCES), rng.randrange(4))]
        changes = [delete(id) if rng.random() < 0.3 else put(id, version) for id in ids]
        if version % 500 == 0:
            changes = [put(str(number), version) for number in range(RESOURCES)]
        publisher.publish([*changes, put("marker", version)], version, WATCHING)
        publisher.renew_step()
        if version % 50 == 0:
            publisher.sweep(set())
    publisher.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
