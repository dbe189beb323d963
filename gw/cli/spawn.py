"""Starting a child: fork and exec, a process group of its own, listening sockets from descriptor 3 on, death with us.

Not subprocess: LISTEN_PID must hold the child's own pid, which is known only between fork and exec. For a process of
one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

# sd_listen_fds(3): the first descriptor that is passed.
FIRST_LISTEN_FD: Final = 3

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

# As a shell reports a command that it could not run.
_EXEC_FAILED: Final = 127

# What a terminal sends to our whole group may reach the child before it has left the group.
_TERMINAL_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What Python ignores at its start; an ignored signal would stay ignored through exec.
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)


def spawn(
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str],
    listen_fds: Sequence[int] = (),
    death_signal: int = signal.SIGTERM,
) -> int:
    """Start a program; its pid. It gets `death_signal` when this process dies, however that comes.

    `listen_fds` are passed in their order as sd_listen_fds(3) describes. Standard input is /dev/null, because a child
    outside the terminal's foreground group would be stopped when it read. When exec fails the child exits with 127.
    """
    parent = os.getpid()
    # A signal between fork and exec would run our handlers in the child, which share our wake-up pipe.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(arguments, dict(environ), listen_fds, death_signal, parent, blocked)
        # Here as well as in the child: whoever signals the group may come before the child does.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies, so that none of them is left unseen."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _become(
    arguments: Sequence[str],
    environ: dict[str, str],
    listen_fds: Sequence[int],
    death_signal: int,
    parent: int,
    mask: set[int | signal.Signals],
) -> NoReturn:
    """In the child: never returns, and never raises into the parent's code."""
    try:
        os.setpgid(0, 0)
        _reset_signals(mask)
        _prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os._exit(_EXEC_FAILED)  # the parent died before its death could be signalled
        _place_descriptors(listen_fds)
        if listen_fds:
            environ["LISTEN_FDS"] = str(len(listen_fds))
            environ["LISTEN_PID"] = str(os.getpid())
        os.execve(arguments[0], list(arguments), environ)  # noqa: S606 - no shell is what we want
    except BaseException as error:
        os.write(2, f"cannot start {arguments[0]}: {error}\n".encode())
    finally:
        os._exit(_EXEC_FAILED)


def _reset_signals(mask: set[int | signal.Signals]) -> None:
    for number in _TERMINAL_SIGNALS:
        # To ignore a signal also drops the one that is pending; only then is the default safe to set.
        signal.signal(number, signal.SIG_IGN)
        signal.signal(number, signal.SIG_DFL)
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _place_descriptors(listen_fds: Sequence[int]) -> None:
    """Standard input to /dev/null, the sockets to 3, 4, ...; nothing else but output is passed on."""
    # Out of the way first: a source may be another one's target.
    above = FIRST_LISTEN_FD + len(listen_fds)
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in listen_fds]
    null = fcntl.fcntl(os.open(os.devnull, os.O_RDONLY), fcntl.F_DUPFD_CLOEXEC, above)
    os.dup2(null, 0, inheritable=True)
    for number, copy in enumerate(copies, FIRST_LISTEN_FD):
        os.dup2(copy, number, inheritable=True)
    # Ours close at exec; what our own parent left open does not.
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd >= above:
            with contextlib.suppress(OSError):  # the one that read the directory
                os.close(fd)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def module_command(*arguments: str) -> list[str]:
    """The command line of `python -m ...` with this interpreter.

    -P: what happens to lie in the working directory is not on the path, so it cannot stand in for a module.
    """
    return [sys.executable, "-P", "-m", *arguments]
