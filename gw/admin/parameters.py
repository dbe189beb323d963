"""Query parameters of the Admin API. All of them raise AdminError 400 for a value that means nothing."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

import falcon.asgi

from gw.admin.reply import error_of
from gw.model.operations import NOUNS, List

# APISIX's range.
PAGE_SIZES: Final = range(10, 501)
# The longest lease etcd grants, in seconds (MaxLeaseTTL of its lessor).
MAX_TTL_S: Final = 9_000_000_000
# Ten minutes: the longest jitter that can be set.
MAX_WAIT_MS: Final = 600_000
# More pages of the smallest size than any store has keys; it keeps what is computed with it a small number.
_MAX_PAGE: Final = 2**31
# As long as a number of use can be, so that no effort goes into others.
_NUMBER: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_SIGNED_NUMBER: Final = re.compile(r"-?[0-9]{1,12}", re.ASCII)
# What `filter` may name, by kind, as in APISIX since 3.13.
FILTER_FIELDS: Final = dict.fromkeys(("routes", "stream_routes"), ("service_id", "upstream_id"))


def ttl_s(req: falcon.asgi.Request) -> int | None:
    """`ttl`: seconds after which a store deletes what is written; 0, like absence, is for ever."""
    text = req.get_param("ttl")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) > MAX_TTL_S:
        raise error_of(400, "invalid argument ttl: should be a number")
    return int(text) or None


def wait_ms(req: falcon.asgi.Request) -> int | None:
    """`wait`: the longest that a write waits until every worker serves it; 0 only looks, None does not even that."""
    text = req.get_param("wait")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) > MAX_WAIT_MS:
        raise error_of(400, f"invalid argument wait: should be a number of milliseconds from 0 to {MAX_WAIT_MS}")
    return int(text)


def force(req: falcon.asgi.Request) -> bool:
    """`force=true`: delete also what is in use. Any other value is not that, as in APISIX."""
    return req.get_param("force") == "true"


def listing(req: falcon.asgi.Request, kind: str, parent: str | None = None) -> List:
    """What a list is to show; of credentials those of `parent`.

    One page takes `page` (below 1: the first) and `page_size`; one alone changes nothing.
    """
    page_size = _number(req, "page_size")  # first, as in APISIX: its answer is the one that clients know
    if page_size is not None and page_size not in PAGE_SIZES:
        raise error_of(400, f"page_size must be between {PAGE_SIZES.start} and {PAGE_SIZES.stop - 1}")
    page = _number(req, "page")
    return List(
        kind,
        page=min(max(page or 1, 1), _MAX_PAGE),
        page_size=None if page is None else page_size,
        name=req.get_param("name"),
        uri=req.get_param("uri"),
        label=req.get_param("label"),
        parent=parent,
        **_references(req, kind),
    )


def _references(req: falcon.asgi.Request, kind: str) -> dict[str, str]:
    """`filter`: a query string within the query string, `filter=service_id%3D1`."""
    text = req.get_param("filter")
    if not text:
        return {}
    allowed = FILTER_FIELDS.get(kind, ())
    wanted = dict(parse_qsl(text, keep_blank_values=True))
    unknown = sorted(wanted.keys() - set(allowed))
    if unknown or not wanted:
        known = " and ".join(allowed) or "nothing"
        raise error_of(400, f"invalid argument filter: {NOUNS[kind]}s can be filtered by {known}")
    return wanted


def _number(req: falcon.asgi.Request, name: str) -> int | None:
    text = req.get_param(name)
    if text is None:
        return None
    if not _SIGNED_NUMBER.fullmatch(text):
        raise error_of(400, f"invalid argument {name}: should be a number")
    return int(text)
