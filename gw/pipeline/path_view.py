"""What of a canonical path routes and plugins see, where the configuration wants less of it than the upstream gets.

Source: http_access_phase and normalize_uri_like_servlet in apisix/init.lua. The two settings open a gap between what
is matched and what leaves, for upstreams that close it the same way: a servlet container cuts parameters before it
looks for a handler. What such a container and this gateway could still read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from gw.pipeline.path import BadTarget

# Canonical text -> the text that counts. Raises BadTarget.
PathView: TypeAlias = Callable[[str], str]

# Dot segments to a container that decodes once more; the plain ones are refused in any path (gw.pipeline.path).
_IS_DOTS: Final = re.compile(r"(?:\.|%252e){1,2}", re.IGNORECASE).fullmatch


def compile_path_view(*, without_final_slash: bool, like_servlet: bool) -> PathView | None:
    """How to look at paths; None where the canonical path is what counts."""
    if like_servlet:
        return (lambda path: _without_slash(_without_parameters(path))) if without_final_slash else _without_parameters
    return _without_slash if without_final_slash else None


def _without_slash(path: str) -> str:
    """`/` stays: no route could be made for an empty path."""
    return path[:-1] if path.endswith("/") and path != "/" else path


def _without_parameters(path: str) -> str:
    if ";" not in path:
        return path
    segments = path.split("/")
    last = len(segments) - 1
    for number, segment in enumerate(segments):
        name, semicolon, _ = segment.partition(";")
        if semicolon:
            if not name and number != last:
                raise BadTarget("a segment of parameters alone")
            if _IS_DOTS(name):
                raise BadTarget("an encoded dot segment with a parameter")
            segments[number] = name
    return "/".join(segments)
