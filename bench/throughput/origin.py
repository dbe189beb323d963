"""The server behind all that is measured: nginx, with answers of all sizes, and one place that reads whole bodies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.processes import Nginx
from tests.support.ports import free_ports

SIZES: Final = {"0": 0, "1k": 1024, "100k": 100 * 1024, "10m": 10 * 1024 * 1024}
# nginx answers a `return` before it has read the body, and then what is measured is how a proxy treats an early
# answer. It has to read all of a body that it passes on, so /up passes it on, to itself, and leaves it out.
_HTTP: Final = """
    client_max_body_size 0;
    client_body_buffer_size 16m;
    default_type text/plain;
    sendfile on;
    open_file_cache max=16;
    upstream reader {{ server unix:{directory}/reader.sock; keepalive 64; keepalive_requests 100000000; }}
    server {{ listen unix:{directory}/reader.sock; location / {{ return 200 "read"; }} }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory};
        location / {{ return 200 "{body}"; }}
        location = /down/0 {{ return 200; }}
        location = /down/100k {{ }}
        location = /down/10m {{ }}
        location = /auth {{ return 200; }}
        location = /log {{ return 200; }}
        location = /up {{
            proxy_pass http://reader;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_pass_request_body off;
        }}
    }}
"""
UP_ANSWER_BYTES: Final = len("read")


@contextlib.contextmanager
def running_origin(directory: Path) -> Iterator[Nginx]:
    """/down/<size> answers so many bytes, /up reads a whole body, /auth and /log serve plugins, all else has 1 KB."""
    (port,) = free_ports(1)
    (directory / "down").mkdir(parents=True)
    for name, size in SIZES.items():
        (directory / "down" / name).write_bytes(b"x" * size)
    http = _HTTP.format(directory=directory, port=port, body="x" * SIZES["1k"])
    # Started by root its workers would be nobody's, who may not look into a temporary directory.
    origin = Nginx(directory, port, http, main="user root root;" if os.geteuid() == 0 else "")
    try:
        yield origin
    finally:
        origin.close()
