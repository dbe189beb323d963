"""key-auth: a key that only one consumer has says who a request comes from. See docs/plugins/key-auth.md."""

from __future__ import annotations

from typing import ClassVar, Final

from gw.pipeline.fields import field
from gw.plugins.api import Caller, Context, Plugin, Reply, attach
from gw.plugins.shared.anonymous import Anonymous, challenge
from gw.plugins.shared.query import without_argument

_BEARER: Final = b"bearer "

_MISSING: Final = "Missing API key in request"
_INVALID: Final = "Invalid API key in request"
_NO_BEARER: Final = "Invalid Bearer token format"


class KeyAuth(Plugin):
    """Let in who shows a consumer's key, in a header or in the query."""

    name: ClassVar[str] = "key-auth"
    priority: ClassVar[int] = 2500
    attaches_consumers = True
    credential_field: ClassVar[str] = "key"

    def prepare(self) -> None:
        conf = self.conf
        self._is_bearer: bool = conf["bearer_token"]
        self._header = b"authorization" if self._is_bearer else field(conf["header"], "")[0]
        self._query: str = conf["query"]
        self._hides: bool = conf["hide_credentials"]
        scheme = "Bearer" if self._is_bearer else "apikey"
        self._refusals = {
            message: challenge(scheme, conf["realm"], message) for message in (_MISSING, _INVALID, _NO_BEARER)
        }
        self._anonymous = Anonymous(self, scheme, conf["realm"])

    def rewrite(self, ctx: Context) -> Reply | None:
        shown = self._shown(ctx)
        caller: Caller | None = None
        if isinstance(shown, bytes):
            caller = self.env.consumers.by_credential(self.name, shown.decode("utf-8", "surrogateescape"))
        if self._hides:
            self._hide(ctx)
        if caller is not None:
            attach(ctx, caller)
            return None
        return self._anonymous.let_in(ctx, self._refusals[_INVALID if isinstance(shown, bytes) else shown])

    def _shown(self, ctx: Context) -> bytes | str:
        """The key, or what is wrong. The header decides where there is one; of two keys in one place neither counts."""
        request, header = ctx.request, self._header
        values = [value for name, value in request.headers if name == header]
        if values:
            if len(values) > 1 or not values[0]:
                return _INVALID
            if not self._is_bearer:
                return values[0]
            is_bearer = values[0][: len(_BEARER)].lower() == _BEARER
            return values[0][len(_BEARER) :] if is_bearer else _NO_BEARER
        arguments = request.args.get(self._query, ()) if request.query else ()
        if not arguments:
            return _MISSING
        return arguments[0].encode("utf-8", "surrogateescape") if len(arguments) == 1 else _INVALID

    def _hide(self, ctx: Context) -> None:
        """Whether or not it was right, and wherever it stands: nobody behind the gateway is to see it."""
        request, header = ctx.request, self._header
        if any(name == header for name, _ in request.headers):
            request.headers[:] = [pair for pair in request.headers if pair[0] != header]
        if request.query:
            request.set_query(without_argument(request.query, self._query))
        if ctx.upstream_uri is not None:
            path, mark, query = ctx.upstream_uri.partition(b"?")
            kept = without_argument(query, self._query)
            ctx.upstream_uri = path + mark + kept if kept else path
