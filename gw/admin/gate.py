"""What every request to the Admin API passes before anything of it is looked at: the one place where access is decided.

It is middleware, so it runs before routing: there is no handler, nor "no such path", that a request could reach
without it. In order, the first three answered by 403, the key by 401 or 503, the path by 400, each with the reason:

1. The peer's address is in `allow_admin`. The socket's address, whatever headers say.
2. `Host` names this gateway: an IP address, `localhost`, or the name of the host (`gw.settings.own_host` says why).
3. `Origin`, when there is one, has the same host. So no foreign page can send a request, simple or not.
4. The key in `X-API-KEY` may do this. Nowhere else is a key looked for: APISIX's `api_key` in the query ends in logs,
   and its cookie is sent by browsers on behalf of any page. The agent decides (and decides again when the operation
   comes); for OPTIONS of a page of this host there is no key to ask for, as browsers send none.
5. The path has no segment that another reader could take for another path.

`HEAD /apisix/admin`, with which clients of APISIX see whether the API is there, ends here, with 200. (APISIX asks for
no key there; here nothing is had without one.)
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, Final, Protocol
from urllib.parse import unquote

import falcon
import falcon.asgi

from gw.admin.agent_client import AgentClient
from gw.admin.reply import error_of, raise_for
from gw.model.operations import Authorize
from gw.settings import Network, admits
from gw.settings.own_host import OwnHosts, host_of_header, host_of_origin

log = logging.getLogger(__name__)

PREFIX: Final = "/apisix/admin"
# Methods that a viewer may use, as in APISIX.
_READING: Final = frozenset({"GET"})
_CORS_METHODS: Final = "GET, PUT, POST, DELETE, PATCH, OPTIONS"
_CORS_HEADERS: Final = "X-API-KEY, Content-Type, X-Digest"
# By name: older browsers take a star for a name.
_CORS_EXPOSED: Final = "X-API-VERSION, X-Jitterway-Revision, X-Digest, X-Last-Modified"
# As APISIX: an hour.
_CORS_MAX_AGE_S: Final = "3600"


class AdminAccess(Protocol):
    """What the gate needs of gw.settings' `deployment.admin`."""

    @property
    def allow_admin(self) -> Collection[Network]:
        """Networks whose members may ask."""
        ...

    @property
    def enable_admin_cors(self) -> bool:
        """Whether pages of this host, on other ports, may read answers."""
        ...


class Gate:
    """Falcon middleware. `host_names` are the names, besides addresses and localhost, that `Host` may hold.

    `server` is the header `Server` of every answer, whoever made it. `version`, in `X-API-VERSION`, is the form of what
    callers with a key get; others are told none, as in APISIX.
    """

    def __init__(
        self,
        access: AdminAccess,
        client: AgentClient,
        server: str,
        version: str,
        host_names: Collection[str] = (),
    ) -> None:
        self._server = server
        self._version = version
        self._networks = tuple(access.allow_admin)
        self._cors = access.enable_admin_cors
        self._client = client
        self._own_hosts = OwnHosts(host_names)

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Let a request through, or raise AdminError."""
        self._check_peer(req)
        host = self._checked_host(req)
        origin = _checked_origin(req, host)
        if origin is not None and self._cors and self._answer_cors(req, resp, origin):
            return
        is_probe = req.method == "HEAD" and req.path == PREFIX
        writes = not is_probe and req.method not in _READING
        raise_for(await self._client.call(Authorize(write=writes), req.get_header("X-API-KEY")))
        resp.set_header("X-API-VERSION", self._version)
        _check_path(req)
        resp.complete = is_probe

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Mark every answer, whoever made it."""
        resp.set_header("Server", self._server)
        if resp.content_type is None:
            resp.content_type = falcon.MEDIA_JSON
        resp.cache_control = ("no-store",)

    def _check_peer(self, req: falcon.asgi.Request) -> None:
        # Not falcon's remote_addr, which is 127.0.0.1 where there is no peer (a Unix socket).
        peer, _port = req.scope.get("client") or ("", 0)
        if not admits(self._networks, peer):
            log.warning("refused an admin request from %r: not in allow_admin", peer)
            raise error_of(403, "this address may not use the Admin API (deployment.admin.allow_admin)")

    def _checked_host(self, req: falcon.asgi.Request) -> str | None:
        """The host that is asked for. None: an HTTP/1.0 client names none, and that is no browser."""
        header = req.get_header("Host")
        if header is None:
            return None
        host = host_of_header(header)
        if host is None or host not in self._own_hosts:
            raise error_of(403, "this Host does not name the Admin API: use an IP address, localhost or its own name")
        return host

    def _answer_cors(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, origin: str) -> bool:
        """Add the headers that let the page read; True for a preflight, which they answer. Never with credentials."""
        resp.set_header("Access-Control-Allow-Origin", origin)
        resp.set_header("Access-Control-Expose-Headers", _CORS_EXPOSED)
        resp.append_header("Vary", "Origin")
        if req.method != "OPTIONS" or req.get_header("Access-Control-Request-Method") is None:
            return False
        resp.set_header("Access-Control-Allow-Methods", _CORS_METHODS)
        resp.set_header("Access-Control-Allow-Headers", _CORS_HEADERS)
        resp.set_header("Access-Control-Max-Age", _CORS_MAX_AGE_S)
        resp.status = falcon.HTTP_200
        resp.complete = True
        return True


def _checked_origin(req: falcon.asgi.Request, host: str | None) -> str | None:
    origin = req.get_header("Origin")
    if origin is None:
        return None
    if host is None or host_of_origin(origin) != host:
        log.warning("refused an admin request of a web page from elsewhere (%.100r)", origin)
        raise error_of(403, "a web page from elsewhere may not use the Admin API")
    return origin


def _check_path(req: falcon.asgi.Request) -> None:
    """Refuse segments that are empty, `.`, `..`, or hold a separator or control character once decoded."""
    raw: bytes = req.scope.get("raw_path") or req.scope["path"].encode("utf-8", "surrogatepass")
    segments = unquote_segments(raw)
    if segments and segments[-1] == "":
        segments.pop()  # one slash at the end is the same resource
    for segment in segments:
        if segment in ("", ".", "..") or not _is_plain(segment):
            raise error_of(400, "invalid path: a segment is empty, a dot or two, or holds a character it may not")


def unquote_segments(raw_path: bytes) -> list[str]:
    """The segments of a path behind its first slash, each decoded for itself and once; U+FFFD stands for bad UTF-8."""
    return [unquote(segment) for segment in raw_path.decode("latin-1").removeprefix("/").split("/")]


def _is_plain(segment: str) -> bool:
    return not any(char in "/\\\ufffd\x7f" or ord(char) < 0x20 for char in segment)
