"""limit-count: so many requests in so many seconds, counted by a key. See docs/plugins/limit-count.md."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, ClassVar, Final, NamedTuple

from gw.pipeline.fields import field
from gw.pipeline.reply import error_reply
from gw.pipeline.variables import compile_template, find_variable
from gw.plugins.api import Context, Environment, Plugin, Reply, plugin_reply
from gw.plugins.counting.clients import Lease, Options
from gw.plugins.counting.delayed import DelayedCounter
from gw.plugins.counting.local import Counter, FixedCounter, SlidingCounter
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict
from gw.plugins.counting.remote import RemoteCounter
from gw.schema.plugin_rules import NOT_DELAYED, SHORTEST_SYNC_S

# Header names, by the keys of the plugin's metadata.
DEFAULT_HEADERS: Final = {
    "limit_header": "X-RateLimit-Limit",
    "remaining_header": "X-RateLimit-Remaining",
    "reset_header": "X-RateLimit-Reset",
}

# Lua's numbers are exact up to here, and APISIX takes none beyond.
_LARGEST: Final = 2**53 - 1
_WHOLE: Final = re.compile(r"\s*\+?(\d{1,16})(?:\.0*)?\s*", re.ASCII).fullmatch
# Of a header's name: what a rule's own prefix stands before.
_PREFIXED: Final = "RateLimit-"
# One line a second for what every request may meet.
_QUIET_S: Final = 1.0

_Number = Callable[[Context], int | None]
_Key = Callable[[Context], str | None]
_Fields = list[tuple[bytes, bytes]]

log: Final = logging.getLogger(__name__)


class _Names(NamedTuple):
    """Header names as they are held: lower-case bytes."""

    limit: bytes
    remaining: bytes
    reset: bytes


class _Rule(NamedTuple):
    """One limit, settled. `quota`: None where it comes from the request. `place`: which of the configuration's it is.

    `shown`: what stands before RateLimit- in its headers; None for one that is not of `rules`.
    """

    quota: Quota | None
    limit: _Number
    window_s: _Number
    key: _Key
    prefix: str
    place: int
    shown: str | None


class LimitCount(Plugin):
    """Refuse requests beyond a number in a time window, counted on this host or in Redis."""

    name: ClassVar[str] = "limit-count"
    priority: ClassVar[int] = 1002

    def __new__(cls, conf: Mapping[str, Any], env: Environment, owner: str) -> LimitCount:
        """Counting on this host needs no task switch, so only what counts elsewhere gets an async `access`."""
        is_local = conf.get("policy", "local") == "local"
        return super().__new__(cls if is_local else _LimitCountElsewhere)

    def prepare(self) -> None:
        conf = self.conf
        self._rules = [_rule_of_many(each, place) for place, each in enumerate(conf.get("rules", ()))]
        if not self._rules:
            self._rules = [_Rule(*_limits(conf), _key(conf), "", 0, None)]
        self._shows_quota: bool = conf.get("show_limit_quota_header", True)
        self._degrades: bool = conf.get("allow_degradation", False)
        self._refusal = _refusal(conf.get("rejected_code", 503), conf.get("rejected_msg"))
        self._failure = plugin_reply(500, {"error_msg": "failed to limit count"})
        # A changed configuration begins to count anew, an unrelated change does not.
        self._scope = f"{conf['group']}:" if "group" in conf else f"{self.owner}:{_fingerprint(conf)}:"
        self._state_key = (self.name, self.owner)
        self._metadata: Mapping[str, Any] = {}
        self._names = self._named({})
        self._quiet_until_s = 0.0
        self._open_counter()

    def _open_counter(self) -> None:
        shared, clock = self._shared(), self.env.clock
        is_sliding = self.conf.get("window_type") == "sliding"
        self._counter: Counter = SlidingCounter(shared, clock) if is_sliding else FixedCounter(shared)

    def _shared(self) -> Any:
        if self.env.shared is None:
            raise RuntimeError("limit-count: there is no shared state to count in")
        return self.env.shared

    def access(self, ctx: Context) -> Any:
        fields: _Fields = []
        try:
            for rule, key, quota in self._asked(ctx):
                if (reply := self._answer(rule, quota, self._counter.count(key, quota), fields)) is not None:
                    return reply
        except CountingFailed as error:
            return self._failed(error)
        self._passed(ctx, fields)
        return None

    def header_filter(self, ctx: Context) -> None:
        if fields := ctx.state.get(self._state_key):
            # PERF: one pass for all of them, where set_header takes one for each and looks at names settled long ago.
            names = {name for name, _ in fields}
            headers = ctx.response.headers
            headers[:] = [pair for pair in headers if pair[0] not in names]
            headers += fields

    def _asked(self, ctx: Context) -> list[tuple[_Rule, str, Quota]]:
        """What is counted under which key against what. Raises CountingFailed when that is nothing, as APISIX."""
        asked = []
        for rule in self._rules:
            if (key := rule.key(ctx)) is None:
                if rule.shown is not None:
                    continue
                key = ctx.request.remote_addr
            # A rule that applies is never skipped: a client could choose a number that is none.
            if (quota := rule.quota or _resolved(rule, ctx)) is None:
                raise CountingFailed("a count or time_window comes to no whole number above 0")
            asked.append((rule, f"{self._scope}{rule.prefix}{key}", quota))
        if not asked:
            raise CountingFailed("no rule has a key for this request")
        return asked

    def _answer(self, rule: _Rule, quota: Quota, verdict: Verdict, fields: _Fields) -> Reply | None:
        """Add the headers of one verdict; the refusal, if it is one."""
        if self._shows_quota:
            names = self._names_of_metadata()[rule.place]
            fields.append((names.limit, b"%d" % quota.limit))
            fields.append((names.remaining, b"%d" % verdict.remaining))
            fields.append((names.reset, _seconds(verdict.reset_s)))
        if verdict.is_within:
            return None
        return self._refusal._replace(headers=(*fields, *self._refusal.headers))

    def _passed(self, ctx: Context, fields: _Fields) -> None:
        if fields:
            ctx.state[self._state_key] = fields

    def _named(self, metadata: Mapping[str, Any]) -> list[_Names]:
        """The names for each rule. Raises ValueError for what is no header name."""
        names = [metadata.get(key, default) for key, default in DEFAULT_HEADERS.items()]
        return [_names(*(_prefixed(name, rule.shown) for name in names)) for rule in self._rules]

    def _names_of_metadata(self) -> list[_Names]:
        """Settled when the metadata is another. Names that are none are logged, and those before stay."""
        metadata = self.env.metadata(self.name)
        if metadata is not self._metadata:
            if metadata != self._metadata:
                try:
                    self._names = self._named(metadata)
                except ValueError as error:
                    log.error("plugin_metadata/limit-count is not taken up: %s", error)
            self._metadata = metadata
        return self._names

    def _failed(self, why: CountingFailed) -> Reply | None:
        now_s = self.env.clock.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + _QUIET_S
            log.error("limit-count of %s: %s; requests %s", self.owner, why, "pass" if self._degrades else "get a 500")
        return None if self._degrades else self._failure


class _LimitCountElsewhere(LimitCount):
    """Where the count is a round trip away."""

    def _open_counter(self) -> None:
        conf, env = self.conf, self.env
        interval_s, window_s = conf.get("sync_interval", NOT_DELAYED), conf.get("time_window")
        is_delayed = interval_s != NOT_DELAYED
        if is_delayed and interval_s < SHORTEST_SYNC_S:
            raise ValueError(f"limit-count: sync_interval should not be smaller than {SHORTEST_SYNC_S}")
        if is_delayed and isinstance(window_s, int) and interval_s >= window_s:
            raise ValueError("limit-count: sync_interval should be smaller than time_window")
        lease = Lease(Options.of(conf), env.loop)
        remote = RemoteCounter(lease, env.clock, is_sliding=conf.get("window_type") == "sliding")
        self._remote: RemoteCounter | DelayedCounter = remote
        self._direct = remote
        # Of windows that a request names; one that ends before it is told would be no limit.
        self._longest_direct_s = interval_s if is_delayed else 0
        if is_delayed:
            spawn = env.spawn or env.loop.create_task
            self._remote = DelayedCounter(remote, self._shared(), env.clock, spawn, interval_s=interval_s)

    async def _count(self, key: str, quota: Quota) -> Verdict:
        counter = self._direct if quota.window_s <= self._longest_direct_s else self._remote
        return await counter.count(key, quota)

    def close(self) -> None:
        self._remote.close(self.env.spawn)

    async def access(self, ctx: Context) -> Reply | None:
        fields: _Fields = []
        try:
            for rule, key, quota in self._asked(ctx):
                if (reply := self._answer(rule, quota, await self._count(key, quota), fields)) is not None:
                    return reply
        except CountingFailed as error:
            return self._failed(error)
        self._passed(ctx, fields)
        return None


def _limits(conf: Mapping[str, Any]) -> tuple[Quota | None, _Number, _Number]:
    count, window_s = conf["count"], conf["time_window"]
    quota = Quota(count, window_s) if isinstance(count, int) and isinstance(window_s, int) else None
    return quota, _number(count), _number(window_s)


def _rule_of_many(conf: Mapping[str, Any], place: int) -> _Rule:
    number = place + 1
    shown = conf.get("header_prefix", str(number))
    return _Rule(*_limits(conf), _combination(conf["key"]), f"{number}:", place, shown)


def _prefixed(name: str, shown: str | None) -> str:
    """`X-RateLimit-Limit` -> `X-bob-RateLimit-Limit`; a name without RateLimit- stays, as in APISIX."""
    return name if shown is None else name.replace(_PREFIXED, f"{shown}-{_PREFIXED}", 1)


def _names(limit: str, remaining: str, reset: str) -> _Names:
    """Raises ValueError for what is no header name."""
    return _Names(*(field(name, "")[0] for name in (limit, remaining, reset)))


def _resolved(rule: _Rule, ctx: Context) -> Quota | None:
    """The quota of this request, None when it names none."""
    limit, window_s = rule.limit(ctx), rule.window_s(ctx)
    return Quota(limit, window_s) if limit is not None and window_s is not None else None


def _key(conf: Mapping[str, Any]) -> _Key:
    """What tells clients apart, by key_type. None from it: the client's address stands in."""
    key, key_type = conf.get("key", "remote_addr"), conf.get("key_type", "var")
    if key_type == "constant":
        return lambda _: key
    if key_type == "var_combination":
        return _combination(key)
    get = find_variable(key)
    if get is None:
        log.warning("limit-count: there is no variable %r; the client's address is taken instead", key)
    return get or (lambda _: None)


def _combination(text: str) -> _Key:
    """The text with its variables, None when none of them has a value."""
    template = compile_template(text)

    def key(ctx: Context) -> str | None:
        resolved, found = template.resolve(ctx)
        return resolved if found else None

    return key


def _number(value: int | str) -> _Number:
    """A count or a window: a number, or a text that becomes one; None when it does not (apisix#13573)."""
    if isinstance(value, int):
        return lambda _: value
    template = compile_template(value)

    def number(ctx: Context) -> int | None:
        match = _WHOLE(template(ctx))
        found = int(match[1]) if match else 0
        return found if 0 < found <= _LARGEST else None

    return number


def _refusal(status: int, message: str | None) -> Reply:
    if message is not None:
        return plugin_reply(status, {"error_msg": message})
    is_known_error = status >= 400 and status in HTTPStatus.__members__.values()
    return error_reply(status) if is_known_error else plugin_reply(status)


def _fingerprint(conf: Mapping[str, Any]) -> str:
    text = json.dumps(conf, sort_keys=True, separators=(",", ":"), default=str)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _seconds(seconds: float) -> bytes:
    """Whole hundredths, no more digits than needed: `60`, `59.98`."""
    return b"%.14g" % (math.floor(seconds * 100) / 100)
