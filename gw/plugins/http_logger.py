"""http-logger: send logs in batches to an HTTP server. See docs/plugins/http-logger.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from gw.errors import JitterwayError
from gw.pipeline.fields import field
from gw.plugins.shared.batch_logger import BatchLogger
from gw.plugins.shared.batches import MAX_SENDING
from gw.upstream.fetch import Fetcher, parse_url
from gw.upstream.target import KeepAlive

# As many as send at once, for longer than the usual pause between two batches.
_KEPT: Final = KeepAlive(max_idle=MAX_SENDING, idle_timeout_s=60.0, max_requests=1000)


class Refused(JitterwayError):
    """The server did not take a batch. Its words are not repeated: they may hold what was sent."""


class HttpLogger(BatchLogger):
    """Send logs in batches to an HTTP server."""

    name: ClassVar[str] = "http-logger"
    priority: ClassVar[int] = 410

    def open_sink(self) -> HttpSink:
        """Raises ValueError for a URI or an auth_header that cannot be sent."""
        if self.env.fetcher is None:
            raise RuntimeError("http-logger: there is no client to send logs with")
        return HttpSink(self.env.fetcher, self.conf)


class HttpSink:
    """The server. A batch is one JSON array, or lines; a batch of one entry by configuration is that entry."""

    def __init__(self, fetcher: Fetcher, conf: Mapping[str, Any]) -> None:
        where = parse_url(conf["uri"])
        self._shown = f"{where.host}:{where.port}"
        self._fetcher = fetcher
        self._uri: str = conf["uri"]
        self._timeout_s: int = conf.get("timeout", 3)
        self._verify: bool = conf.get("ssl_verify", False)
        self._is_lines = conf.get("concat_method", "json") == "new_line"
        self._is_single = conf.get("batch_max_size", 1000) == 1
        self._headers = [field("content-type", "application/json")]
        if conf.get("auth_header"):
            try:
                self._headers.append(field("authorization", conf["auth_header"]))
            except ValueError:
                raise ValueError("http-logger: auth_header holds a line end or NUL") from None

    def __str__(self) -> str:
        return self._shown

    async def send(self, entries: Sequence[bytes]) -> None:
        """Raises UpstreamError, or Refused for a status of 400 and above."""
        answer = await self._fetcher.fetch(
            "POST",
            self._uri,
            timeout_s=self._timeout_s,
            headers=self._headers,
            body=self._joined(entries),
            ssl_verify=self._verify,
            keepalive=_KEPT,
            # A kept connection that ended before any answer: entries that come twice are better than none.
            is_repeatable=True,
        )
        if answer.status >= 400:
            raise Refused(f"it answers {answer.status}")

    def _joined(self, entries: Sequence[bytes]) -> bytes:
        if self._is_single:
            return entries[0]
        return b"\n".join(entries) if self._is_lines else b"[%b]" % b",".join(entries)
