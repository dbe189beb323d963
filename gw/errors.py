"""The families of errors that somebody branches on. Everything else is a built-in, raised where it happens.

Each carries its data beside its text, so that a caller never parses a message. Foreign exceptions (grpc, sqlite3,
OSError of posix_ipc) are translated into these once, at the edge that met them.
"""


class JitterwayError(Exception):
    """Base of all errors that are ours to word. Its text is for the person who meets it."""


class ConfigError(JitterwayError):
    """A setting is wrong or unknown. `path` is the dotted path in the configuration, `""` for the file as a whole."""

    def __init__(self, path: str, reason: str, *, source: str = "") -> None:
        super().__init__(": ".join(part for part in (source, path, reason) if part))
        self.path = path
        self.reason = reason
        self.source = source


class InvalidResource(JitterwayError):
    """A resource of the data model does not fit its schema or breaks a rule between fields.

    `path` is the place inside the resource (`upstream.nodes[0].port`), `""` for the whole. `stands_alone`: the Admin
    API answers with the reason alone.
    """

    def __init__(self, kind: str, id: str, path: str, reason: str, *, stands_alone: bool = False) -> None:
        super().__init__(f"{kind}/{id}: {path + ': ' if path else ''}{reason}")
        self.kind = kind
        self.id = id
        self.path = path
        self.reason = reason
        self.stands_alone = stands_alone


class StoreError(JitterwayError):
    """The configuration store did not do what was asked: away, refused, timed out."""


class Compacted(StoreError):
    """History up to `revision` is gone, so a watch cannot start there and only a full list is true."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"history before revision {revision} is gone from the store")
        self.revision = revision


class SegmentError(JitterwayError):
    """A shared-memory segment is missing, foreign, damaged, or there is no room for it."""


class AgentUnavailable(JitterwayError):
    """The sync agent does not answer on its socket."""


class UpstreamError(JitterwayError):
    """An upstream node failed a request. `status` is what the client is answered (502, 503 or 504)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
