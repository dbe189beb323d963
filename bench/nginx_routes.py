"""The routes of a benchmark as configuration of nginx, in files of which a change rewrites one.

One location each, in the order of their paths: nginx 1.22 sorts them by insertion, which is quadratic in any other
order. Routes with hosts become servers of their own. What all share stands once, above them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Locations in one file: what a change has to write anew, beside the 100,000 that nginx has to read anew.
_FILE_LOCATIONS: Final = 1_000
_HTTP: Final = """
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    server_names_hash_max_size 524288;
    server_names_hash_bucket_size 128;
    upstream backend {{ server 127.0.0.1:{backend}; keepalive 320; keepalive_requests 100000000; }}
    server {{ listen 127.0.0.1:{port} default_server; include {directory}/paths-*.conf; }}
    include {directory}/hosts-*.conf;
"""


@dataclass(frozen=True, slots=True)
class RouteFiles:
    """Where the configuration lies; `files` are the routes, by file."""

    directory: Path
    port: int
    files: dict[str, list[dict[str, Any]]]

    def write(self, name: str, changed: int = -1, number: int = 0) -> None:
        """Write one file, one of its routes as change `number` leaves it; nobody reads half of it."""
        lines = [self._text(route, number if place == changed else 0) for place, route in enumerate(self.files[name])]
        aside = self.directory / f"{name}.new"
        aside.write_text("\n".join(lines))
        os.replace(aside, self.directory / f"{name}.conf")

    def _text(self, route: dict[str, Any], number: int) -> str:
        uri = route["uri"]
        text = _location(uri, 60 + number % 89)
        if number % 2:
            text += "\n" + _location(f"/changed/{number}{uri}", 60)
        if "hosts" in route:
            return f"server {{ listen 127.0.0.1:{self.port}; server_name {' '.join(route['hosts'])}; {text} }}"
        return text


def route_files(directory: Path, port: int, routes: list[dict[str, Any]]) -> RouteFiles:
    """The files of these routes, not yet written."""
    by_path = sorted((route for route in routes if "hosts" not in route), key=lambda route: _place(route["uri"]))
    by_host = [route for route in routes if "hosts" in route]
    files = {
        f"{kind}-{begin:07}": chosen[begin : begin + _FILE_LOCATIONS]
        for kind, chosen in (("paths", by_path), ("hosts", by_host))
        for begin in range(0, len(chosen), _FILE_LOCATIONS)
    }
    return RouteFiles(directory, port, files)


def http_text(files: RouteFiles, backend_port: int) -> str:
    """What goes into the `http` block."""
    return _HTTP.format(directory=files.directory, port=files.port, backend=backend_port)


def _place(uri: str) -> tuple[str, bool]:
    """nginx's order: by path, an exact location before a prefix of the same path."""
    return uri.removesuffix("*"), uri.endswith("*")


def _location(uri: str, read_timeout_s: int) -> str:
    where = uri[:-1] if uri.endswith("*") else f"= {uri}"
    return f"location {where} {{ proxy_pass http://backend; proxy_read_timeout {read_timeout_s}s; }}"
