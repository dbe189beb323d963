"""proxy-rewrite: what leaves for the upstream is another path, method, Host or header than what came.

What is rewritten leaves canonical and encoded (gw.plugins.rewriting.target); what cannot is answered 400, and nothing
leaves. docs/plugins/proxy-rewrite.md says where this differs from APISIX.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from gw.expr import SearchTooLong
from gw.pipeline.context import Context
from gw.pipeline.path import split_absolute_form
from gw.pipeline.reply import Reply, error_reply
from gw.pipeline.variables import Getter, find_variable
from gw.plugins.api import Plugin
from gw.plugins.rewriting.header_edits import FRAMING, compile_edits
from gw.plugins.rewriting.target import RegexUri, UriTemplate, with_query

log = logging.getLogger(__name__)

_BAD_REQUEST: Final = error_reply(400)
_HOST: Final = "host"
_NOT_OURS: Final = FRAMING | {_HOST}
# Under which a request's match of regex_uri lies in its state, for the headers that name captures.
_MATCH: Final = "proxy-rewrite.match"
# Of a group's number in a header's value; a longer one is no number of a group.
_MAX_DIGITS: Final = 3


class ProxyRewrite(Plugin):
    """Change what the upstream gets: path, method, Host, headers."""

    name = "proxy-rewrite"
    priority = 1008

    def prepare(self) -> None:
        conf = self.conf
        self._is_raw: bool = conf["use_real_request_uri_unsafe"]
        self._method: str | None = conf.get("method")
        self._host: str | None = conf.get("host")
        self._uri = UriTemplate(conf["uri"]) if "uri" in conf else None
        # `uri` goes first where both stand; regex_uri must be right all the same, as in APISIX.
        regex_uri = RegexUri(conf["regex_uri"], is_raw=self._is_raw) if "regex_uri" in conf else None
        self._regex_uri = None if self._uri is not None else regex_uri
        headers: dict[str, Any] = conf.get("headers", {})
        self._edits = compile_edits(headers, f"proxy-rewrite of {self.owner}", find=_find, not_ours=_NOT_OURS)
        if self._method != "HEAD":
            self.header_filter = None  # type: ignore[assignment, method-assign]
        if "scheme" in conf:
            log.warning("proxy-rewrite of %s: scheme is ignored, as in APISIX 3: it is the upstream's", self.owner)

    def rewrite(self, ctx: Context) -> Reply | None:
        try:
            if self._uri is not None or self._regex_uri is not None or self._is_raw:
                self._rewrite_uri(ctx)
            if self._edits:
                self._edits(ctx, ctx.request.headers)
        except (ValueError, SearchTooLong) as error:
            log.info("proxy-rewrite of %s refused %a: %s", self.owner, ctx.request.target, error)
            return _BAD_REQUEST
        if self._host is not None:
            ctx.upstream_host = self._host
        if self._method is not None:
            ctx.upstream_method = self._method
        return None

    def header_filter(self, ctx: Context) -> None:
        """An answer to HEAD announces a body that never comes; a client that asked otherwise would wait for it."""
        if ctx.request.method != "HEAD":
            ctx.response.remove_header("content-length")

    def _rewrite_uri(self, ctx: Context) -> None:
        """Raises BadTarget and SearchTooLong."""
        request = ctx.request
        query = b"" if self._is_raw else request.query
        if self._uri is not None:
            ctx.set_upstream_uri(with_query(self._uri(ctx), query))
            return
        subject = _raw_target(ctx) if self._is_raw else request.path
        found = None if self._regex_uri is None else self._regex_uri.find(subject)
        if found is not None:
            ctx.state[_MATCH], uri = found
            ctx.set_upstream_uri(with_query(uri, query))
        elif self._is_raw:
            ctx.set_upstream_uri(subject.encode("latin-1"))


def _raw_target(ctx: Context) -> str:
    """Path and query as the client wrote them."""
    request = ctx.request
    target = request.target
    if not target.startswith(b"/"):
        _, target = split_absolute_form(target)
    return (target + b"?" + request.query if request.query else target).decode("latin-1")


def _find(name: str) -> Getter | None:
    """Variables of headers: also the captures of regex_uri, empty where it did not match or has no such group."""
    if not name.isdecimal():
        return find_variable(name)
    number = int(name) if len(name) <= _MAX_DIGITS else -1

    def capture(ctx: Context) -> str | None:
        match = ctx.state.get(_MATCH)
        return None if match is None or not 0 <= number <= match.re.groups else match[number]

    return capture
