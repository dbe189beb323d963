"""Input that is no good, over all kinds and verbs, against a running gateway.

Each is answered by a 4xx with a reason; nothing is stored, no process dies or grows, nothing secret is logged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.canary import ask
from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway
from tests.support.memory import resident_mb
from tests.support.resources import EXAMPLES, Example
from tests.support.waiting import wait_until

PLANTED = "planted-secret-9b1f6c"
BY_KIND = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.kind)


@dataclass
class World:
    gateway: Gateway

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """One request, its target byte for byte."""
        head = (
            f"{method} /apisix/admin{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {ADMIN_KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        answer = ask(self.gateway.admin_port, head.encode("latin-1") + body)
        return answer.status, json.loads(answer.body)

    def store_revision(self) -> int:
        """Where the store stands."""
        return int(self.gateway.admin("GET", "/routes").headers["x-jitterway-revision"])

    def rss_mb(self) -> float:
        """Of the agent and the workers together."""
        return resident_mb(self.gateway.agent_pid(), *self.gateway.worker_pids())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """At log level debug, with one resource of each kind."""
    config = {"gw": {"log_level": "debug"}}
    with running_gateway(tmp_path_factory.mktemp("gateway"), config, workers=1) as gateway:
        for example in EXAMPLES:
            reply = gateway.admin("PUT", example.path, dict(example.body))
            assert reply.status == 201, (example, reply)
        before = gateway.worker_pids(), gateway.agent_pid()
        yield World(gateway)
        wait_until(lambda: gateway.convergence()["converged"], what="the workers to serve what there is")
        assert (gateway.worker_pids(), gateway.agent_pid()) == before, "a process died"
        assert "Traceback" not in gateway.output()
        assert PLANTED not in gateway.output()
        for example in EXAMPLES:
            assert gateway.admin("GET", example.path).status == 200


def _nested(levels: int) -> bytes:
    return b'{"desc":' + b'{"a":' * levels + b"1" + b"}" * levels + b"}"


# Name -> body, status, what the reason holds: the rule, or the place. `%s` in a body is the example without its end.
BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "missing"),
    "not JSON": (b"username=jack&key=" + PLANTED.encode(), 400, "line 1 column 1"),
    "cut off": (b'{"desc": "a', 400, "line 1 column"),
    "data behind": (b"{} {}", 400, "line 1 column 4"),
    "a comma too many": (b'{"desc": "a",}', 400, "line 1 column"),
    "single quotes": (b"{'desc': 'a'}", 400, "line 1 column 2"),
    "a name twice": (b'{"desc": "a", "desc": "b"}', 400, 'duplicate name "desc" at the top'),
    "a name twice below": (b'{"labels": {"a": "b", "a": "c"}}', 400, 'duplicate name "a" at labels'),
    "NaN": (b'{"desc": NaN}', 400, "NaN is no number that JSON knows"),
    "1e999": (b'{"desc": 1e999}', 400, "at desc"),
    "5,000 digits": (b'{"desc": ' + b"9" * 5000 + b"}", 400, "invalid request body: "),
    "beyond 64 bits": (b'{"priority": 1' + b"0" * 30 + b"}", 400, "invalid "),
    "invalid UTF-8": (b'{"desc": "\xff\xfe"}', 400, "not UTF-8 at byte 10"),
    "overlong UTF-8": (b'{"desc": "\xc0\xaf"}', 400, "not UTF-8 at byte 10"),
    "UTF-16": ('{"desc": "a"}'.encode("utf-16"), 400, "not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", 400, "byte order mark"),
    "half a surrogate pair": (b'{"desc": "\\ud800"}', 400, "at desc"),
    "nested 200 deep": (_nested(200), 400, "nested too deeply"),
    "nested 100,000 deep": (_nested(100_000), 400, "nested too deeply"),
    "arrays 200,000 deep": (b"[" * 200_000, 400, "nested too deeply"),
    "too large": (b'{"desc":"' + b"x" * 2_000_000 + b'"}', 413, "is greater than the maximum size"),
    "array": (b"[]", 400, "invalid configuration"),
    "text": (b'"text"', 400, "invalid configuration"),
    "number": (b"1", 400, "invalid configuration"),
    "null": (b"null", 400, "invalid configuration"),
    "true": (b"true", 400, "invalid configuration"),
    "80,000 members": (b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}", 400, "i"),
    "msgpack": (b"\x81\xa3uri\xa2/x", 400, "not UTF-8 at byte 0"),
    "YAML": (b"desc: a\n", 400, "line 1 column 1"),
}


@BY_KIND
def test_bodies(world: World, example: Example) -> None:
    before = world.store_revision()
    memory = world.rss_mb()
    verbs = [("PUT", example.path), ("PUT", example.collection)]
    verbs += [("POST", example.collection)] if example.can("create") else []
    verbs += [("PATCH", example.path)] if example.can("patch") else []
    for name, (body, status, holds) in BODIES.items():
        if example.kind in ("plugin_metadata", "secrets") and name == "80,000 members":
            continue  # open to members that nobody knows, as in APISIX
        for method, path in verbs:
            said, answer = world.ask(method, path, body)
            assert (said, set(answer)) == (status, {"error_msg"}), (name, method, path, answer)
            assert holds in answer["error_msg"], (name, method, path)
            assert len(answer["error_msg"]) < 1000
            assert PLANTED not in answer["error_msg"]
    assert world.store_revision() == before, "nothing was written"
    assert world.rss_mb() - memory < 80


@BY_KIND
def test_members_of_the_wrong_type_or_unknown(world: World, example: Example) -> None:
    """One member of an otherwise valid resource is wrong: the reason names it, and not what it held."""
    before = world.store_revision()
    changes: list[tuple[dict[str, Any], str]] = [
        ({name: wrong}, name)
        for name in example.body
        for wrong in (17.5, True, [[PLANTED]], {"a": {"b": PLANTED}})
        if example.kind != "plugin_metadata"
    ]
    if example.kind not in ("plugin_metadata", "secrets"):  # open to members that nobody knows, as in APISIX
        changes += [({"nonsense": PLANTED}, "nonsense"), ({"": 1}, ""), ({"__proto__": {}}, "__proto__")]
    changes += [({"labels": {"a": 1}}, "labels"), ({"labels": {"a": ""}}, "labels")] * (
        "labels" in example.body
    )
    changes += [({"create_time": 5}, "create_time"), ({"update_time": "x"}, "update_time")] * (
        example.kind != "plugin_metadata"
    )
    for change, place in changes:
        said, answer = world.ask("PUT", example.path, json.dumps({**example.body, **change}).encode())
        assert (said, set(answer)) == (400, {"error_msg"}), (change, answer)
        assert place in answer["error_msg"] or "[a]" in answer["error_msg"], (change, answer)
        assert PLANTED not in answer["error_msg"]
    assert world.store_revision() == before, "nothing was written"


IDS = [
    *("../x", "..%2fx", "a%2fb", "a%2Fb", "a%252Fb", "a%5cb", ".", "..", "%2e", "%2e%2e", "%2E%2e%2Fx"),
    *("%00", "a%00", "a%0ab", "a%20b", "%ff", "%c0%ae%c0%ae", "a;b", "a%3ab", "*", "a+b", "~", "a" * 300, "%zz", "%"),
    *("%EF%BC%8F", "%e2%80%ae", "a%23b", "a%3Fb", "$env:%2F%2FHOME"),
]


@BY_KIND
def test_ids_that_are_none(world: World, example: Example) -> None:
    before = world.store_revision()
    body = json.dumps(dict(example.body)).encode()
    for id in IDS:
        for method in ("GET", "PUT", "DELETE", *(["PATCH"] if example.can("patch") else [])):
            said, answer = world.ask(method, f"{example.collection}/{id}", body if method in ("PUT", "PATCH") else b"")
            assert (said, set(answer)) == (400, {"error_msg"}), (method, id, answer)
    for id in ("a/b", "../x", "", " ", "a b", ".", "..", "ä", "a\0", 0, -1, 1.5, True, [], {}, "x" * 300):
        member = "username" if example.kind == "consumers" else "id"
        if example.kind == "plugin_metadata" and id == "":
            continue
        wrong = json.dumps({**example.body, member: id}).encode()
        said, answer = world.ask("PUT", example.collection, wrong)
        assert (said, set(answer)) == (400, {"error_msg"}), (id, answer)
    assert world.store_revision() == before, "nothing was written"


@BY_KIND
@pytest.mark.parametrize("path", ["credentials", "credentials/x/y", "credentials/x", "a/b/c", "a/../../routes"])
def test_paths_below_resources(world: World, example: Example, path: str) -> None:
    """Below a consumer are its credentials, below others what PATCH may change; nothing else can be had there."""
    if example.kind in ("consumers", "secrets"):
        return
    for method in ("GET", "PUT", "POST", "DELETE", "HEAD", "PROPFIND"):
        if method == "HEAD":
            continue
        said, answer = world.ask(method, f"{example.path}/{path}", b"")
        assert said in (400, 405), (method, path)
        assert set(answer) == {"error_msg"}


QUERIES = [
    ("name=" + "a" * 257, "name"),
    ("name=(a%2B)%2B%5C1", "name"),
    ("name=(%3F=.*a)b", "name"),
    ("name=[", "name"),
    ("name=" + ".%7B1000%7D" * 30, "name"),
    ("uri=(%3F%3C!a)b", "uri"),
    ("page=x&page_size=10", "page"),
    ("page=1&page_size=9", "page_size"),
    ("page=1&page_size=501", "page_size"),
    ("page=1&page_size=1e2", "page_size"),
    ("page=99999999999999999999&page_size=10", "page"),
    ("page_size=%D9%A1%D9%A0", "page_size"),
]


@BY_KIND
def test_queries(world: World, example: Example) -> None:
    for query, place in QUERIES:
        said, answer = world.ask("GET", f"{example.collection}?{query}")
        assert (said, set(answer)) == (400, {"error_msg"}), (query, answer)
        assert place in answer["error_msg"]
    for query in ("ttl=x", "ttl=-1", "ttl=1e9", "ttl=99999999999", "wait=x", "wait=-1", "wait=600001"):
        for method, path in (("PUT", example.path), ("DELETE", example.path)):
            if query.startswith("ttl") and method == "DELETE":
                continue
            said, answer = world.ask(method, f"{path}?{query}", json.dumps(dict(example.body)).encode())
            assert (said, set(answer)) == (400, {"error_msg"}), (query, answer)
            assert query.partition("=")[0] in answer["error_msg"]
