"""What our own plugins ask of a configuration and no schema can say, in the words of APISIX's `check_schema` of each.

Two questions, by the plugin's name. `own_words`: how APISIX words what does not fit the schema, where it says more than
its jsonschema does. `rule_complaint`: what is wrong with a configuration that fits; the Admin API asks it. What a store
has all the same is published, and its route answers 500 with the same reason in the log: the plugin's `prepare` finds
it, too.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from gw.expr import ExpressionError
from gw.expr.pattern import compile_pattern
from gw.expr.replacement import parse_replacement
from gw.schema.explain import Complaint
from gw.schema.expressions import expression_complaint
from gw.schema.wording import bare, quote

# Of limit-count's `sync_interval`, as its redis_schema has it: a shorter one would ask Redis more often than every
# request does.
SHORTEST_SYNC_S: Final = 0.1
NOT_DELAYED: Final = -1

_Conf: TypeAlias = Mapping[str, Any]
_Rule: TypeAlias = Callable[[_Conf], Iterator[Complaint]]


def rule_complaint(name: str, conf: _Conf) -> Complaint | None:
    """What is wrong with a configuration that fits its schema, None when nothing is."""
    return next(_RULES[name](conf), None) if name in _RULES else None


def own_words(name: str, conf: _Conf) -> str | None:
    """How APISIX says what is wrong with a configuration that does not fit; None where its jsonschema says it."""
    return _WORDS[name](conf) if name in _WORDS else None


def _proxy_rewrite(conf: _Conf) -> Iterator[Complaint]:
    written = conf.get("regex_uri", ())
    if len(written) % 2:
        yield Complaint(("regex_uri",), "The length of regex_uri should be an even number")
    for number in range(0, len(written) - 1, 2):
        pattern, replacement = written[number], written[number + 1]
        if fault := _substitution_fault(pattern, replacement):
            reason = f"invalid regex_uri({bare(pattern)}, {bare(replacement)}): {fault}"
            yield Complaint(("regex_uri", number), reason)


def _response_rewrite(conf: _Conf) -> Iterator[Complaint]:
    if conf["body_base64"] and not _is_base64(conf.get("body", "")):
        yield Complaint(("body",), "invalid base64 content")
    yield from _expression(conf, "vars")
    for number, written in enumerate(conf.get("filters", ())):
        if fault := _substitution_fault(written["regex"], written["replace"], written["options"]):
            reason = f"regex {quote(written['regex'])} validation failed: {fault}"
            yield Complaint(("filters", number), reason)


def _limit_count(conf: _Conf) -> Iterator[Complaint]:
    interval_s, window_s = conf["sync_interval"], conf.get("time_window")
    if conf["policy"] == "local" or interval_s == NOT_DELAYED:
        return
    if interval_s < SHORTEST_SYNC_S:
        yield Complaint(("sync_interval",), f"sync_interval should not be smaller than {SHORTEST_SYNC_S}")
    if isinstance(window_s, int) and interval_s >= window_s:
        yield Complaint(("sync_interval",), "sync_interval should be smaller than time_window")


def _http_logger(conf: _Conf) -> Iterator[Complaint]:
    yield from _expression(conf, "include_req_body_expr")
    yield from _expression(conf, "include_resp_body_expr")


def _expression(conf: _Conf, field: str) -> Iterator[Complaint]:
    if field in conf and (complaint := expression_complaint((field,), conf[field], field)):
        yield complaint


def _substitution_fault(pattern: str, replacement: str, options: str = "jo") -> str | None:
    try:
        parse_replacement(replacement, compile_pattern(pattern, options).groups)
    except ExpressionError as error:
        return error.reason
    return None


def _is_base64(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True) != b""
    except (ValueError, binascii.Error):
        return False


def _words_of_limit_count(conf: _Conf) -> str | None:
    if "rules" in conf and ("count" in conf or "time_window" in conf):
        return "count/time_window and rules cannot be specified at the same time"
    if "rules" in conf and "group" in conf:
        return "group and rules cannot be specified at the same time"
    return None


def _words_of_proxy_rewrite(conf: _Conf) -> str | None:
    """Of headers in the old form; the object of the new one has its own schema."""
    fields = _fields_of_old_form(conf)
    if not all(_is_value(value) for _, value in fields):
        return None
    for name, value in fields:
        if not name:
            return "invalid field length in header"
        if not all("!" <= character <= "~" and character != ":" for character in name):
            return "invalid field character in header"
        if isinstance(value, str) and any(character < " " or character == "\x7f" for character in value):
            return "invalid value character in header"
    return None


def _words_of_response_rewrite(conf: _Conf) -> str | None:
    for name, value in _fields_of_old_form(conf):
        if not _is_value(value):
            return "invalid type as header value"
        if not name:
            return "invalid field length in header"
    return None


def _fields_of_old_form(conf: _Conf) -> list[tuple[str, Any]]:
    headers = conf.get("headers")
    if not isinstance(headers, dict):
        return []
    is_new = any(isinstance(headers.get(action), (dict, list)) for action in ("add", "set", "remove"))
    return [] if is_new else list(headers.items())


def _is_value(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


_RULES: Final[Mapping[str, _Rule]] = {
    "proxy-rewrite": _proxy_rewrite,
    "response-rewrite": _response_rewrite,
    "limit-count": _limit_count,
    "http-logger": _http_logger,
}
_WORDS: Final[Mapping[str, Callable[[_Conf], str | None]]] = {
    "limit-count": _words_of_limit_count,
    "proxy-rewrite": _words_of_proxy_rewrite,
    "response-rewrite": _words_of_response_rewrite,
}
