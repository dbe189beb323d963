"""Requests to etcd: which endpoint, with which token, for how long, and what to tell people when it fails.

- An endpoint is used while it answers. One that does not is left for the next; a full round without an answer is a
  StoreError that names each.
- A request that only reads is asked again at the next endpoint. A write is sent once, to an endpoint that has just
  answered: when the connection breaks then, nobody knows whether it was carried out, and the error says so.
- A token that etcd no longer takes (expired, etcd restarted, rights changed) was refused before anything was done, so
  a new one is fetched and the request sent again, once.
- A channel that is given up is closed when its last call is over: closing it would cancel the calls of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from gw.errors import Compacted, StoreError
from sync_agent.stores.etcd.options import Address, EtcdOptions, parse_host
from sync_agent.stores.etcd.rpc import EOF, RpcError, StatusCode, Stubs, UsageError, grpc, pb
from sync_agent.stores.etcd.tls import load_credentials

log = logging.getLogger(__name__)

# A member that is up answers Status at once; this is for the connection and the handshake on a bad line.
PROBE_TIMEOUT_S: Final = 5.0

CHANNEL_OPTIONS: Final = (
    # Lists come in pages, but a watch that resumes is sent up to 1,000 revisions in one response, and one that is too
    # large for us would be sent again for ever. What etcd holds (2 GiB by default, resources of 1 MiB) is the bound.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A peer that died without a word is noticed after 10 + 5 s. etcd refuses pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # No keepalive ping is sent while another one is out (gRPC measures the line with pings), and that one has 60 s.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A quiet watch is what the pings are for; the default stops them after two.
    ("grpc.http2.max_pings_without_data", 0),
    # A store is not reached through the proxy that the environment names for web pages.
    ("grpc.enable_http_proxy", 0),
    # Retrying is decided here, and a new channel starts without another's back-off.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)

# The endpoint did not answer, so another may.
AWAY: Final = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)
# The token is no longer taken; etcd words these itself, and they are part of its API.
STALE_TOKEN: Final = (
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",  # authentication was switched on after we found it off
)
COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"
ADVICE: Final = {
    "etcdserver: permission denied": "grant the user of deployment.etcd.user readwrite on the keys below the prefix",
    "etcdserver: user name is empty": "it asks for a user: set deployment.etcd.user and .password",
    "etcdserver: authentication failed, invalid user ID or password": "check deployment.etcd.user and .password",
    "etcdserver: mvcc: database space exceeded": "compact and defragment it, then `etcdctl alarm disarm`",
    "etcdserver: request is too large": "raise its --max-request-bytes, or make the resource smaller",
}
# gRPC's own words for the same, further up; sizes follow.
TOO_LARGE: Final = "grpc: received message larger than max"

Pick = Callable[[Stubs], Any]
Metadata = tuple[tuple[str, str], ...]


class Link:
    """A channel to one endpoint, and how many calls are on it."""

    def __init__(self, address: Address, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.channel = channel
        self.stubs = Stubs(channel)
        self._users = 0
        self._given_up = False

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Keeps the channel open for the block."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._given_up and not self._users:
                await self.channel.close()

    async def give_up(self) -> None:
        """Close the channel as soon as nobody uses it."""
        self._given_up = True
        if not self._users:
            await self.channel.close()


class Connection:
    """To the endpoints of one etcd cluster. Opens channels when first used; `close` it."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._addresses = tuple(parse_host(host) for host in options.hosts)
        self._links: dict[Address, Link] = {}
        self._current = 0
        self._token: str | None = None
        self._authenticating = asyncio.Lock()
        self._closed = False

    async def call(self, pick: Pick, request: Any, *, repeatable: bool) -> Any:
        """The answer to one request; `pick` chooses the method.

        Raises StoreError, and Compacted for a range at a revision that is gone.
        """
        failures: dict[str, str] = {}
        for _ in self._addresses:
            link = await self._find_alive(failures)
            try:
                async with link.used():
                    return await self._call_with_token(link, pick, request)
            except RpcError as error:
                if error.details() == COMPACTED:
                    raise Compacted(request.revision) from error
                if error.code() not in AWAY:
                    raise StoreError(self.describe(link, error)) from error
                self.leave(link)
                if not repeatable:
                    outcome = "the write may or may not have been carried out: read before writing again"
                    raise StoreError(f"{self.describe(link, error)}; {outcome}") from error
                failures[link.address.url] = error.details() or error.code().name
        raise _nobody_answers(failures)

    @contextlib.asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        """A watch's stream for the block, at an endpoint that has just answered. Raises StoreError."""
        link = await self._find_alive({})
        async with link.used():
            try:
                token = await self._fetch_token(link)
            except RpcError as error:
                raise StoreError(self.describe(link, error)) from error
            # A member that is cut off from its peers would be silent for ever; asked so, it ends the stream.
            metadata = (*_metadata(token), ("hasleader", "true"))
            async with _calls_end_with_errors(self):
                call = link.stubs.watch.Watch(metadata=metadata)
            try:
                yield Stream(self, link, call)
            finally:
                call.cancel()

    def forget_token(self) -> bool:
        """Have the next request fetch a new token; False when there is none to forget."""
        had = bool(self._token)
        self._token = None
        return had

    def leave(self, link: Link) -> None:
        """Have the next request try the endpoint after this one first."""
        if self._addresses[self._current] == link.address:
            self._current = (self._current + 1) % len(self._addresses)

    @property
    def timeout_s(self) -> float:
        """How long a request may take."""
        return self._options.timeout_s

    @property
    def is_closed(self) -> bool:
        """Whether `close` has been called, so that nothing more can come."""
        return self._closed

    def describe(self, link: Link, error: RpcError) -> str:
        """What happened, where, and what to do about it."""
        details = error.details() or error.code().name
        advice = ADVICE["etcdserver: request is too large"] if details.startswith(TOO_LARGE) else ADVICE.get(details)
        return f"etcd {link.address.url}: {details.removeprefix('etcdserver: ')}{f' ({advice})' if advice else ''}"

    async def close(self) -> None:
        """Close every channel; calls that are under way end with an error."""
        self._closed = True
        links, self._links = self._links, {}
        for link in links.values():
            await link.channel.close()

    async def _find_alive(self, failures: dict[str, str]) -> Link:
        """A link to the first endpoint that answers, from the current one on, without those in `failures`."""
        for address in (*self._addresses[self._current :], *self._addresses[: self._current]):
            if self._closed:
                raise StoreError("the store is closed")
            if address.url in failures:
                continue
            link = await self._open(address)
            reason = await self._probe(link)
            if reason is None:
                self._current = self._addresses.index(address)
                return link
            failures[address.url] = reason
            # What went wrong may have been put right in the files it was made from.
            self._links.pop(address, None)
            await link.give_up()
        raise _nobody_answers(failures)

    async def _probe(self, link: Link) -> str | None:
        """Why the endpoint does not answer; None when it does, or is connected anyway."""
        if link.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return None
        try:
            async with link.used(), _calls_end_with_errors(self):
                await link.stubs.maintenance.Status(
                    pb.StatusRequest(), timeout=min(PROBE_TIMEOUT_S, self._options.timeout_s)
                )
        except RpcError as error:
            # Any other code is an answer (a member may well ask for a token here).
            return error.details() or error.code().name if error.code() in AWAY else None
        return None

    async def _open(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:
            channel = await self._make_channel(address)
            # Somebody else may have opened one meanwhile; ours has connected to nothing yet.
            link = self._links.setdefault(address, Link(address, channel))
            if link.channel is not channel:
                await channel.close()
        return link

    async def _make_channel(self, address: Address) -> grpc.aio.Channel:
        if not address.is_tls:
            return grpc.aio.insecure_channel(address.target, options=CHANNEL_OPTIONS)
        credentials, name = await load_credentials(self._options.tls, address, PROBE_TIMEOUT_S)
        options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name)) if name else CHANNEL_OPTIONS
        return grpc.aio.secure_channel(address.target, credentials, options=options)

    async def _call_with_token(self, link: Link, pick: Pick, request: Any) -> Any:
        for is_last in (False, True):
            token = await self._fetch_token(link)
            try:
                async with _calls_end_with_errors(self):
                    return await pick(link.stubs)(request, timeout=self.timeout_s, metadata=_metadata(token))
            except RpcError as error:
                if is_last or self._options.user is None or error.details() not in STALE_TOKEN:
                    raise
                if self._token == token:  # else somebody else has renewed it already
                    self._token = None
        raise AssertionError("unreachable")

    async def _fetch_token(self, link: Link) -> str:
        """The token to send, from etcd when we have none; empty where there is no user, or no authentication."""
        if self._options.user is None:
            return ""
        async with self._authenticating:
            if self._token is None:
                self._token = await self._authenticate(link)
            return self._token

    async def _authenticate(self, link: Link) -> str:
        request = pb.AuthenticateRequest(name=self._options.user, password=self._options.password or "")
        try:
            async with link.used(), _calls_end_with_errors(self):
                answer = await link.stubs.auth.Authenticate(request, timeout=self.timeout_s)
        except RpcError as error:
            if error.code() is StatusCode.FAILED_PRECONDITION:
                log.warning("etcd %s has authentication off: deployment.etcd.user is not used", link.address.url)
                return ""
            raise
        token: str = answer.token
        return token


