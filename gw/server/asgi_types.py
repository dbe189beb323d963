"""ASGI's callables and what passes through them (asgi.readthedocs.io), for annotations. Thin: the master imports it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gw.pipeline.context import Link
    from gw.pipeline.repeated import Repeated

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Our name among a scope's `extensions`, under which an edge that is ours puts ConnectionNotes.
CONNECTION_NOTES: Final = "jitterway.connection"


class ConnectionNotes:
    """What ASGI does not say of a request's connection. `requests`: how many the application has had on it.

    `link` is the application's to set. `repeated`: what the fields of the present request have in common with those of
    others on the connection, None where nothing is known; the application may settle it.
    """

    __slots__ = ("link", "repeated", "requests")

    def __init__(self) -> None:
        self.link: Link | None = None
        self.repeated: Repeated | None = None
        self.requests = 0
