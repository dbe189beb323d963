"""Ports nobody uses at this moment."""

import socket


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1, free when asked."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
