"""Requests to one certain worker of several that share a listening socket.

The kernel decides who accepts a connection; whose it became is read off /proc, and a connection to another worker is
given back.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_ACCEPT_DEADLINE_S = 5.0


class OneWorker:
    """Keep-alive requests to the worker `pid` behind `port`, one after the other."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid = pid
        self._port = port
        self._socket: socket.socket | None = None

    def get_all(self, requests: Iterable[tuple[str, str]]) -> int:
        """GET each (path, host). Raises RuntimeError for the first answer that is not 200; how many they were."""
        count = 0
        for path, host in requests:
            status = self._get(path, host)
            if status != 200:
                raise RuntimeError(f"GET {path} (host {host}) was answered {status}")
            count += 1
        return count

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _get(self, path: str, host: str) -> int:
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        while True:
            if self._socket is None:
                self._socket = self._connected()
            try:
                self._socket.sendall(head)
                return self._answered(self._socket)
            except (ConnectionError, EOFError):
                self.close()  # it was kept alive for long enough: another one

    def _answered(self, sock: socket.socket) -> int:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += _received(sock)
        head, _, body = raw.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, f"an answer without a length: {head!r}"
        while len(body) < int(length[1]):
            body += _received(sock)
        if b"connection: close" in head.lower():
            self.close()
        return int(head.split(b" ", 2)[1])

    def _connected(self) -> socket.socket:
        while True:
            sock = socket.create_connection(("127.0.0.1", self._port), timeout=30)
            if self._is_accepted_by_ours(sock):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            sock.close()

    def _is_accepted_by_ours(self, sock: socket.socket) -> bool:
        end_s = time.monotonic() + _ACCEPT_DEADLINE_S
        while time.monotonic() < end_s:
            inode = _inode_of_other_end(self._port, sock.getsockname()[1])
            if inode:  # 0 until somebody accepted it
                return f"socket:[{inode}]" in _descriptors(self._pid)
            time.sleep(0.002)
        return False


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise EOFError
    return data


def _inode_of_other_end(port: int, client_port: int) -> int:
    ends = f":{port:04X}", f":{client_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
            return int(fields[9])
    return 0


def _descriptors(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(os.readlink(entry))
    return found
