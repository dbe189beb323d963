"""A worker that counts, for test_counters.py: `python -m tests.shm.counting NAME CELL REQUESTS`.

Counts so many requests, says "done", and stands still with one more begun and one connection open. With 0 it never
stops counting, and says "counting" when it has begun.
"""

import itertools
import sys

from gw.shm.counters import CounterTable, TrafficCounters
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace

# A power of 2: its sums are exact.
DURATION_S = 0.25
RECEIVED_BYTES, SENT_BYTES = 3, 70_000


def count_one(counters: TrafficCounters, number: int) -> None:
    counters.request_started()
    counters.request_done(503 if number % 10 == 0 else 200, RECEIVED_BYTES, SENT_BYTES, DURATION_S)


def main(name: str, cell: int, requests: int) -> None:
    counters = CounterTable.open(PosixSpace(), SegmentNames(name), writable=True).take(cell)
    counters.connection_opened()
    if not requests:
        print("counting", flush=True)
    for number in range(requests) if requests else itertools.count():
        count_one(counters, number)
    counters.request_started()
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
