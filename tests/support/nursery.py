"""Starts agents quickly: imports once, forks for each. Reads configuration paths on stdin, answers pids on stdout.

The children run the real `python -m sync_agent`; what is saved is only the interpreter's start, so that an agent can be
killed two hundred times within a test.
"""

import os
import signal
import sys

from sync_agent.__main__ import main


def serve() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(0)
            os._exit(main(["-c", line.strip()]))
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
