"""basic-auth over both edges: RFC 7617's credentials, whatever else comes in that header, and what is told of it."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.support.configured import configured
from tests.support.edge import run
from tests.support.plugin_edge import checked

pytestmark = pytest.mark.usefixtures("each_edge")

CONSUMERS: dict[str, Any] = {
    "consumers/jack": {"username": "jack", "plugins": {"basic-auth": {"username": "foo", "password": "bar"}}},
    "consumers/rose": {"username": "rose"},
    "consumers/rose/credentials/one": {"plugins": {"basic-auth": {"username": "rosé", "password": "pa:ss wörd"}}},
    "consumers/rose/credentials/two": {"plugins": {"basic-auth": {"username": "r2", "password": " x "}}},
    "consumers/secret": {"username": "secret", "plugins": {"basic-auth": {"username": "s", "password": "$secret://v/1/p"}}},
    "consumers/keyed": {"username": "keyed", "plugins": {"key-auth": {"key": "foo"}}},
    "consumers/nobody": {"username": "nobody"},
}
MISSING, INVALID, REFUSED = (
    *("Missing authorization in request", "Invalid authorization in request"),
    "Invalid user authorization",
)


def guarded(**conf: Any) -> dict[str, Any]:
    return {**CONSUMERS, "routes/1": {"uri": "/*", "plugins": {"basic-auth": conf}}}


def basic(user_pass: str, scheme: str = "Basic", encoding: str = "utf-8") -> str:
    return f"Authorization: {scheme} {b64encode(user_pass.encode(encoding)).decode()}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic("foo:bar"), ("jack", None)),
        (basic("foo:bar", "bAsIc"), ("jack", None)),
        (basic("foo:bar", "Basic  "), ("jack", None)),
        (basic("rosé:pa:ss wörd"), ("rose", "one")),
        (basic("r2: x "), ("rose", "two")),
    ],
)
def test_who_is_let_in(tmp_path: Path, header: str, expected: tuple[str, str | None]) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded()) as world:
            assert (await world.ask("/", header)).status == 200
            told = world.told()
            assert (told["x-consumer-username"], told.get("x-credential-identifier")) == expected
            assert f"Authorization: {told['authorization']}" == header

    run(main())


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], MISSING),
        # Facts of t/plugin/basic-auth.t.
        (["Authorization: Bad_header YmFyOmJhcgo="], INVALID),
        (["Authorization: Basic aca_a"], INVALID),
        (["Authorization: Basic YmFy"], INVALID),
        (["Authorization: Basic YmFyOmJhcgo="], REFUSED),
        (["Authorization: Basic Zm9vOmZvbwo="], REFUSED),
        # CVE-2026-85595: an unknown user with an empty password, and other ways to say nothing.
        (["Authorization: Basic OjEy"], REFUSED),
        (["Authorization: Basic Og=="], REFUSED),
        ([basic("unknown:")], REFUSED),
        ([basic("foo:")], REFUSED),
        (["Authorization: Basic"], INVALID),
        (["Authorization: Basic "], INVALID),
        (["Authorization:"], INVALID),
        ([basic("s:$secret://v/1/p")], REFUSED),
        ([basic("s:")], REFUSED),
        ([basic("foo:bar\n")], REFUSED),
        ([basic(" foo:bar")], REFUSED),
        ([basic("FOO:bar")], REFUSED),
        ([basic("foo%3Abar")], INVALID),
        ([basic("jack:bar")], REFUSED),
        ([basic("keyed:foo")], REFUSED),
        ([basic("rosé:pa:ss wörd", encoding="latin-1")], REFUSED),
        (["Authorization: Basic Zm9v\x7fOmJhcg=="], None),
        (["Authorization: Basic " + "A" * 8000], INVALID),
        (["Authorization: Basic Zm9vOmJhcg==, Basic Zm9vOmJhcg=="], INVALID),
        (["Authorization: xBasic Zm9vOmJhcg=="], INVALID),
        # CVE-2021-27306: two of them, the good one first or last.
        (["Authorization: Basic OjEy", basic("foo:bar")], INVALID),
        ([basic("foo:bar"), "Authorization: Basic OjEy"], INVALID),
    ],
)
def test_who_is_not(tmp_path: Path, headers: list[str], message: str | None) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded()) as world:
            answer = await world.ask("/", *headers)
            assert world.served == []
            if message is None:  # no header at all: refused before anybody looks
                assert answer.status in (400, 401)
                return
            assert (answer.status, json.loads(answer.body)) == (401, {"message": message})
            assert answer.header("www-authenticate") == 'Basic realm="basic"'

    run(main())


def test_the_realm(tmp_path: Path) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded(realm="secure-zone")) as world:
            assert (await world.ask("/")).header("www-authenticate") == 'Basic realm="secure-zone"'

    run(main())


def test_hidden_credentials_and_the_anonymous_consumer(tmp_path: Path) -> None:
    async def main() -> None:
        async with configured(tmp_path, guarded(hide_credentials=True, anonymous_consumer="nobody")) as world:
            for headers, name in (([basic("foo:bar")], "jack"), ([basic("foo:x")], "nobody"), ([], "nobody")):
                assert (await world.ask("/", *headers)).status == 200
                assert world.told()["x-consumer-username"] == name
                assert "authorization" not in world.told()

    run(main())


def test_no_password_is_ever_logged_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with configured(tmp_path, guarded(hide_credentials=True)) as world:
            headers = [basic("foo:bar"), basic("foo:planted-wrong"), basic("planted-user:planted-wrong")]
            answers = [await world.ask("/", header) for header in headers]
            shown = repr([(answer.headers, answer.body) for answer in answers]) + repr(world.ended[0].consumer)
            for secret in ("planted", *(header.rpartition(" ")[2] for header in headers)):
                assert secret not in caplog.text
                assert secret not in shown

    run(main())


@pytest.mark.parametrize("conf", [{"realm": 7}, {"hide_credentials": "yes"}, {"anonymous_consumer": True}])
def test_configurations_that_are_refused(conf: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation failed"):
        checked("basic-auth", conf)
