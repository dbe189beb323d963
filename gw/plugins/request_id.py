"""request-id: every request has an id, the upstream gets it, the client is told.

A client's own id is kept, so that one id goes through a chain of services. It ends up in logs and answers, and nobody
vouches for it: it is kept only if it is at most 256 visible ASCII characters, and sent once; else one is made.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gw.pipeline.fields import field
from gw.plugins.api import Context, Plugin
from gw.plugins.request_ids import MakeId, from_alphabet, ksuid, nanoid, uuid4

# As long as the longest id that this plugin can be configured to make.
_KEPT: Final = re.compile(rb"[!-~]{1,256}").fullmatch


class RequestId(Plugin):
    """Give each request an id, and show it to the upstream and the client."""

    name = "request-id"
    priority = 12015

    def prepare(self) -> None:
        # PERF: here and below, fields are compared and added as they lie in the lists: ids hold nothing that would have
        # to be refused, and each look by name through the context takes half of what the rest does.
        self._header, _ = field(self.conf["header_name"], "")
        self._make = self._maker()
        # Two instances, of a global rule and of a route, may give a request an id each.
        self._key = (self.name, self._header)
        if not self.conf["include_in_response"]:
            self.header_filter = None  # type: ignore[assignment, method-assign]

    def rewrite(self, ctx: Context) -> None:
        header, headers = self._header, ctx.request.headers
        sent = [value for name, value in headers if name == header]
        if len(sent) == 1 and _KEPT(sent[0]):
            id = sent[0].decode("ascii")
        else:
            id = self._make()
            if sent:
                headers[:] = [pair for pair in headers if pair[0] != header]
            headers.append((header, id.encode("ascii")))
        ctx.request_id = id
        ctx.state[self._key] = id

    def header_filter(self, ctx: Context) -> None:
        id: str | None = ctx.state.get(self._key)
        if id is None:
            return
        header, headers = self._header, ctx.response.headers
        there = [value for name, value in headers if name == header]
        if any(there):
            return
        if there:
            headers[:] = [pair for pair in headers if pair[0] != header]
        headers.append((header, id.encode("ascii")))

    def _maker(self) -> MakeId:
        algorithm: str = self.conf["algorithm"]
        if algorithm == "range_id":
            range_id: dict[str, Any] = self.conf["range_id"]
            return from_alphabet(range_id["char_set"], range_id["length"])
        if algorithm == "ksuid":
            return ksuid(self.env.clock)
        return nanoid() if algorithm == "nanoid" else uuid4()
