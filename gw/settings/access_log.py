"""Settings of the access log, under nginx_config.http: APISIX's names and defaults (apisix/cli/config.lua of 3.x)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gw.settings import kinds
from gw.settings.declare import setting

DEFAULT_FORMAT: Final = (
    '$remote_addr - $remote_user [$time_local] $http_host "$request" $status $body_bytes_sent $request_time '
    '"$http_referer" "$http_user_agent" $upstream_addr $upstream_status $upstream_response_time '
    '"$upstream_scheme://$upstream_host$upstream_uri"'
)


@dataclass(frozen=True)
class AccessLogSettings:
    """What is written of each request, and where. Not slotted, because nginx_config.http inherits from several."""

    enable_access_log: bool = setting(kinds.boolean(), default=True, help="Whether requests are logged.")
    access_log: str = setting(
        kinds.text("a path; a relative one counts from gw.data_dir", r"[^\x00-\x1f]+"),
        default="logs/access.log",
        help="The file, to which all workers append. /dev/stdout and /dev/stderr are the process's own.",
    )
    access_log_format: str = setting(
        # A line end in it would make two records of one request. APISIX's example writes it as a block (`|`).
        kinds.line_of_text("one line of text, with $variables", r"[^\x00-\x1f\x7f]+"),
        default=DEFAULT_FORMAT,
        help="The line of a request: text, $variable or ${variable}. An unknown variable is reported, and logged as "
        "one without a value.",
    )
    access_log_format_escape: str = setting(
        # nginx's third word, none, would let a client write lines of its own.
        kinds.choice("default", "json"),
        default="default",
        help="How values are made harmless: default, nginx's \\xXX; json, for a format that is JSON.",
    )
    access_log_buffer_bytes: int = setting(
        kinds.size(0, 16 << 20),
        key="access_log_buffer",
        default=16384,
        unit="bytes",
        help="How much a worker collects before it writes, at most for 3 seconds; 0 hands each line on at once.",
    )
