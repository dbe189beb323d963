"""What of a request chooses its route. APISIX's keys, which stand directly under `apisix`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gw.settings import kinds
from gw.settings.declare import setting

# More than any body that somebody would want to have parsed before it is proxied.
_MAX_MIB: Final = 1024


@dataclass(frozen=True)
class MatchingSettings:
    """Which spelling of a path counts, and how much of a body is read. Not slotted: `apisix` inherits from several."""

    delete_uri_tail_slash: bool = setting(
        kinds.boolean(),
        default=False,
        help="Whether /a/ counts as /a for routes and plugins. The upstream gets the path with its slash.",
    )
    normalize_uri_like_servlet: bool = setting(
        kinds.boolean(),
        default=False,
        help="Whether /a;x=1/b counts as /a/b for routes and plugins, as servlet containers read it. The upstream gets "
        "the path with its parameters.",
    )
    max_post_args_readable_size: int = setting(
        kinds.integer(0, _MAX_MIB),
        default=1,
        unit="MiB",
        help="Largest body that is read where a condition of a route asks for it (post_arg); 0 means any. Above it the "
        "answer is 413. (APISIX: 64; here parsing 64 MiB would hold up all requests of a worker.)",
    )


@dataclass(frozen=True, slots=True)
class GraphqlSettings:
    """GraphQL requests, where routes are chosen by what they ask for."""

    max_size_bytes: int = setting(
        kinds.size(1, _MAX_MIB << 20),
        key="max_size",
        default=1 << 20,
        unit="bytes",
        help="Largest body that is read as GraphQL; above it the answer is 413.",
    )


def body_limits(matching: MatchingSettings, graphql: GraphqlSettings) -> tuple[int, int]:
    """The largest body that is read to choose a route, 0 for any; and the largest one that is parsed as GraphQL."""
    size_bytes = matching.max_post_args_readable_size << 20
    # A body is read once, for whoever asks.
    return size_bytes and max(size_bytes, graphql.max_size_bytes), graphql.max_size_bytes
