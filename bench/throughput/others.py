"""What ours is measured beside: nginx, haproxy, and a proxy of falcon and aiohttp. They stream bodies, as ours does."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.nginx_routes import http_text, route_files
from bench.processes import Nginx
from bench.throughput.scene import KEEPALIVE_S, MOST_CONNECTIONS, Running, Scene
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
# Reading 100,000 locations takes nginx some 10 s, haproxy's map a second.
_START_DEADLINE_S: Final = 240
# haproxy insists on two descriptors for each of these, of which a shell may have no more than 20,000.
_HAPROXY_CONNECTIONS: Final = 4_000

# Spooling bodies to disk, nginx's default, would measure the disk; without a file it still reads ahead into buffers.
_NGINX_COMMON: Final = """
    keepalive_timeout {keepalive_s}s;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    {access_log}
"""
_NGINX_ONE_ROUTE: Final = """
    upstream backend {{ server 127.0.0.1:{origin}; keepalive 320; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
"""
_HAPROXY: Final = """
global
    maxconn {connections}
    nbthread {workers}
defaults
    mode http
    option http-keep-alive
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client {keepalive_s}s
    timeout server 60s
frontend traffic
    bind 127.0.0.1:{port} backlog 4096
    {routing}
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin} pool-max-conn 320
"""


@contextlib.contextmanager
def running_nginx(scene: Scene) -> Iterator[Running]:
    """nginx with `proxy_pass`; with many routes one location each, and servers for their hosts."""
    (port,) = free_ports(1)
    directory = scene.directory / "nginx"
    directory.mkdir(parents=True)
    log = f"access_log {directory}/access.log combined buffer=16k flush=3s;" if scene.logs_access else ""
    http = _NGINX_COMMON.format(keepalive_s=KEEPALIVE_S, access_log=log)
    if scene.routes:
        files = route_files(directory, port, scene.routes)
        for name in files.files:
            files.write(name)
        http += http_text(files, scene.origin_port)
    else:
        http += _NGINX_ONE_ROUTE.format(origin=scene.origin_port, port=port)
    nginx = Nginx(
        directory,
        port,
        http,
        main=f"worker_rlimit_nofile {MOST_CONNECTIONS + 1000};",
        workers=scene.workers,
        connections=MOST_CONNECTIONS,
        deadline_s=_START_DEADLINE_S,
    )
    try:
        yield Running(port, nginx.worker_pids)
    finally:
        nginx.close()


@contextlib.contextmanager
def running_haproxy(scene: Scene) -> Iterator[Running]:
    """haproxy: one process with a thread for each worker. Many routes are looked up in its prefix trees."""
    (port,) = free_ports(1)
    directory = scene.directory / "haproxy"
    directory.mkdir(parents=True)
    routing = ""
    if scene.routes:
        _write_maps(directory, scene.routes)
        found = f"{{ path,map_beg({directory}/paths.map) -m found }}"
        by_host = f"{{ req.hdr(host),map_str({directory}/hosts.map) -m found }}"
        routing = f"http-request deny deny_status 404 unless {found} or {by_host}"
    text = _HAPROXY.format(
        connections=_HAPROXY_CONNECTIONS,
        workers=scene.workers,
        keepalive_s=KEEPALIVE_S,
        port=port,
        origin=scene.origin_port,
        routing=routing,
    )
    (directory / "haproxy.cfg").write_text(text)
    process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(directory / "haproxy.cfg")])
    with _ended(process):
        wait_until(lambda: _listens(process, port), what="haproxy to listen", deadline_s=_START_DEADLINE_S)
        yield Running(port, [process.pid])


def _write_maps(directory: Path, routes: list[dict[str, Any]]) -> None:
    paths, hosts = [], []
    for route in routes:
        if "hosts" in route:
            hosts += [f"{host} r" for host in route["hosts"]]
        else:
            paths.append(f"{route['uri'].removesuffix('*')} r")
    (directory / "paths.map").write_text("\n".join(paths) + "\n")
    (directory / "hosts.map").write_text("\n".join(hosts) + "\n")


@contextlib.contextmanager
def running_falcon(scene: Scene) -> Iterator[Running]:
    """bench.throughput.falcon_proxy on gunicorn's own asgi worker."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gunicorn", "-k", "asgi", "-w", str(scene.workers), "-b", f"127.0.0.1:{port}"]
    command += ["--keep-alive", str(KEEPALIVE_S), "--worker-connections", str(MOST_CONNECTIONS), "--log-level", "error"]
    command += ["--no-control-socket", "--timeout", "0", "bench.throughput.falcon_proxy:app"]
    environment = {**os.environ, "ORIGIN": f"http://127.0.0.1:{scene.origin_port}"}
    process = subprocess.Popen(command, cwd=_REPOSITORY, env=environment)
    with _ended(process):
        wait_until(lambda: _listens(process, port), what="gunicorn to listen", deadline_s=_START_DEADLINE_S)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == scene.workers, what="gunicorn's workers")
        yield Running(port, [int(pid) for pid in children.read_text().split()])


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Looked up and not tried: a connection that is closed at once shows in some logs. Asserts that it lives."""
    assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
    table = Path("/proc/net/tcp").read_text()
    return re.search(rf":{port:04X} 00000000:0000 0A", table) is not None
