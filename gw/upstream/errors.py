"""How an upstream fails a request. Each carries the status the client is answered; see gw.errors.UpstreamError."""

from gw.errors import UpstreamError


class ConnectFailed(UpstreamError):
    """No connection: refused, unreachable, TLS failed."""

    def __init__(self, reason: str, status: int = 502) -> None:
        super().__init__(status, f"cannot connect: {reason}")


class NotResolved(ConnectFailed):
    """The name has no address. APISIX leaves such a node out, and answers 503 where that leaves none."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, 503)


class ConnectTimedOut(UpstreamError):
    """No connection within `timeout.connect`."""

    def __init__(self) -> None:
        super().__init__(504, "no connection in time")


class Closed(UpstreamError):
    """The connection ended before the response did."""

    def __init__(self, reason: str) -> None:
        super().__init__(502, reason)


class BadResponse(UpstreamError):
    """What came is no HTTP/1.x response that can be passed on. The connection is not used again."""

    def __init__(self, reason: str) -> None:
        super().__init__(502, f"bad response: {reason}")


class SendTimedOut(UpstreamError):
    """The upstream took no byte of the request for `timeout.send`."""

    def __init__(self) -> None:
        super().__init__(504, "the upstream reads nothing")


class ReadTimedOut(UpstreamError):
    """The upstream sent no byte for `timeout.read`."""

    def __init__(self) -> None:
        super().__init__(504, "the upstream is silent")
