"""key-auth over both edges: who is let in, what is answered to others, what the upstream gets to see."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.support.configured import configured
from tests.support.edge import fields_of, run
from tests.support.plugin_edge import checked

pytestmark = pytest.mark.usefixtures("each_edge")

CONSUMERS: dict[str, Any] = {
    "consumers/jack": {"username": "jack", "plugins": {"key-auth": {"key": "key of jack"}}},
    "consumers/rose": {"username": "rose", "labels": {"custom_id": "495aec6a"}},
    "consumers/rose/credentials/one": {"plugins": {"key-auth": {"key": "rose-1"}}},
    "consumers/rose/credentials/two": {"plugins": {"key-auth": {"key": "rosé-2"}}},
    "consumers/off": {"username": "off", "plugins": {"key-auth": {"key": "off", "_meta": {"disable": True}}}},
    "consumers/secret": {"username": "secret", "plugins": {"key-auth": {"key": "$ENV://KEY"}}},
    "consumers/other": {"username": "other", "plugins": {"basic-auth": {"username": "o", "password": "p"}}},
    "consumers/nobody": {"username": "nobody"},
}
MISSING, INVALID = "Missing API key in request", "Invalid API key in request"


def guarded(**conf: Any) -> dict[str, Any]:
    return {**CONSUMERS, "routes/1": {"uri": "/*", "plugins": {"key-auth": conf}}}


@pytest.mark.parametrize(
    ("path", "headers", "conf", "expected"),
    [
        ("/", ["apikey: key of jack"], {}, "jack"),
        ("/", ["APIKEY:   key of jack  "], {}, "jack"),
        ("/?apikey=key%20of+jack", [], {}, "jack"),
        ("/?a=1&apikey=rose-1", [], {}, "rose/one"),
        ("/", ["apikey: rosé-2".encode().decode("latin-1")], {}, "rose/two"),
        ("/?apikey=ros%C3%A9-2", [], {}, "rose/two"),
        ("/", ["Authorization: rose-1"], {"header": "Authorization"}, "rose/one"),
        ("/?auth=rose-1", [], {"query": "auth"}, "rose/one"),
        ("/", ["Authorization: Bearer rose-1"], {"bearer_token": True}, "rose/one"),
        ("/", ["Authorization: bearer rose-1"], {"bearer_token": True}, "rose/one"),
        ("/?apikey=rose-1", [], {"bearer_token": True}, "rose/one"),
        # The hundredth argument is one as well (CVE-2018-9230).
        ("/?" + "&".join(f"a{n}=1" for n in range(150)) + "&apikey=rose-1", [], {}, "rose/one"),
    ],
)
def test_who_is_let_in(
    tmp_path: Path, path: str, headers: list[str], conf: dict[str, Any], expected: str
) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded(**conf)) as world:
            assert (await world.ask(path, *headers)).status == 200
            told = world.told()
            name, _, credential = expected.partition("/")
            assert told["x-consumer-username"] == name
            assert told.get("x-credential-identifier", "") == credential
            assert told.get("x-consumer-custom-id") == ("495aec6a" if name == "rose" else None)

    run(main())


@pytest.mark.parametrize(
    ("path", "headers", "conf", "message"),
    [
        ("/", [], {}, MISSING),
        ("/?b=1", [], {}, MISSING),
        ("/", ["apikey: wrong"], {}, INVALID),
        ("/", ["apikey: Key of jack"], {}, INVALID),
        ("/", ["apikey: key of jac"], {}, INVALID),
        ("/", ["apikey: key of jackk"], {}, INVALID),
        ("/", ["apikey:"], {}, INVALID),
        ("/?apikey", [], {}, INVALID),
        ("/?apikey=", [], {}, INVALID),
        ("/", ["apikey: off"], {}, INVALID),
        ("/", ["apikey: $ENV://KEY"], {}, INVALID),
        ("/", ["apikey: p"], {}, INVALID),
        ("/", ["apikey: " + "x" * 8000], {}, INVALID),
        ("/", ["apikey: \xff\xfe"], {}, INVALID),
        # Of two, neither counts; and the header decides where there is one.
        ("/", ["apikey: rose-1", "apikey: rose-1"], {}, INVALID),
        ("/", ["apikey: wrong", "apikey: rose-1"], {}, INVALID),
        ("/?apikey=rose-1&apikey=x", [], {}, INVALID),
        ("/?apikey=rose-1", ["apikey: wrong"], {}, INVALID),
        ("/", ["apikey: rose-1"], {"bearer_token": True}, MISSING),
        ("/", ["Authorization: rose-1"], {"bearer_token": True}, "Invalid Bearer token format"),
        ("/", ["Authorization: Bearer"], {"bearer_token": True}, "Invalid Bearer token format"),
        ("/", ["Authorization: Bearer "], {"bearer_token": True}, "Invalid Bearer token format"),
        ("/?apikey=rose-1", [], {"query": "auth"}, MISSING),
    ],
)
def test_who_is_not(tmp_path: Path, path: str, headers: list[str], conf: dict[str, Any], message: str) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded(**conf)) as world:
            answer = await world.ask(path, *headers)
            assert (answer.status, json.loads(answer.body)) == (401, {"message": message})
            scheme = "Bearer" if conf.get("bearer_token") else "apikey"
            assert answer.header("www-authenticate") == f'{scheme} realm="key"'
            assert world.served == []

    run(main())


@pytest.mark.parametrize(
    ("target", "header", "left"),
    [
        ("/a?apikey=rose-1", None, "/a"),
        ("/a?b=%20c&apikey=rose-1&&d", None, "/a?b=%20c&&d"),
        ("/a?%61pikey=rose-1&apikeys=1", None, "/a?apikeys=1"),
        ("/a", "rose-1", "/a"),
        ("/a?apikey=rose-1&b=1", "rose-1", "/a?b=1"),
    ],
)
def test_hidden_credentials_do_not_reach_the_upstream(
    tmp_path: Path, target: str, header: str | None, left: str
) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded(hide_credentials=True)) as world:
            assert (await world.ask(target, *([f"apikey: {header}"] if header else []))).status == 200
            assert world.asked_for() == left
            assert b"rose-1" not in world.served[-1]
            world.apply({"routes/1": {"uri": "/*", "plugins": {"key-auth": {}}}})
            await world.ask(target, *([f"apikey: {header}"] if header else []))
            assert world.asked_for() == target
            assert world.told().get("apikey") == header

    run(main())


def test_hidden_also_where_a_global_rule_has_rewritten_the_target(tmp_path: Path) -> None:
    rewrite = {"uri": "/new?apikey=rose-1&c=3"}

    async def main() -> None:
        resources = {**guarded(hide_credentials=True), "global_rules/1": {"plugins": {"proxy-rewrite": rewrite}}}
        async with configured(tmp_path, resources) as world:
            assert (await world.ask("/a?apikey=rose-1")).status == 200
            assert b"rose-1" not in world.served[-1]
            assert world.asked_for().startswith("/new")

    run(main())


class TestAnonymous:
    def test_requests_without_a_key_that_counts_are_the_anonymous_consumers(self, tmp_path: Path) -> None:
        async def main() -> None:
            conf = {"anonymous_consumer": "nobody", "hide_credentials": True}
            async with configured(tmp_path, guarded(**conf)) as world:
                for path, headers in (("/", []), ("/?apikey=bad-key", []), ("/", ["apikey: bad-key"])):
                    assert (await world.ask(path, *headers)).status == 200
                    assert world.told()["x-consumer-username"] == "nobody"
                    assert "x-credential-identifier" not in world.told()
                    assert b"bad-key" not in world.served[-1], "hidden here, too"
                assert (await world.ask("/", apikey="rose-1")).status == 200
                assert world.told()["x-consumer-username"] == "rose"

        run(main())

    def test_one_that_is_not_there_lets_nobody_in_and_is_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            async with configured(tmp_path, guarded(anonymous_consumer="gone")) as world:
                answer = await world.ask("/")
                assert (answer.status, json.loads(answer.body)) == (401, {"message": "Invalid user authorization"})
                assert "key-auth of routes/1: failed to get anonymous consumer gone" in caplog.text
                world.apply({"consumers/gone": {"username": "gone"}})
                assert (await world.ask("/")).status == 200

        run(main())


def test_the_realm_is_quoted(tmp_path: Path) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded(realm='a "b" \\c')) as world:
            assert (await world.ask("/")).header("www-authenticate") == 'apikey realm="a \\"b\\" \\\\c"'

    run(main())


def test_no_identity_of_the_client_ever_passes(tmp_path: Path) -> None:
    """CVE-2026-39998, CVE-2026-54763, CVE-2024-45410: with and without an auth plugin, in every spelling."""
    forged = [
        *("X-Consumer-Username: admin", "x_consumer_username: admin", "X.Consumer.Username: admin"),
        *("X-Consumer_Username: admin", "X-Credential-Identifier: root", "X_Credential_Identifier: root"),
        *("X-Consumer-Custom-ID: 1", "X-Consumer_Custom.ID: 1", "x-cOnSuMer-custom_id: 1"),
    ]
    connection = "Connection: close, X-Consumer-Username, X-Consumer-Custom-Id"

    async def main() -> None:
        resources = {
            **guarded(anonymous_consumer="nobody"),
            "routes/open": {"uri": "/open"},
            "routes/plain": {"uri": "/plain", "plugins": {"request-id": {}}},
        }
        async with configured(tmp_path, resources) as world:
            for path, more, expected in (
                ("/", ["apikey: rose-1"], {"rose", "one", "495aec6a"}),
                ("/", ["apikey: key of jack"], {"jack"}),
                ("/", [], {"nobody"}),
                ("/open", [], set()),
                ("/plain", [], set()),
            ):
                for headers in (forged, [connection, *forged], [connection]):
                    assert (await world.ask(path, *headers, *more)).status == 200
                    fields = fields_of(world.served[-1])
                    found = [value for name, value in fields if name.replace("_", "-").replace(".", "-") in IDENTITY]
                    assert set(found) == expected
                    assert len(found) == len(expected)

    run(main())


IDENTITY = {"x-consumer-username", "x-credential-identifier", "x-consumer-custom-id"}


def test_no_key_is_ever_logged_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    duplicate = {"username": "twin", "plugins": {"key-auth": {"key": "rose-1"}}}

    async def main() -> None:
        async with configured(tmp_path, {**guarded(), "consumers/twin": duplicate}) as world:
            answers = [await world.ask("/", apikey=key) for key in ("rose-1", "planted-wrong", "key of jack")]
            shown = repr([(answer.headers, answer.body) for answer in answers]) + repr(world.ended[0].consumer)
            shown += repr(world.state.problems)
            for secret in ("rose-1", "planted-wrong", "key of jack"):
                assert secret not in caplog.text
                assert secret not in shown

    run(main())


def test_the_consumer_is_a_variable(tmp_path: Path) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded()) as world:
            await world.ask("/", apikey="rose-1")
            assert (world.ended[-1].consumer_name, world.ended[-1].consumer_group_id) == ("rose", "")
            await world.ask("/", apikey="wrong")
            assert world.ended[-1].consumer_name == ""

    run(main())


@pytest.mark.parametrize(
    "conf",
    [{"header": ""}, {"header": "a b"}, {"header": 7}, {"query": ""}, {"realm": "a\nb"}, {"anonymous_consumer": ""}],
)
def test_configurations_that_are_refused(conf: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation failed"):
        checked("key-auth", conf)
