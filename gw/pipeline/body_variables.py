"""Variables that are read off the request's body, for those who choose the route: `post_arg_x`, `post_arg.x.y`,
`graphql_name`, `graphql_operation`, `graphql_root_fields` (apisix/core/ctx.lua).

At matching the body has not come yet. So a getter that finds nothing to read raises NeedsWait, which tells what to
await before the question is asked again; a request that meets no such condition waits for nothing and parses nothing.

Bounded: a body beyond apisix.max_post_args_readable_size or graphql.max_size is refused (413), and one that takes too
much to look at, too (400). Neither falls through to a route that asks for less: whoever sends it could choose so.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import parse_qsl

from gw.pipeline.context import Context
from gw.pipeline.json_path import compile_json_path
from gw.pipeline.multipart import parse_multipart
from gw.pipeline.path import UnsafeRequest
from gw.pipeline.request_body import BodyTooLarge

Getter: TypeAlias = Callable[[Context], Any]

# More than any form has; as many take 10 ms to parse.
_MOST_FIELDS: Final = 10_000
# Of a whole number; int() of very many takes long, and Python declines.
_MOST_DIGITS: Final = 18
# 50 ms in a thread beside the loop.
_MOST_GRAPHQL_TOKENS: Final = 5_000

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_MULTIPART: Final = "multipart/form-data"
_UNPARSED: Final = object()


class NeedsWait(BaseException):  # not an Exception: it must pass through a filter_func that catches those
    """What a variable reads is not there yet: await `prepare`, then ask again."""

    def __init__(self, prepare: Callable[[Context], Awaitable[None]]) -> None:
        super().__init__("a variable of the body was asked for before the body came")
        self.prepare = prepare


class GraphQL(NamedTuple):
    """The first operation of a document. `name`: "" for none."""

    name: str | None
    operation: str | None
    root_fields: tuple[str, ...] | None


_NO_GRAPHQL: Final = GraphQL(None, None, None)
# A document that was not read to its end. Equal to the one above, and told from it by identity.
_UNREAD_GRAPHQL: Final = GraphQL(None, None, None)
# How graphql-core ends what it says of a document over a limit, or nested too deep.
_ABORTED: Final = "Parsing aborted."


class _Read:
    """What is known of one request's body."""

    __slots__ = ("body", "form", "graphql", "json")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.form: Mapping[str, str] | None = None
        self.json: Any = _UNPARSED
        self.graphql: GraphQL | None = None


def find_body_variable(name: str) -> Getter | None:
    """What reads a variable of the body; None for other names."""
    if name.startswith("post_arg_") and len(name) > len("post_arg_"):
        return _form_argument(name.removeprefix("post_arg_"))
    if name.startswith("post_arg."):
        return _argument_at(name.removeprefix("post_arg."))
    return _GRAPHQL.get(name)


async def read_body(ctx: Context) -> None:
    """Await the body. Raises BodyTooLarge."""
    ctx.state[_Read] = _Read(await ctx.read_body(ctx.max_body_to_match_bytes or sys.maxsize))


def forget_body(ctx: Context) -> None:
    """Let go of what was read, once the route is chosen or the request leaves: a response may go on for hours."""
    if ctx._state:
        ctx._state.pop(_Read, None)


async def read_graphql(ctx: Context) -> None:
    """Parse what the request asks for, in a thread: the library takes 0.3 s to import, and 9 us a token.

    Raises BodyTooLarge.
    """
    read = _read(ctx)
    if len(read.body) > ctx.max_graphql_bytes:
        raise BodyTooLarge
    try:
        text = _graphql_text(ctx, read)
    except UnsafeRequest:  # said when the question is asked again, where its answer is known
        read.graphql = _UNREAD_GRAPHQL
        return
    read.graphql = await asyncio.get_running_loop().run_in_executor(None, _parse_graphql, text) if text else _NO_GRAPHQL


def _read(ctx: Context) -> _Read:
    """Raises NeedsWait while the body has not come."""
    read: _Read | None = ctx.state.get(_Read)
    if read is None:
        if ctx.request.has_body:
            raise NeedsWait(read_body)
        read = ctx.state[_Read] = _Read(b"")
    return read


def _form_argument(name: str) -> Getter:
    def get(ctx: Context) -> str | None:
        return _form(_read(ctx)).get(name) if _content_type(ctx).startswith(_FORM) else None

    return get


