"""What plugins that send logs somewhere have in common: entries, bodies in them, and batches on their way.

A logger says in `open_sink` where its batches go; nothing else of it is its own. It holds no request: bodies are kept
as they pass, an entry is made when the response is over, and batches leave in tasks of the worker.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from gw.pipeline.conditions import compile_condition
from gw.pipeline.fields import get_field
from gw.pipeline.request_body import KeptBody
from gw.pipeline.variable_table import RESPONSE_BODY
from gw.plugins.api import Context, Environment, Plugin
from gw.plugins.rewriting.encodings import decoded_beginning
from gw.plugins.shared.batches import MAX_PENDING_ENTRIES, Batches, BatchSettings, Room, Sink
from gw.plugins.shared.log_entry import Entry, compile_format, extended, full_entry, text_of

# APISIX's default for bodies in logs, where the schema gives none.
_MAX_BODY_BYTES: Final = 512 << 10

# An entry is made of new objects: none holds itself.
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_Condition = Callable[[Context], bool]


class BatchLogger(Plugin):
    """Base of plugins that send logs. Attributes are those of APISIX's loggers and of its batch processor."""

    only_reads_body: ClassVar[bool] = True

    def open_sink(self) -> Sink:
        """Where batches go. It must not refer to the plugin. What it raises makes routes answer 500."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Raises ValueError for an expression that cannot be understood."""
        if self.env.spawn is None:
            raise RuntimeError(f"{self.name}: there is nobody to own the tasks that send")
        conf = self.conf
        self._max_req_body_bytes: int = conf.get("max_req_body_bytes", _MAX_BODY_BYTES)
        self._max_resp_body_bytes: int = conf.get("max_resp_body_bytes", _MAX_BODY_BYTES)
        self._logs_request_body: bool = conf.get("include_req_body", False)
        self._if_request_body = _condition(conf, "include_req_body_expr")
        self._if_response_body = _condition(conf, "include_resp_body_expr")
        log_format = conf.get("log_format")
        self._own_entry: Entry | None = compile_format(log_format, self.owner) if log_format else None
        self._told: Mapping[str, Any] = {}
        self._entry: Entry = self._own_entry or self._entry_of(self._told)
        if not self._logs_request_body and "$request_body" not in str(log_format or ""):
            self.access = None  # type: ignore[assignment, method-assign]
        if not conf.get("include_resp_body", False):
            self.body_filter = None  # type: ignore[assignment, method-assign]
        self._batches = Batches(
            f"{conf.get('name', self.name)} of {self.owner}",
            _batch_settings(conf),
            self.open_sink(),
            self.env,
            self.env.state.setdefault((BatchLogger, self.name), Room()),
            _max_pending(self.env, self.name, conf),
        )

    def access(self, ctx: Context) -> None:
        ctx.keep_body(self._max_req_body_bytes)

    def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        kept: KeptBody | None = ctx.state.get(self)
        if kept is None:
            # Where it is not wanted, nothing of it is: the condition is asked once.
            holds = self._if_response_body is None or self._if_response_body(ctx)
            kept = ctx.state[self] = KeptBody(self._max_resp_body_bytes if holds else 0)
            if holds:
                ctx.state[RESPONSE_BODY] = kept
        kept.add(piece)
        return piece

    def log(self, ctx: Context) -> None:
        self._batches.add(self.encode(self.entry(ctx)))

    def entry(self, ctx: Context) -> dict[str, Any]:
        """What is logged of a request whose response is over."""
        made = self._settled_entry()(ctx)
        if not self._has_format:
            self._add_bodies(made, ctx)
        return made

    def encode(self, entry: Mapping[str, Any]) -> bytes:
        """An entry as it waits and leaves."""
        return _encode(entry).encode()

    def close(self) -> None:
        self._batches.close()

    def _settled_entry(self) -> Entry:
        """By the configuration's own format, or what the metadata says now."""
        if self._own_entry is None:
            told = self.env.metadata(self.name)
            if told is not self._told and told != self._told:
                self._told, self._entry = told, self._entry_of(told)
        return self._entry

    @property
    def _has_format(self) -> bool:
        return self._own_entry is not None or bool(self._told.get("log_format"))

    def _entry_of(self, told: Mapping[str, Any]) -> Entry:
        if told.get("log_format"):
            return compile_format(told["log_format"], f"plugin_metadata/{self.name}")
        more = self.conf.get("log_format_extra") or told.get("log_format_extra")
        return extended(full_entry, more, self.owner) if more else full_entry

    def _add_bodies(self, entry: dict[str, Any], ctx: Context) -> None:
        wanted = self._logs_request_body and (self._if_request_body is None or self._if_request_body(ctx))
        if wanted and (body := ctx.kept_body):
            entry["request"]["body"] = text_of(body)
        if body := bytes(ctx.state.get(self, b"")):
            entry["response"]["body"] = text_of(self._decoded(ctx, body))

    def _decoded(self, ctx: Context, body: bytes) -> bytes:
        """A response's body for people to read, as APISIX's loggers have it (collect_body in log-util.lua)."""
        encoding = get_field(ctx.response_headers, "content-encoding")
        return body if encoding is None else decoded_beginning(encoding, body, self._max_resp_body_bytes)


def _condition(conf: Mapping[str, Any], key: str) -> _Condition | None:
    """None: there is none, so it holds."""
    return compile_condition(conf[key]) if key in conf else None


def _batch_settings(conf: Mapping[str, Any]) -> BatchSettings:
    return BatchSettings(
        max_entries=conf.get("batch_max_size", 1000),
        inactive_s=conf.get("inactive_timeout", 5),
        oldest_s=conf.get("buffer_duration", 60),
        retries=conf.get("max_retry_count", 0),
        retry_delay_s=conf.get("retry_delay", 1),
    )


def _max_pending(env: Environment, name: str, conf: Mapping[str, Any]) -> Callable[[], int]:
    """The configuration's own number, or the metadata's, which may change."""
    own: int | None = conf.get("max_pending_entries")
    if own is not None:
        return lambda: own
    return lambda: env.metadata(name).get("max_pending_entries", MAX_PENDING_ENTRIES)
