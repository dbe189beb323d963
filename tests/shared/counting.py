"""Counts in shared state until it is killed: `python -m tests.shared.counting DIRECTORY WHAT KEY`.

WHAT: `increment` counts and prints each number it was told; `put` writes entries of its own without end; `read` takes
a slot of LMDB's readers and keeps it. A line is printed only when the operation is over. `get` and `open` print when
they have begun to read, and go on for STOPPED_S, as one does whom the kernel stops there; `open` as lmdb.open reads.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from unittest.mock import patch

from gw.clock import SystemClock
from gw.shared import records
from gw.shared.store import SharedStore

SIZE_BYTES = 4 << 20
STOPPED_S = 0.3


def main(directory: Path, what: str, key: bytes) -> None:
    store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
    if what == "increment":
        while True:
            os.write(1, b"%d\n" % store.increment(key, 1, ttl_s=3600).value)
    elif what == "put":
        os.write(1, b"begun\n")
        for number in itertools.count():
            store.put(b"%s %d" % (key, number), bytes(number % 3000), ttl_s=60)
    elif what == "get":
        unpack = records.unpack_record

        def stopped(stored: bytes, raw: bytes) -> records.Record:
            os.write(1, b"begun\n")
            time.sleep(STOPPED_S)
            return unpack(stored, raw)

        with patch("gw.shared.store.unpack_record", stopped):
            store.get(key)
        os.write(1, b"over\n")
        signal.pause()
    elif what == "open":
        with store._env.begin():
            os.write(1, b"begun\n")
            time.sleep(STOPPED_S)
        os.write(1, b"over\n")
        signal.pause()
    else:
        with store._env.begin() as transaction:
            transaction.get(key)
            os.write(1, b"begun\n")
            signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode())