def _argument_at(path: str) -> Getter | None:
    follow = compile_json_path(path)
    if follow is None:
        return None

    def get(ctx: Context) -> Any:
        content_type = _content_type(ctx)
        if _JSON in content_type:
            return follow(_json(_read(ctx)))
        if _FORM in content_type:
            return follow(_form(_read(ctx)))
        return follow(_parts(ctx, _read(ctx))) if _MULTIPART in content_type else None

    return get


def _content_type(ctx: Context) -> str:
    return (ctx.request.header("content-type") or "").lower()


def _form(read: _Read) -> Mapping[str, str]:
    """The first value of each field. Raises UnsafeRequest for more fields than any form has: none must go unseen."""
    if read.form is None:
        if read.body.count(b"&") >= _MOST_FIELDS:
            raise UnsafeRequest(f"a form of more than {_MOST_FIELDS} fields")
        fields = parse_qsl(read.body.decode("utf-8", "surrogateescape"), keep_blank_values=True, errors="replace")
        read.form = dict(reversed(fields))
    return read.form


def _parts(ctx: Context, read: _Read) -> Mapping[str, str]:
    """The same of a multipart body."""
    if read.form is None:
        read.form = parse_multipart(read.body, ctx.request.header("content-type") or "", _MOST_FIELDS)
        if read.form is None:
            raise UnsafeRequest(f"a form of more than {_MOST_FIELDS} fields, or of very long heads")
    return read.form


def _json(read: _Read) -> Any:
    """The parsed body, None for what is no JSON. Raises UnsafeRequest for one that is nested too deep.

    As lenient as cjson: bytes that are no UTF-8, and numbers of any length, hide nothing of what stands beside them.
    """
    if read.json is _UNPARSED:
        try:
            read.json = _DECODER.decode(read.body.decode("utf-8-sig", "surrogateescape"))
        except RecursionError:
            raise UnsafeRequest("a JSON body that is nested too deep") from None
        except ValueError:
            read.json = None
    return read.json


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_DECODER: Final = json.JSONDecoder(parse_int=_number)


def _graphql(ctx: Context) -> GraphQL:
    if ctx.request.method not in ("GET", "POST"):
        return _NO_GRAPHQL
    read = _read(ctx)
    if read.graphql is None:
        raise NeedsWait(read_graphql)
    if read.graphql is _UNREAD_GRAPHQL:
        raise UnsafeRequest(f"a GraphQL document of more than {_MOST_GRAPHQL_TOKENS} tokens, or nested too deep")
    return read.graphql


def _graphql_text(ctx: Context, read: _Read) -> str | None:
    """The document: of the query (`?query=`), of a JSON body's `query`, or the body as it is."""
    if ctx.request.method == "GET":
        return ctx.request.args.get("query", [None])[0] if ctx.request.query else None
    if _JSON not in _content_type(ctx):
        return read.body.decode("utf-8", "replace")
    value = _json(read)
    query = value.get("query") if isinstance(value, dict) else None
    return query if isinstance(query, str) else None


def _parse_graphql(text: str) -> GraphQL:
    """The first definition of a document; no value for what is none. Raises nothing: it runs in a thread."""
    from graphql.error import GraphQLError  # 0.3 s and 13 MB, for those who ask
    from graphql.language import parse

    try:
        first: Any = parse(text, no_location=True, max_tokens=_MOST_GRAPHQL_TOKENS).definitions[0]
    except RecursionError:
        return _UNREAD_GRAPHQL
    except GraphQLError as error:
        return _UNREAD_GRAPHQL if error.message.endswith(_ABORTED) else _NO_GRAPHQL
    selected = getattr(first, "selection_set", None)
    if selected is None:
        return _NO_GRAPHQL
    names = (getattr(field, "name", None) for field in selected.selections)
    operation = getattr(first, "operation", None)
    return GraphQL(
        name=first.name.value if first.name else "",
        operation=None if operation is None else operation.value,
        root_fields=tuple(name.value for name in names if name is not None),
    )


_GRAPHQL: Final[dict[str, Getter]] = {
    "graphql_name": lambda ctx: _graphql(ctx).name,
    "graphql_operation": lambda ctx: _graphql(ctx).operation,
    "graphql_root_fields": lambda ctx: _graphql(ctx).root_fields,
}
