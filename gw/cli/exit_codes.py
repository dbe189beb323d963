"""What the exit codes of `gw` mean. They are part of its interface; argparse adds 2 for wrong usage."""

from typing import Final

OK: Final = 0
# The command did not do what was asked: an address in use, a time-out, a configuration that `gw test` refuses.
FAILED: Final = 1
# From `gw status --wait`: every worker serves what was published last, but the store could not be asked for more.
UNCONFIRMED: Final = 3
# EX_CONFIG of sysexits.h, from `gw start` and from the sync agent: trying again is of no use before somebody edits.
CONFIG: Final = 78
# As a shell reports a process that ended because nobody reads what it prints any more (`gw openapi | head`).
PIPE_CLOSED: Final = 141
# As a shell reports a process that Ctrl-C ended.
INTERRUPTED: Final = 130
