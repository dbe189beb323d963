"""How a uri of a route is read.

- `/foo`: exactly that path. `/foo*`: every path that begins so, `/foo` included.
- `/foo/*rest`: the prefix `/foo/`, and `rest` is what follows (may be empty). In all modes, as in APISIX.
- `/user/:name/posts`, in radixtree_uri_with_parameter only: `:name` is one non-empty segment, anything but `/`. Mixed
  with a last segment `*rest`, and `/?` at the end for an optional slash. A bare `*` segment is captured as `:ext`.
- `*` anywhere else is a glob: any characters, slashes and none included.

Only a whole segment is a parameter: the `:` in `/v1/users:batch` is a character. APISIX feeds what follows the first
parameter or star to PCRE, where it also means prefix `/v1/users` there, and where `.`, `+` and `(` of a uri are
operators; here a literal is literal, which is what such a uri's author meant, and no uri can backtrack.
"""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

# APISIX's name for what a bare `*` captures.
BARE_STAR_NAME: Final = ":ext"
OPTIONAL_SLASH: Final = "?"


class Shape(Enum):
    """How a pattern is looked up."""

    EXACT = auto()
    PREFIX = auto()
    SEGMENTS = auto()
    GLOB = auto()


class Pattern(NamedTuple):
    """A uri, taken apart. `rest` is what follows `head`, the literal part up to the first parameter or star."""

    shape: Shape
    head: str
    rest: str
    names: tuple[str, ...] | None  # None: captures nothing


def parse_uri(uri: str, with_parameters: bool) -> Pattern:
    """Read a uri. Never fails: every string means something."""
    cut = _first_special(uri, with_parameters)
    if cut < 0:
        return Pattern(Shape.EXACT, uri, "", None)
    head, rest = uri[:cut], uri[cut:]
    starts_segment = _starts_segment(head)
    if rest == "*":
        # The name is of use to with_parameter alone, and a capture costs each match: others cut the path themselves.
        return Pattern(Shape.PREFIX, head, rest, (BARE_STAR_NAME,) if with_parameters and starts_segment else None)
    if rest.startswith("*") and starts_segment and "/" not in rest and "*" not in rest[1:]:
        return Pattern(Shape.PREFIX, head, rest, (rest[1:],))
    segments = rest.split("/")
    names = tuple(_names_in(segments, with_parameters, starts_segment))
    if rest.startswith(":") and not any("*" in segment for segment in _inner(segments)):
        return Pattern(Shape.SEGMENTS, head, rest, names)
    return Pattern(Shape.GLOB, head, rest, names)


def plain_head(uri: str, with_parameters: bool) -> tuple[str, bool] | None:
    """Head, and whether it is a prefix, of a uri that is exact or ends in its only star; None for any other.

    What `parse_uri` says of these two, for a sixth of the time. Reading any of them later cannot fail.
    """
    if with_parameters and (uri.startswith(":") or "/:" in uri):
        return None
    star = uri.find("*")
    if star < 0:
        return uri, False
    return (uri[:star], True) if star == len(uri) - 1 else None


def compile_glob(pattern: Pattern, with_parameters: bool) -> re.Pattern[str]:
    """A regular expression for the rest of a path behind the head, one group per name.

    Each stretch between two stars is matched at its first occurrence and never tried again (an atomic group): the
    first occurrence leaves most to what follows, so nothing is lost, and the time is linear in the path for each
    stretch.
    """
    stretches, stars = _stretches(pattern, with_parameters)
    text = stretches[0]
    for star, stretch in zip(stars[:-1], stretches[1:-1], strict=True):
        text += f"(?>{star.replace('*', '*?')}{stretch})"
    if stars:
        text += stars[-1] + stretches[-1]
    return re.compile(text + r"\Z", re.DOTALL)


def _stretches(pattern: Pattern, with_parameters: bool) -> tuple[list[str], list[str]]:
    """What stands between the stars of a glob, and the stars, as regular expressions."""
    stretches, stars = [""], []
    segments = pattern.rest.split("/")
    for number, segment in enumerate(segments):
        starts = number > 0 or _starts_segment(pattern.head)
        if number == len(segments) - 1 and number and segment == OPTIONAL_SLASH:
            stretches[-1] += "/?"
            continue
        stretches[-1] += "/" if number else ""
        if starts and with_parameters and segment.startswith(":"):
            stretches[-1] += "([^/]++)"
        elif starts and segment.startswith("*"):
            stars.append("(.*)")
            stretches.append("")
        else:
            first, *others = segment.split("*")
            stretches[-1] += re.escape(first)
            stars.extend(".*" for _ in others)
            stretches.extend(re.escape(other) for other in others)
    return stretches, stars


def _starts_segment(head: str) -> bool:
    return not head or head.endswith("/")


def _first_special(uri: str, with_parameters: bool) -> int:
    star = uri.find("*")
    if not with_parameters:
        return star
    colon = 0 if uri.startswith(":") else uri.find("/:") + 1 or -1
    if star < 0 or colon < 0:
        return max(star, colon)
    return min(star, colon)


def _names_in(segments: list[str], with_parameters: bool, starts_segment: bool) -> list[str]:
    whole = segments if starts_segment else segments[1:]
    names = []
    for segment in whole:
        if segment.startswith("*"):
            names.append(segment[1:] or BARE_STAR_NAME)
        elif with_parameters and segment.startswith(":"):
            names.append(segment[1:])
    return names


def _inner(segments: list[str]) -> list[str]:
    """The segments in which a star makes a glob: all but a last one that is a star with a name."""
    last = segments[-1]
    return segments[:-1] if last.startswith("*") and "*" not in last[1:] else segments