class Stream:
    """One watch stream. Errors and ends are StoreErrors."""

    def __init__(self, connection: Connection, link: Link, call: Any) -> None:
        self._connection = connection
        self._link = link
        self._call = call

    async def send(self, request: Any) -> None:
        """Send one request."""
        async with self._errors_told():
            await self._call.write(request)

    async def receive(self) -> Any:
        """The next response, however long it takes."""
        async with self._errors_told():
            response = await self._call.read()
        if response is EOF:
            raise StoreError(f"etcd {self._link.address.url} ended the watch's stream")
        return response

    @contextlib.asynccontextmanager
    async def _errors_told(self) -> AsyncIterator[None]:
        try:
            async with _calls_end_with_errors(self._connection):
                yield
        except RpcError as error:
            # A member that lost its leader still answers a probe; the next one is the better try.
            self._connection.leave(self._link)
            raise StoreError(self._connection.describe(self._link, error)) from error
        except asyncio.InvalidStateError as error:
            raise StoreError(f"etcd {self._link.address.url} ended the watch's stream") from error


@contextlib.asynccontextmanager
async def _calls_end_with_errors(connection: Connection) -> AsyncIterator[None]:
    """gRPC cancels whoever waits on a channel that is closed. That is our error, not the task's cancellation."""
    try:
        yield
    except UsageError:
        raise StoreError("the store is closed") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if connection.is_closed and task is not None and not task.cancelling():
            raise StoreError("the store is closed") from None
        raise


def _metadata(token: str) -> Metadata:
    return (("token", token),) if token else ()


def _nobody_answers(failures: dict[str, str]) -> StoreError:
    told = "; ".join(f"{url}: {reason}" for url, reason in failures.items())
    return StoreError(f"no etcd endpoint answers ({told}): is it running, and deployment.etcd right?")
