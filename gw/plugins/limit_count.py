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

from gw.pipeline.reply import error_reply
from gw.pipeline.variables import compile_template, find_variable
from gw.plugins.api import Context, Environment, Plugin, Reply, plugin_reply
from gw.plugins.counting.clients import Lease, Options
from gw.plugins.counting.delayed import DelayedCounter
from gw.plugins.counting.local import Counter, FixedCounter, SlidingCounter
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict
from gw.plugins.counting.remote import RemoteCounter

# Header names, by the keys of the plugin's metadata.
DEFAULT_HEADERS: Final = {
    "limit_header": "X-RateLimit-Limit",
    "remaining_header": "X-RateLimit-Remaining",
    "reset_header": "X-RateLimit-Reset",
}

# Lua's numbers are exact up to here, and APISIX takes none beyond.
_LARGEST: Final = 2**53 - 1
_WHOLE: Final = re.compile(r"\s*\+?(\d{1,16})(?:\.0*)?\s*", re.ASCII).fullmatch
_NOT_DELAYED: Final = -1
# One line a second for what every request may meet.
_QUIET_S: Final = 1.0

_Number = Callable[[Context], int | None]
_Key = Callable[[Context], str | None]
_Fields = list[tuple[str, str]]

log: Final = logging.getLogger(__name__)


class _Rule(NamedTuple):
    """One limit, settled: each is a callable on the request. `headers`: limit, remaining, reset; None: as metadata."""

    limit: _Number
    window_s: _Number
    key: _Key
    prefix: str
    headers: tuple[str, str, str] | None


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
        self._rules = [_rule(each, f"{number}:", number) for number, each in enumerate(conf.get("rules", ()), 1)]
        if not self._rules:
            self._rules = [_Rule(_number(conf["count"]), _number(conf["time_window"]), _key(conf), "", None)]
        self._shows_quota: bool = conf.get("show_limit_quota_header", True)
        self._degrades: bool = conf.get("allow_degradation", False)
        self._refusal = _refusal(conf.get("rejected_code", 503), conf.get("rejected_msg"))
        self._failure = plugin_reply(500, {"error_msg": "failed to limit count"})
        # A changed configuration begins to count anew, an unrelated change does not.
        self._scope = f"{conf['group']}:" if "group" in conf else f"{self.owner}:{_fingerprint(conf)}:"
        self._quiet_until_s = 0.0
        self._open_counter()

    def _open_counter(self) -> None:
        shared, clock = self.env.shared, self.env.clock
        if shared is None:
            raise RuntimeError("limit-count: there is no shared state to count in")
        is_sliding = self.conf.get("window_type") == "sliding"
        self._counter: Counter = SlidingCounter(shared, clock) if is_sliding else FixedCounter(shared)

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
        for name, value in ctx.state.get(self._state_key, ()):
            ctx.response.set_header(name, value)

    @property
    def _state_key(self) -> tuple[str, str]:
        return self.name, self.owner

    def _asked(self, ctx: Context) -> list[tuple[_Rule, str, Quota]]:
        """What is counted under which key against what. Raises CountingFailed when that is nothing, as APISIX."""
        asked = []
        for rule in self._rules:
            limit, window_s, key = rule.limit(ctx), rule.window_s(ctx), rule.key(ctx)
            if key is None and rule.headers is None:
                key = _remote_addr(ctx)
            if limit is not None and window_s is not None and key is not None:
                asked.append((rule, f"{self._scope}{rule.prefix}{key}", Quota(limit, window_s)))
        if not asked:
            raise CountingFailed("no rule has a count, a time_window and a key for this request")
        return asked

    def _answer(self, rule: _Rule, quota: Quota, verdict: Verdict, fields: _Fields) -> Reply | None:
        """Add the headers of one verdict; the refusal, if it is one."""
        if self._shows_quota:
            names = rule.headers or self._header_names()
            values = (str(quota.limit), str(verdict.remaining), _seconds(verdict.reset_s))
            fields += zip(names, values, strict=True)
        if verdict.is_within:
            return None
        status, body = self._refusal
        return plugin_reply(status, body, dict(fields))

    def _passed(self, ctx: Context, fields: _Fields) -> None:
        if fields:
            ctx.state[self._state_key] = fields

    def _failed(self, why: CountingFailed) -> Reply | None:
        now_s = self.env.clock.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + _QUIET_S
            log.error("limit-count of %s: %s; requests %s", self.owner, why, "pass" if self._degrades else "get a 500")
        return None if self._degrades else self._failure

    def _header_names(self) -> tuple[str, str, str]:
        metadata = self.env.metadata(self.name)
        limit, remaining, reset = (metadata.get(key, default) for key, default in DEFAULT_HEADERS.items())
        return limit, remaining, reset


class _LimitCountElsewhere(LimitCount):
    """Where the count is a round trip away."""

    def _open_counter(self) -> None:
        conf, env = self.conf, self.env
        interval_s, window_s = conf.get("sync_interval", _NOT_DELAYED), conf.get("time_window")
        is_delayed = interval_s != _NOT_DELAYED
        if is_delayed and isinstance(window_s, int) and interval_s > window_s:
            raise ValueError("limit-count: sync_interval should be smaller than time_window")
        lease = Lease(Options.of(conf), env.loop)
        remote = RemoteCounter(lease, env.clock, is_sliding=conf.get("window_type") == "sliding")
        self._remote: RemoteCounter | DelayedCounter = remote
        if is_delayed:
            spawn = env.spawn or env.loop.create_task
            self._remote = DelayedCounter(remote, env.shared, env.clock, spawn, interval_s=interval_s)

    def close(self) -> None:
        self._remote.close(self.env.spawn)

    async def access(self, ctx: Context) -> Reply | None:
        fields: _Fields = []
        try:
            for rule, key, quota in self._asked(ctx):
                if (reply := self._answer(rule, quota, await self._remote.count(key, quota), fields)) is not None:
                    return reply
        except CountingFailed as error:
            return self._failed(error)
        self._passed(ctx, fields)
        return None


def _rule(conf: Mapping[str, Any], prefix: str, number: int) -> _Rule:
    shown = conf.get("header_prefix", number)
    headers = (f"X-{shown}-RateLimit-Limit", f"X-{shown}-RateLimit-Remaining", f"X-{shown}-RateLimit-Reset")
    return _Rule(_number(conf["count"]), _number(conf["time_window"]), _combination(conf["key"]), prefix, headers)


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
    return get or _remote_addr


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


def _refusal(status: int, message: str | None) -> tuple[int, Any]:
    if message is not None:
        return status, {"error_msg": message}
    is_error = status >= 400 and status in HTTPStatus.__members__.values()
    return status, json.loads(error_reply(status).body) if is_error else None


def _fingerprint(conf: Mapping[str, Any]) -> str:
    text = json.dumps(conf, sort_keys=True, separators=(",", ":"), default=str)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _seconds(seconds: float) -> str:
    """Whole hundredths, no more digits than needed: `60`, `59.98`."""
    return f"{math.floor(seconds * 100) / 100:.14g}"


def _remote_addr(ctx: Context) -> str:
    return ctx.request.remote_addr
