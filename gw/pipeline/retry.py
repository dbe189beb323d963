"""May a request that an upstream failed be tried again, and where? Decides only.

nginx's rules as APISIX leaves them (proxy_next_upstream error timeout): a node that took no connection has seen nothing
of the request; any other failure may come after the node acted on it, so only what is idempotent (RFC 9110 section
9.2.2) is sent twice; and nothing is once a byte of a response went to the client. A response that came but is no HTTP
is not tried again: the node works, and says nonsense.

Besides, a connection that was used before and ends without a byte of an answer was most likely closed by the node while
we wrote: the request goes to the same node on a fresh connection, which counts as no retry.
"""

from enum import Enum
from typing import Final

from gw.errors import UpstreamError
from gw.upstream.errors import Closed, ConnectFailed, ConnectTimedOut, ReadTimedOut, SendTimedOut

# RFC 9110 section 9.2.2.
IDEMPOTENT_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))
_NOT_CONNECTED: Final = (ConnectFailed, ConnectTimedOut)
_INTERRUPTED: Final = (Closed, ReadTimedOut, SendTimedOut)


class Next(Enum):
    """What to do after a failure."""

    GIVE_UP = 0
    SAME_NODE = 1
    OTHER_NODE = 2


def after(
    error: UpstreamError, *, method: str, is_stale: bool, was_written: bool, can_be_sent_again: bool
) -> Next:
    """`is_stale`: on a reused connection, without a byte of an answer. `was_written`: bytes of the request left.

    Whether another node and another try are allowed at all is the caller's to know.
    """
    if isinstance(error, _NOT_CONNECTED):
        return Next.OTHER_NODE if can_be_sent_again else Next.GIVE_UP
    if not isinstance(error, _INTERRUPTED):
        return Next.GIVE_UP
    is_safe = not was_written or (method in IDEMPOTENT_METHODS and can_be_sent_again)
    if not is_safe:
        return Next.GIVE_UP
    return Next.SAME_NODE if is_stale and isinstance(error, Closed) else Next.OTHER_NODE
