"""The certificate that an upstream's nodes are shown where the upstream names an SSL: `tls.client_cert_id`.

Source: http_access_phase in apisix/init.lua (3.x), with its texts: an SSL that is not there or of another type is 502.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gw.model.digest import fingerprint
from gw.model.merge import Missing
from gw.model.references import reference
from gw.model.secret_references import UnresolvedReference, resolve_text
from gw.model.upstream import Upstream
from gw.rebuild.entry import Entry

# (kind, id) -> the entry, which the route then depends on.
FindParent = Callable[[str, str], Entry | None]


def with_client_certificate(upstream: Upstream, find: FindParent) -> Upstream | Missing:
    """The upstream with certificate and key where it had their id: another upstream whenever these are others.

    Raises SegmentError.
    """
    tls = upstream.tls or {}
    id = reference(tls, "client_cert_id")
    if id is None:
        return upstream
    entry = find("ssls", id)
    if entry is None:
        return Missing(502, f"failed to get ssl cert: ssl id [{id}] not exits")
    ssl: Mapping[str, Any] = entry.decode()
    if ssl["type"] != "client":
        return Missing(502, "failed to get ssl cert: ssl type should be 'client'")
    try:
        pair = {f"client_{name}": resolve_text(ssl[name], os.environ) for name in ("cert", "key")}
    except UnresolvedReference as error:
        return Missing(502, f"failed to get ssl cert: ssl id [{id}]: {error}")
    others = {name: value for name, value in tls.items() if name != "client_cert_id"}
    return replace(upstream, tls={**others, **pair}, fingerprint=fingerprint({"of": upstream.fingerprint, **pair}))
