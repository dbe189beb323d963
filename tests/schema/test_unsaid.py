"""No refusal shows a secret (CVE-2022-29266): resources in which some are planted, broken at random."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gw.errors import InvalidResource
from gw.schema import load_plugin_schemas, validate
from gw.settings.tree import OWN_PLUGINS

SECRET = "planted-secret-58d1c3"
TLS = Path(__file__).parents[1] / "data" / "tls"
CERT, PEM = ((TLS / f"client.{name}").read_text() for name in ("pem", "key"))
PLUGINS = load_plugin_schemas(OWN_PLUGINS)
UPSTREAM: dict[str, Any] = {"nodes": {"127.0.0.1:80": 1}}

LIMIT = {"count": 1, "time_window": 1, "policy": "redis-sentinel", "redis_master_name": "m"}
LIMIT |= {"redis_sentinels": [{"host": "hh", "port": 1}], "redis_password": SECRET, "sentinel_password": SECRET}
SOUND: dict[str, tuple[str, dict[str, Any]]] = {
    "http-logger": ("routes", {"http-logger": {"uri": "http://a", "auth_header": SECRET}}),
    "limit-count": ("routes", {"limit-count": LIMIT}),
    "key-auth": ("consumers", {"key-auth": {"key": SECRET}}),
    "basic-auth": ("consumers", {"basic-auth": {"username": "u", "password": SECRET}}),
}


def resource(name: str) -> tuple[str, dict[str, Any]]:
    kind, plugins = SOUND[name]
    others = {"uri": "/a", "upstream": UPSTREAM} if kind == "routes" else {"username": "1"}
    return kind, deepcopy({**others, "plugins": plugins})


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below: list[tuple[Any, ...]] = []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, item in items:
        below += [(*path, step), *places(item, (*path, step))]
    return below


BROKEN = st.sampled_from([None, 7, -1, True, [], {}, [SECRET], {"a": SECRET}, SECRET + "\ud800", SECRET * 3, SECRET])


def told_of(kind: str, value: dict[str, Any]) -> str:
    try:
        validate(kind, "1", value, PLUGINS, refuse_unknown=True)
    except InvalidResource as error:
        return str(error)
    return ""


@settings(deadline=None)
@given(st.data())
def test_no_refusal_shows_a_secret(data: st.DataObject) -> None:
    kind, value = resource(data.draw(st.sampled_from(sorted(SOUND))))
    for path in data.draw(st.lists(st.sampled_from(places(value)), min_size=1, max_size=3, unique=True)):
        holder = value
        for step in path[:-1]:
            holder = holder[step] if isinstance(holder, dict | list) and _has(holder, step) else {}
        if isinstance(holder, dict) and data.draw(st.booleans()):
            holder.pop(path[-1], None)
        elif isinstance(holder, dict | list) and _has(holder, path[-1]):
            # Secrets where a secret belongs, or nothing secret elsewhere: what stands in a wrong place is no secret.
            is_secret_place = str(path[-1]) in ("auth_header", "redis_password", "sentinel_password", "key", "password")
            drawn = data.draw(BROKEN if is_secret_place else st.sampled_from([None, 7, "x", [], {}]))
            holder[path[-1]] = deepcopy(drawn)
    assert SECRET not in told_of(kind, value)


def _has(holder: Any, step: Any) -> bool:
    return step in holder if isinstance(holder, dict) else isinstance(step, int) and step < len(holder)


@settings(deadline=None)
@given(st.sampled_from(["key", "keys", "cert", "certs"]), st.integers(0, len(PEM)), st.text(max_size=3))
def test_no_refusal_shows_a_private_key(field: str, cut: int, put_in: str) -> None:
    broken = PEM[:cut] + put_in + PEM[cut + 1 :]
    ssl: dict[str, Any] = {"cert": CERT, "key": PEM, "certs": [CERT], "keys": [PEM], "snis": ["a"]}
    ssl[field] = [broken] if field.endswith("s") else broken
    told = told_of("ssls", ssl)
    assert all(line not in told for line in PEM.splitlines() if not line.startswith("---"))
