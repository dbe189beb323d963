"""What is known of one request while it walks the pipeline. Filled by an adapter, canonicalised once by the core."""

from typing import Final

from gw.pipeline.path import BadTarget, canonical_path, check_query, host_name, split_absolute_form

# A peer behind a dual-stack socket is an IPv4 client: one address has one spelling, in headers as in limits.
_MAPPED_PREFIX: Final = "::ffff:"


class Request:
    """The head of a request.

    An adapter gives what the client sent: `headers` with lower-case names, in order, duplicates kept; `target` and
    `query` as raw bytes; `peer` the address of the socket's other end (never one taken from a header). `admit` adds
    the canonical form: `path` (what routes and plugins see), `wire_path` (what leaves), `host`, `host_header`.
    """

    __slots__ = (
        "headers",
        "host",
        "host_header",
        "method",
        "path",
        "peer",
        "query",
        "scheme",
        "server_port",
        "target",
        "unframed_body",
        "wire_path",
    )

    host: str
    host_header: bytes | None
    path: str
    wire_path: bytes

    def __init__(
        self,
        method: str,
        target: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        scheme: str,
        peer: str,
        server_port: int | None,
        unframed_body: bool = False,
    ) -> None:
        """`unframed_body`: a body may follow though no header tells its length (HTTP/2); it is then sent chunked."""
        self.method = method
        self.target = target
        self.query = query
        self.headers = headers
        self.scheme = scheme
        self.peer = peer[len(_MAPPED_PREFIX) :] if peer.startswith(_MAPPED_PREFIX) and "." in peer else peer
        self.server_port = server_port
        self.unframed_body = unframed_body

    def admit(self, *, host_required: bool) -> None:
        """Set the canonical fields. Raises BadTarget; the request is then answered 400 and goes nowhere."""
        target = self.target
        host_header = self._single_host()
        if not target.startswith(b"/"):
            authority, target = split_absolute_form(target)
            # RFC 9112 3.2.2 lets the target win; a client that says two different things is not guessed at.
            if host_header is not None and host_header.lower() != authority.lower():
                raise BadTarget("the target's authority is not the Host")
            host_header = authority
        if host_header is None and host_required:
            raise BadTarget("no Host")
        self.host_header = host_header
        self.host = "" if host_header is None else host_name(host_header)
        self.path, self.wire_path = canonical_path(target)
        if self.query:
            check_query(self.query)

    def _single_host(self) -> bytes | None:
        found = None
        for name, value in self.headers:
            if name == b"host":
                if found is not None:
                    raise BadTarget("more than one Host")
                found = value
        return found
