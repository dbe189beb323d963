"""The Unix socket on which a running `gw start` or `gw serve` takes orders: so far one, to reload.

A socket and not a signal, because an order has an argument and an answer, and because SIGHUP has a meaning already: the
terminal is gone. One line of JSON each way:

    {"order": "reload", "agent": false}  ->  {"done": true, "text": "reloaded: ..."}

Only the user of the gateway and root are heard; the file's mode keeps others from connecting.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gw.errors import JitterwayError

# struct ucred: pid, uid, gid.
_CREDENTIALS: Final = struct.Struct("iII")
# The order is written right after connecting; who takes longer holds the supervisor up.
_ORDER_TIMEOUT_S: Final = 1.0
_ORDER_BYTES: Final = 4096
_ANSWER_BYTES: Final = 65536
_BACKLOG: Final = 8


class Order:
    """One reload that was asked for. `answer` once."""

    def __init__(self, connection: socket.socket, *, with_agent: bool) -> None:
        self.with_agent = with_agent
        self._connection = connection

    def answer(self, is_done: bool, text: str) -> None:
        """Tell who asked, who may have gone meanwhile, and hang up."""
        with self._connection, contextlib.suppress(OSError):
            self._connection.sendall(json.dumps({"done": is_done, "text": text}).encode() + b"\n")


class Orders:
    """The listening side."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening

    def fileno(self) -> int:
        return self._listening.fileno()

    def take(self) -> Order | None:
        """The order of one who has connected; None when it is none, or a stranger's."""
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return None
        try:
            connection.settimeout(_ORDER_TIMEOUT_S)
            if _peer(connection)[1] in (0, os.geteuid()):
                order = json.loads(_line(connection, _ORDER_BYTES))
                if order["order"] == "reload":
                    return Order(connection, with_agent=bool(order.get("agent")))
        except (OSError, ValueError, LookupError, TypeError):
            pass
        connection.close()
        return None


@contextlib.contextmanager
def taking_orders(path: Path) -> Iterator[Orders]:
    """Listen at `path`, where only a dead predecessor's socket may lie: the caller holds the gateway's run lock.

    Raises JitterwayError when that is not possible.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        before = os.umask(0o177)
        try:
            path.unlink(missing_ok=True)
            listening.bind(str(path))
        except OSError as error:
            raise JitterwayError(f"cannot listen on {path} (for `gw reload`): {error}") from error
        finally:
            os.umask(before)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        try:
            yield Orders(listening)
        finally:
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order went, in words for people."""

    is_done: bool
    text: str


def order_reload(path: Path, holder_pid: int, *, with_agent: bool, timeout_s: float) -> Outcome:
    """Order a reload, and wait for its outcome.

    Raises JitterwayError when nobody, or another process than `holder_pid`, listens at `path`, or it gives no answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise JitterwayError(
                f"pid {holder_pid} does not listen on {path}: {error.strerror} (was it started by an older version?)"
            ) from error
        if _peer(connection)[0] != holder_pid:
            raise JitterwayError(f"{path} belongs to pid {_peer(connection)[0]}, and the gateway runs as {holder_pid}")
        try:
            connection.sendall(json.dumps({"order": "reload", "agent": with_agent}).encode() + b"\n")
            answer = json.loads(_line(connection, _ANSWER_BYTES))
            return Outcome(bool(answer["done"]), str(answer["text"]))
        except TimeoutError:
            raise JitterwayError(f"no answer from pid {holder_pid} within {timeout_s:g} s; see its log") from None
        except (OSError, ValueError, LookupError, TypeError):
            raise JitterwayError(f"pid {holder_pid} ended, or refused us, before it answered; see its log") from None


def _peer(connection: socket.socket) -> tuple[int, int, int]:
    """Pid, uid and gid of the process at the other end, as the kernel saw it connect or listen."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


def _line(connection: socket.socket, limit_bytes: int) -> bytes:
    received = b""
    while not received.endswith(b"\n"):
        piece = connection.recv(limit_bytes)
        if not piece or len(received) > limit_bytes:
            raise ValueError("no line came")
        received += piece
    return received
