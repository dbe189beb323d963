"""`gw`: start, stop, look at and check a gateway. One module for each command; this one only reads the command line.

Exit codes: see `exit_codes`, and each command's own help.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Final

from gw.cli import exit_codes
from gw.cli.saying import let_go_of
from gw.errors import ConfigError, JitterwayError

DEFAULT_CONFIG: Final = "conf/config.yaml"

_COMMANDS: Final = {
    "start": "run agent and workers in the foreground; Ctrl-C stops them, requests in flight finish, once more stops "
    "at once. Exit codes: 0 stopped, 1 failed, 78 the configuration is refused",
    "serve": "run workers in the foreground, without an agent: what the systemd unit does. Exit codes: as of start",
    "reload": "start new workers with the code and configuration of now on the same sockets, then let the old ones "
    "finish what is in flight; nothing is lost, and what is no good leaves the old ones serving. Exit codes: 0 the new "
    "ones serve, 1 the old ones go on",
    "stop": "end the running `gw start` of this configuration, or clean up after one that was killed. Exit codes: 0 "
    "nothing runs any more, 1 something does",
    "status": "show who serves which version. Exit codes: 0 the gateway is there (--wait, --revision: every worker "
    "serves that), 1 it is not, 3 (--wait) every worker serves what was published last, but the store could not be "
    "asked",
    "plugins": "show the plugins that are installed, and which of them are enabled. Exit codes: 0 each enabled one can "
    "be run, 1 one cannot",
    "openapi": "print the OpenAPI document of the Admin API. Exit codes: 0 printed, 1 the configuration is refused",
    "test": "check a configuration without starting. Exit codes: 0 accepted, 1 refused",
    "version": "show versions",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    options = _parser().parse_args(arguments)
    # Only what the command needs: `gw stop` should not wait for the imports of `gw status`.
    command = importlib.import_module(f"gw.cli.{options.command}")
    try:
        exit_code: int = command.run(options)
        sys.stdout.flush()  # what a pipe does not take is found here, and not when the interpreter ends
    except ConfigError as error:
        print(f"gw {options.command}: configuration refused\n{error}", file=sys.stderr)
        return exit_codes.CONFIG if options.command in ("start", "serve") else exit_codes.FAILED
    except JitterwayError as error:
        print(f"gw {options.command}: {error}", file=sys.stderr)
        return exit_codes.FAILED
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        let_go_of(sys.stdout)
        return exit_codes.PIPE_CLOSED
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gw", description="Jitterway, an API gateway")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, description in _COMMANDS.items():
        command = commands.add_parser(name, help=description.partition(".")[0], description=description)
        command.add_argument(
            "-c", "--config", default=DEFAULT_CONFIG, help="configuration file (default: %(default)s)"
        )
        if name == "reload":
            command.add_argument(
                "--agent", action="store_true", help="restart the sync agent, too, once the new workers serve"
            )
        if name in ("plugins", "status"):
            command.add_argument("--json", action="store_true", help="for programs")
        if name == "status":
            command.add_argument(
                "--wait",
                type=_seconds,
                metavar="SECONDS",
                help="return when every worker serves what the store holds now, or --revision; after this time at last",
            )
            command.add_argument(
                "--revision",
                type=_revision,
                metavar="R",
                help="the revision that is meant, as X-Jitterway-Revision tells it; without --wait: is it served now?",
            )
    return parser


def _seconds(written: str) -> float:
    value = float(written)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError("from 0 to 86400 seconds")
    return value


def _revision(written: str) -> int:
    value = int(written)
    if not 1 <= value < 2**63:
        raise argparse.ArgumentTypeError("a revision is a whole number from 1 on")
    return value


if __name__ == "__main__":
    sys.exit(main())
