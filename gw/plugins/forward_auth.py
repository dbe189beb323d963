"""forward-auth: another service decides whether a request may pass. See docs/plugins/forward-auth.md.

The service gets the request's facts as headers, and with POST its body; never the client's framing (CVE-2024-32638),
nor a header of the client that is not listed. What it vouches for replaces whatever the client sent under those names,
in every spelling and also when the service is not asked, so that nobody can vouch for himself (CVE-2026-39998).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final, NamedTuple

from gw.errors import UpstreamError
from gw.pipeline.fields import field, folded
from gw.pipeline.reply import Reply, plugin_reply
from gw.pipeline.variables import Template, compile_template
from gw.plugins.api import Context, Plugin, attach
from gw.plugins.shared.seldom import Seldom
from gw.upstream.errors import BadResponse
from gw.upstream.fetch import NOT_KEPT, Fetched, parse_url
from gw.upstream.target import KeepAlive

log: Final = logging.getLogger(__name__)

# As lua-resty-http's connections, which live until their server ends them; ours are let go of after a while.
_MAX_REQUESTS: Final = 1000
# A body that goes to the service is gathered first. `max_req_body_size`, or for all configurations
# `plugin_attr.forward-auth.max_req_body_bytes`, says otherwise.
_MAX_BODY_BYTES: Final = 1 << 20
# One line a second for what every request may meet.
_QUIET_S: Final = 1.0
_FRAMING: Final = frozenset((b"connection", b"content-length", b"transfer-encoding"))

_Fields = list[tuple[bytes, bytes]]


class _Extra(NamedTuple):
    """A header that the configuration adds; `value` is filled in per request."""

    name: str
    value: Template


class ForwardAuth(Plugin):
    """Let another service decide whether a request may pass."""

    name: ClassVar[str] = "forward-auth"
    priority: ClassVar[int] = 2002

    def prepare(self) -> None:
        """Raises ValueError for a URI that is none."""
        conf = self.conf
        parse_url(conf["uri"])
        consumer_header = conf.get("consumer_header")
        self._consumer_header = consumer_header and consumer_header.lower().encode("latin-1", "replace")
        self.attaches_consumers = consumer_header is not None
        if self.env.fetcher is None:
            raise RuntimeError("forward-auth: there is no client to ask the service with")
        self._sends_body = conf.get("request_method", "GET") == "POST"
        of_all: int = self.env.attr(self.name).get("max_req_body_bytes", _MAX_BODY_BYTES)
        self._max_body_bytes: int = conf.get("max_req_body_size", of_all)
        self._timeout_s = conf.get("timeout", 3000) / 1000
        self._keepalive = _keepalive(conf)
        described = (b"content-encoding",) if self._sends_body else ()
        self._wanted = frozenset((*_names(conf, "request_headers"), *described))
        extra = conf.get("extra_headers", {})
        self._extra = tuple(_Extra(name, compile_template(value)) for name, value in extra.items())
        # Without a Host there is no request.
        self._vouched = tuple(name for name in _names(conf, "upstream_headers") if name != b"host")
        self._shown = frozenset(_names(conf, "client_headers"))
        self._degrades: bool = conf.get("allow_degradation", False)
        self._nobody = plugin_reply(401, {"message": "Invalid consumer"})
        self._failure = plugin_reply(conf.get("status_on_error", 403))
        self._seldom = Seldom(self.env.clock, _QUIET_S)

    async def rewrite(self, ctx: Context) -> Reply | None:
        body = await ctx.read_body(self._max_body_bytes) if self._sends_body else b""
        try:
            answer = await self._ask(ctx, body)
        except ValueError:
            # Only a client's own words, in extra_headers, can make a header that cannot be sent.
            return plugin_reply(400)
        except UpstreamError as error:
            return self._not_answered(ctx, error)
        if answer.status >= 300:
            return self._refusal(answer)
        if (reply := self._attach(ctx, answer)) is not None:
            return reply
        for name in self._vouched:
            ctx.request.vouch_header(name, [value for each, value in answer.headers if each == name])
        return None

    def _attach(self, ctx: Context, answer: Fetched) -> Reply | None:
        """The consumer whom the service names; one that it does not name, or that is not there, does not pass."""
        if self._consumer_header is None:
            return None
        names = [value for name, value in answer.headers if name == self._consumer_header]
        caller = self.env.consumers.by_name(names[0].decode("utf-8", "replace")) if len(names) == 1 else None
        if caller is None:
            if self._seldom():
                log.warning("forward-auth of %s: the service names no consumer that is there", self.owner)
            return self._nobody
        attach(ctx, caller)
        return None

    async def _ask(self, ctx: Context, body: bytes) -> Fetched:
        """Raises UpstreamError, or ValueError for a header that cannot be sent."""
        conf = self.conf
        fetched: Fetched = await self.env.fetcher.fetch(
            "POST" if self._sends_body else "GET",
            conf["uri"],
            timeout_s=self._timeout_s,
            headers=self._question(ctx),
            body=body,
            ssl_verify=conf.get("ssl_verify", True),
            keepalive=self._keepalive,
            # To be asked twice changes no answer.
            is_repeatable=True,
        )
        return fetched

    def _question(self, ctx: Context) -> _Fields:
        """What the service is told: ours, then what is configured, then what the client says, each name once."""
        request = ctx.request
        query = b"?" + request.query if request.query else b""
        told: dict[bytes, bytes] = {
            b"x-forwarded-proto": request.scheme.encode(),
            b"x-forwarded-method": request.method.encode(),
            b"x-forwarded-host": request.host.encode("latin-1", "replace"),
            # As it is routed and goes to the upstream: the service judges what will be served.
            b"x-forwarded-uri": request.wire_path + query,
            b"x-forwarded-for": request.remote_addr.encode(),
        }
        for extra in self._extra:
            name, value = field(extra.name, extra.value(ctx))
            told[name] = value
        wanted = self._wanted
        of_client = [pair for pair in request.headers if pair[0] in wanted and pair[0] not in told]
        return [*told.items(), *of_client]

    def _refusal(self, answer: Fetched) -> Reply:
        """The service's answer, as it is, with the headers that are listed."""
        shown = [
            (name, value)
            for name, value in answer.headers
            if name not in _FRAMING and (name in self._shown or (answer.body and name == b"content-encoding"))
        ]
        if answer.body and b"content-type" in self._shown:
            return Reply(answer.status, tuple(shown), answer.body)
        reply = plugin_reply(answer.status, answer.body or None)
        return reply._replace(headers=(*reply.headers, *shown))

    def _not_answered(self, ctx: Context, error: UpstreamError) -> Reply | None:
        """No answer that can be used. A service that says something else than HTTP is there: nobody is let in."""
        passes = self._degrades and not isinstance(error, BadResponse)
        if self._seldom():
            outcome = "requests pass unasked" if passes else f"requests get a {self._failure.status}"
            where = self.conf["uri"].partition("?")[0]
            log.warning("forward-auth of %s: %s: %s; %s", self.owner, where, error, outcome)
        if not passes:
            return self._failure
        for name in self._vouched:
            ctx.request.vouch_header(name, ())
        return None


def _names(conf: Mapping[str, Any], key: str) -> tuple[bytes, ...]:
    """Header names, lower-case, each once; those that frame a message are nobody's to pass on."""
    names = dict.fromkeys(name.lower().encode("latin-1", "replace") for name in conf.get(key, ()))
    return tuple(name for name in names if folded(name) not in _FRAMING)


def _keepalive(conf: Mapping[str, Any]) -> KeepAlive:
    if not conf.get("keepalive", True):
        return NOT_KEPT
    return KeepAlive(conf.get("keepalive_pool", 5), conf.get("keepalive_timeout", 60000) / 1000, _MAX_REQUESTS)
