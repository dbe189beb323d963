"""A consumer's plugins over both edges: which run, in which order, with whose configuration, and what may happen."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gw.plugins.api import Context, Plugin, Reply, plugin_reply
from gw.plugins.registry import Registered, Registry, load_registry
from gw.schema.installed import InstalledPlugin
from gw.settings.tree import OWN_PLUGINS
from tests.support.configured import Configured, configured
from tests.support.edge import replying, run, scripted_upstream

pytestmark = pytest.mark.usefixtures("each_edge")

WAYS = "ways"


class Tracing(Plugin):
    """Notes each phase it runs in, as `name.phase(configured text)`."""

    name: ClassVar[str] = "mark"
    priority: ClassVar[int] = 50

    def _note(self, ctx: Context, phase: str) -> None:
        ctx.state.setdefault(WAYS, []).append(f"{self.name}.{phase}({self.conf.get('text', '')})")

    def rewrite(self, ctx: Context) -> Reply | None:
        self._note(ctx, "rewrite")
        return None

    def access(self, ctx: Context) -> Reply | None:
        self._note(ctx, "access")
        if "raises" in self.conf:
            raise RuntimeError("it broke")
        return plugin_reply(self.conf["answers"], self.conf["text"]) if "answers" in self.conf else None

    def before_proxy(self, ctx: Context) -> None:
        self._note(ctx, "before_proxy")

    def header_filter(self, ctx: Context) -> None:
        self._note(ctx, "header_filter")
        ctx.response.add_header("x-marked", self.conf.get("text", ""))

    def log(self, ctx: Context) -> None:
        self._note(ctx, "log")


class Early(Tracing):
    name: ClassVar[str] = "early"
    priority: ClassVar[int] = 9000


class Waiting(Tracing):
    """Awaits wherever it may."""

    name: ClassVar[str] = "wait"
    priority: ClassVar[int] = 70

    async def rewrite(self, ctx: Context) -> Reply | None:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().rewrite(ctx)

    async def access(self, ctx: Context) -> Reply | None:  # type: ignore[override]
        await asyncio.sleep(0)
        if self.conf.get("reads_body"):
            await ctx.read_body(2)
        return super().access(ctx)

    async def header_filter(self, ctx: Context) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().header_filter(ctx)

    async def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        await asyncio.sleep(0)
        return piece.upper()


class Upper(Plugin):
    name: ClassVar[str] = "upper"
    priority: ClassVar[int] = 60

    def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        return piece.upper()


def registry() -> Registry:
    ours = load_registry(OWN_PLUGINS)
    test = [
        Registered(InstalledPlugin(cls.name, __name__, cls.__name__, "tests", None), cls, ())
        for cls in (Tracing, Early, Waiting, Upper)
    ]
    return Registry([*ours.plugins, *test], {})


def world(path: Path, resources: dict[str, Any]) -> Any:
    return configured(path, resources, registry=registry())


def jack(**fields: Any) -> dict[str, Any]:
    plugins = {"key-auth": {"key": "jack"}, **fields.pop("plugins", {})}
    return {"username": "jack", "plugins": plugins, **fields}


def route(**plugins: Any) -> dict[str, Any]:
    return {"uri": "/*", "plugins": {"key-auth": {}, **plugins}}


def ways(world: Configured) -> list[str]:
    """What the last request went through, without the log phase of the tracing itself."""
    noted: list[str] = world.ended[-1].state.get(WAYS, [])
    return noted


ALL = ("rewrite", "access", "before_proxy", "header_filter", "log")


def all_of(name: str, text: str, *but: str) -> set[str]:
    return {f"{name}.{phase}({text})" for phase in ALL if phase not in but}


class TestWhoseConfigurationRuns:
    def test_a_consumers_own_plugin_runs_all_its_phases_after_authentication(self, tmp_path: Path) -> None:
        async def main() -> None:
            resources = {"routes/1": route(), "consumers/jack": jack(plugins={"early": {"text": "j"}})}
            async with world(tmp_path, resources) as here:
                answer = await here.ask("/", apikey="jack")
                assert (answer.status, answer.header("x-marked")) == (200, "j")
                assert ways(here) == [f"early.{phase}(j)" for phase in ALL]
                assert (await here.ask("/")).status == 401
                assert ways(here) == []

        run(main())

    def test_one_that_the_route_has_too_is_rewritten_by_the_routes_and_goes_on_with_the_consumers(
        self, tmp_path: Path
    ) -> None:
        """apisix/plugin.lua: rewrite_in_consumer runs what is new alone."""

        async def main() -> None:
            resources = {"routes/1": route(mark={"text": "r"}), "consumers/jack": jack(plugins={"mark": {"text": "j"}})}
            async with world(tmp_path, resources) as here:
                assert (await here.ask("/", apikey="jack")).header("x-marked") == "j"
                assert set(ways(here)) == {"mark.rewrite(r)", *all_of("mark", "j", "rewrite")}

        run(main())

    @pytest.mark.parametrize(
        ("resources", "expected"),
        [
            ({}, "service"),
            ({"plugin_configs/c": "config"}, "config"),
            ({"plugin_configs/c": "config", "routes/1": "route"}, "route"),
            ({"consumer_groups/g": "group", "plugin_configs/c": "config", "routes/1": "route"}, "group"),
            ({"consumers/jack": "jack", "consumer_groups/g": "group", "routes/1": "route"}, "jack"),
        ],
    )
    def test_precedence(self, tmp_path: Path, resources: dict[str, str], expected: str) -> None:
        """consumer > consumer group > route > plugin config > service."""
        base: dict[str, Any] = {
            "services/s": {"plugins": {"mark": {"text": "service"}, "key-auth": {}}},
            "plugin_configs/c": {"plugins": {}},
            "consumer_groups/g": {"plugins": {}},
            "consumers/jack": jack(group_id="g"),
            "routes/1": {"uri": "/*", "service_id": "s", "plugin_config_id": "c"},
        }
        for name, text in resources.items():
            base[name] = {**base[name], "plugins": {**base[name].get("plugins", {}), "mark": {"text": text}}}

        async def main() -> None:
            async with world(tmp_path, base) as here:
                assert (await here.ask("/", apikey="jack")).header("x-marked") == expected

        run(main())

    def test_a_layer_may_switch_off_what_is_below(self, tmp_path: Path) -> None:
        off = {"_meta": {"disable": True}}

        async def main() -> None:
            resources = {
                "routes/1": route(mark={"text": "r"}, early=off),
                "consumer_groups/g": {"plugins": {"mark": off, "early": {"text": "g"}}},
                "consumers/jack": jack(group_id="g"),
            }
            async with world(tmp_path, resources) as here:
                await here.ask("/", apikey="jack")
                assert set(ways(here)) == {"mark.rewrite(r)", *all_of("early", "g")}

        run(main())

    def test_a_filter_of_a_consumers_plugin_holds(self, tmp_path: Path) -> None:
        only = {"text": "j", "_meta": {"filter": [["arg_a", "==", "1"]]}}

        async def main() -> None:
            resources = {"routes/1": route(), "consumers/jack": jack(plugins={"mark": only})}
            async with world(tmp_path, resources) as here:
                for path, expected in (("/?a=1", all_of("mark", "j")), ("/?a=2", set())):
                    assert (await here.ask(path, apikey="jack")).status == 200
                    assert set(ways(here)) == expected

        run(main())

    def test_a_filter_about_the_body_is_asked_also_where_the_route_has_the_plugin(self, tmp_path: Path) -> None:
        """Its rewrite phase, in which it would wait for the body, is not run again."""
        only = {"text": "j", "_meta": {"filter": [["post_arg_a", "==", "1"]]}}

        async def main() -> None:
            resources = {"routes/1": route(mark={"text": "r"}), "consumers/jack": jack(plugins={"mark": only})}
            async with world(tmp_path, resources) as here:
                for body, expected in (("a=1", all_of("mark", "j", "rewrite")), ("a=2", set())):
                    head = "POST / HTTP/1.1\r\nHost: a\r\nApikey: jack\r\nContent-Length: 3\r\n"
                    form = "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
                    assert (await here.edge.ask(f"{head}{form}{body}".encode())).status == 200
                    assert set(ways(here)) == {"mark.rewrite(r)", *expected}

        run(main())

    def test_a_consumer_with_plugins_changes_nothing_for_another(self, tmp_path: Path) -> None:
        async def main() -> None:
            resources = {
                "routes/1": route(mark={"text": "r"}),
                "consumers/jack": jack(plugins={"mark": {"text": "j"}}),
                "consumers/rose": {"username": "rose", "plugins": {"key-auth": {"key": "rose"}}},
            }
            async with world(tmp_path, resources) as here:
                for _ in range(3):
                    assert (await here.ask("/", apikey="jack")).header("x-marked") == "j"
                    assert (await here.ask("/", apikey="rose")).header("x-marked") == "r"

        run(main())

    def test_authentication_may_stand_in_a_global_rule(self, tmp_path: Path) -> None:
        async def main() -> None:
            resources = {
                "global_rules/1": {"plugins": {"key-auth": {}, "early": {"text": "rule"}}},
                "routes/1": {"uri": "/a", "plugins": {}},
                "consumers/jack": jack(plugins={"mark": {"text": "j"}}),
            }
            async with world(tmp_path, resources) as here:
                assert (await here.ask("/a")).status == 401
                assert (await here.ask("/a", apikey="jack")).status == 200
                assert set(ways(here)) == {*all_of("early", "rule"), *all_of("mark", "j")}
                assert (await here.ask("/none")).status == 401
                assert (await here.ask("/none", apikey="jack")).status == 404, "without a route nothing is merged"

        run(main())

    def test_the_second_auth_plugin_decides_where_a_route_has_two(self, tmp_path: Path) -> None:
        """Both must be satisfied; the one that runs last says who it is."""

        async def main() -> None:
            resources = {
                "routes/1": route(**{"basic-auth": {}}),
                "consumers/jack": jack(plugins={"mark": {"text": "j"}}),
                "consumers/rose": {"username": "rose", "plugins": {"basic-auth": {"username": "r", "password": "p"}}},
            }
            async with world(tmp_path, resources) as here:
                basic = "Authorization: Basic cjpw"
                assert (await here.ask("/", basic)).status == 401
                assert (await here.ask("/", apikey="jack")).status == 401
                assert (await here.ask("/", basic, apikey="jack")).header("x-marked") == "j"
                assert here.told()["x-consumer-username"] == "jack"

        run(main())


class TestWaysOut:
    @pytest.mark.parametrize("plugin", ["mark", "wait"])
    def test_a_consumers_plugin_may_answer(self, tmp_path: Path, plugin: str) -> None:
        async def main() -> None:
            conf = {"answers": 429, "text": "enough"}
            resources = {"routes/1": route(early={}), "consumers/jack": jack(plugins={plugin: conf})}
            async with world(tmp_path, resources) as here:
                answer = await here.ask("/", apikey="jack")
                assert (answer.status, answer.body.lower()) == (429, b"enough")
                assert here.served == []
                assert f"{plugin}.log(enough)" in ways(here)

        run(main())

    @pytest.mark.parametrize("plugin", ["mark", "wait"])
    def test_what_fails_is_the_consumers_and_harms_this_request_alone(
        self, tmp_path: Path, plugin: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            resources = {
                "routes/1": route(),
                "consumers/jack": jack(plugins={plugin: {"raises": 1}}),
                "consumers/rose": {"username": "rose", "plugins": {"key-auth": {"key": "rose"}}},
            }
            async with world(tmp_path, resources) as here:
                assert (await here.ask("/", apikey="jack")).status == 500
                assert f"plugin {plugin} of consumers/jack failed (route 1" in caplog.text
                assert (await here.ask("/", apikey="rose")).status == 200

        run(main())

    def test_a_body_that_is_too_large_for_it(self, tmp_path: Path) -> None:
        async def main() -> None:
            resources = {"routes/1": route(), "consumers/jack": jack(plugins={"wait": {"reads_body": True}})}
            async with world(tmp_path, resources) as here:
                asking = b"POST / HTTP/1.1\r\nHost: a\r\nApikey: jack\r\nContent-Length: 3\r\n\r\nabc"
                assert (await here.edge.ask(asking)).status == 413

        run(main())

    def test_plain_and_awaiting_plugins_in_one_chain(self, tmp_path: Path) -> None:
        async def main() -> None:
            resources = {
                "routes/1": route(mark={"text": "r"}),
                "consumers/jack": jack(plugins={"early": {}, "wait": {"text": "w"}, "mark": {"text": "j"}}),
            }
            async with world(tmp_path, resources) as here:
                answer = await here.ask("/", apikey="jack")
                assert (answer.status, answer.body) == (200, b"OK")
                before = [way for way in ways(here) if "rewrite" in way or "access" in way]
                assert before == [
                    *("mark.rewrite(r)", "early.rewrite()", "wait.rewrite(w)"),
                    *("early.access()", "wait.access(w)", "mark.access(j)"),
                ]

        run(main())


class TestTheResponse:
    @pytest.mark.parametrize("on_route", [{}, {"mark": {"text": "r"}}, {"wait": {"text": "r"}}, {"upper": {}}])
    @pytest.mark.parametrize("own", [{}, {"upper": {}}, {"wait": {"text": "j"}}, {"mark": {"text": "j"}}])
    def test_passes_through_the_filters_of_the_merged_chain(
        self, tmp_path: Path, on_route: dict[str, Any], own: dict[str, Any]
    ) -> None:
        merged = {**on_route, **own}
        marks = {conf["text"] for conf in merged.values() if "text" in conf}

        async def main() -> None:
            resources = {"routes/1": route(**on_route), "consumers/jack": jack(plugins=own)}
            async with world(tmp_path, resources) as here:
                for _ in range(2):
                    answer = await here.ask("/", apikey="jack")
                    is_upper = "upper" in merged or "wait" in merged
                    assert (answer.status, answer.body) == (200, b"OK" if is_upper else b"ok")
                    assert {value for name, value in answer.headers if name == "x-marked"} == marks

        run(main())


class TestLimits:
    def test_limit_count_of_a_consumer_counts_that_consumer(self, tmp_path: Path) -> None:
        """t/plugin/key-auth-anonymous-consumer.t, tests 1 to 5."""

        def limit(count: int) -> dict[str, Any]:
            return {"limit-count": {"count": count, "time_window": 60}}

        async def main() -> None:
            resources = {
                "routes/1": {"uri": "/*", "plugins": {"key-auth": {"anonymous_consumer": "anonymous"}}},
                "consumers/jack": jack(plugins=limit(4)),
                "consumers/anonymous": {"username": "anonymous", "plugins": limit(1)},
            }
            async with world(tmp_path, resources) as here:
                assert [(await here.ask("/", apikey="jack")).status for _ in range(5)] == [200] * 4 + [503]
                assert [(await here.ask("/")).status for _ in range(3)] == [200, 503, 503]

        run(main())

    def test_limit_count_by_consumer_name_on_the_route(self, tmp_path: Path) -> None:
        async def main() -> None:
            limit = {"count": 1, "time_window": 60, "key": "consumer_name", "rejected_code": 429}
            resources = {
                "routes/1": route(**{"limit-count": limit}),
                "consumers/jack": jack(),
                "consumers/rose": {"username": "rose", "plugins": {"key-auth": {"key": "rose"}}},
            }
            async with world(tmp_path, resources) as here:
                for key in ("jack", "rose"):
                    assert [(await here.ask("/", apikey=key)).status for _ in range(2)] == [200, 429]

        run(main())

    def test_a_rewrite_of_a_consumer(self, tmp_path: Path) -> None:
        """t/node/consumer-plugin2.t, tests 1 and 2."""
        rewrite = {"uri": "/uri/plugin_proxy_rewrite", "headers": {"X-Api-Engine": "APISIX", "X-CONSUMER-ID": "1"}}

        async def main() -> None:
            resources = {"routes/1": route(), "consumers/jack": jack(plugins={"proxy-rewrite": rewrite})}
            async with world(tmp_path, resources) as here:
                assert (await here.ask("/hello", apikey="jack")).status == 200
                assert here.asked_for() == "/uri/plugin_proxy_rewrite"
                told = here.told()
                assert (told["x-api-engine"], told["x-consumer-id"]) == ("APISIX", "1")
                assert told["x-consumer-username"] == "jack"

        run(main())


class TestChanges:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"consumers/jack": jack(group_id="g", plugins={"mark": {"text": "new"}})}, "new"),
            ({"consumers/jack": jack(group_id="h")}, "h"),
            ({"consumers/jack": jack()}, "r"),
            ({"consumer_groups/g": {"plugins": {"mark": {"text": "new"}}}}, "new"),
            ({"consumer_groups/g": {"plugins": {}}}, "r"),
            ({"consumer_groups/g": None}, 503),
            ({"routes/1": {"uri": "/*", "service_id": "s", "plugins": {}}}, "g"),
            ({"services/s": {"plugins": {"key-auth": {"header": "other"}}}}, 401),
            ({"global_rules/1": {"plugins": {"early": {"text": "x"}}}}, "g"),
            ({"consumers/jack": None}, 401),
            ({"consumers/jack": {"username": "jack", "plugins": {"key-auth": {"key": "changed"}}}}, 401),
        ],
    )
    def test_the_next_request_sees_it(
        self, tmp_path: Path, change: dict[str, Any], expected: str | int
    ) -> None:
        async def main() -> None:
            resources = {
                "services/s": {"plugins": {"key-auth": {}}},
                "routes/1": {"uri": "/*", "service_id": "s", "plugins": {"mark": {"text": "r"}}},
                "consumer_groups/g": {"plugins": {"mark": {"text": "g"}}},
                "consumer_groups/h": {"plugins": {"mark": {"text": "h"}}},
                "consumers/jack": jack(group_id="g"),
            }
            async with world(tmp_path, resources) as here:
                assert (await here.ask("/", apikey="jack")).header("x-marked") == "g"
                here.apply(change)
                answer = await here.ask("/", apikey="jack")
                if isinstance(expected, int):
                    assert answer.status == expected
                else:
                    marks = [value for name, value in answer.headers if name == "x-marked"]
                    assert marks[-1] == expected
                here.apply(resources | dict.fromkeys(change.keys() - resources.keys()))
                assert (await here.ask("/", apikey="jack")).header("x-marked") == "g"

        run(main())

    def test_a_request_in_flight_goes_on_with_what_it_began_with(self, tmp_path: Path) -> None:
        async def main() -> None:
            resources = {"routes/1": route(wait={}), "consumers/jack": jack(plugins={"mark": {"text": "old"}})}
            async with world(tmp_path, resources) as here:
                await here.ask("/", apikey="jack")
                asked = [asyncio.create_task(here.ask("/", apikey="jack")) for _ in range(20)]
                for number in range(20):
                    here.apply({"consumers/jack": jack(plugins={"mark": {"text": str(number)}})})
                    here.apply({"routes/1": route(wait={"text": str(number)})})
                    await asyncio.sleep(0)
                for answer in await asyncio.gather(*asked):
                    assert answer.status == 200
                    assert any(name == "x-marked" and value for name, value in answer.headers)

        run(main())


class TestWhatIsMissing:
    def test_a_group_is_503_and_reported_until_it_is_there(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with world(tmp_path, {"routes/1": route(), "consumers/jack": jack(group_id="g")}) as here:
                answer = await here.ask("/", apikey="jack")
                assert answer.status == 503
                assert json.loads(answer.body) == {"error_msg": "503 Service Temporarily Unavailable"}
                assert {str(key): text for key, text in here.state.problems.items()} == {
                    "consumers/jack": "failed to fetch consumer group config by id: g"
                }
                here.apply({"consumer_groups/g": {"plugins": {}}})
                assert here.state.problems == {}
                assert (await here.ask("/", apikey="jack")).status == 200

        run(main())

    @pytest.mark.parametrize("plugins", [{"absent": {}}, {"mark": {"_meta": {"filter": [["x", "??", 1]]}}}])
    def test_a_plugin_that_cannot_run_is_500_for_this_consumer(
        self, tmp_path: Path, plugins: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            resources = {
                "routes/1": route(),
                "consumers/jack": jack(plugins=plugins),
                "consumers/rose": {"username": "rose", "plugins": {"key-auth": {"key": "rose"}}},
            }
            async with world(tmp_path, resources) as here:
                with caplog.at_level(logging.ERROR):
                    for _ in range(2):
                        assert (await here.ask("/", apikey="jack")).status == 500
                assert [str(key) for key in here.state.problems] == ["consumers/jack"]
                assert (await here.ask("/", apikey="rose")).status == 200
                here.apply({"consumers/jack": jack()})
                assert (await here.ask("/", apikey="jack")).status == 200
                assert here.state.problems == {}

        run(main())


def test_a_credential_for_a_plugin_that_is_not_here_keeps_nobody_out(tmp_path: Path) -> None:
    async def main() -> None:
        plugins = {"jwt-auth": {"key": "j", "secret": "s"}, "mark": {"text": "j"}}
        async with world(tmp_path, {"routes/1": route(), "consumers/jack": jack(plugins=plugins)}) as here:
            assert (await here.ask("/", apikey="jack")).header("x-marked") == "j"
            here.apply({"routes/1": {"uri": "/*", "plugins": {"jwt-auth": {}}}})
            assert (await here.ask("/", apikey="jack")).status == 500, "a route that asks for it is another matter"

    run(main())


def test_chash_goes_by_consumer(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, {"consumers/jack": jack()}) as here:
            nodes = {f"127.0.0.1:{here._port}": 1}
            here.apply({"routes/1": {**route(), "upstream": {"type": "chash", "hash_on": "consumer", "nodes": nodes}}})
            assert (await here.ask("/", apikey="jack")).status == 200

    run(main())


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (b"X-Who: jack\r\n", "j"),
        (b"X-Who: nobody\r\n", 401),
        (b"X-Who: \r\n", 401),
        (b"", 401),
        (b"X-Who: jack\r\nX-Who: jack\r\n", 401),
    ],
)
def test_an_authorization_service_may_name_the_consumer(
    tmp_path: Path, told: bytes, expected: str | int
) -> None:
    async def main() -> None:
        async with scripted_upstream(replying(b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\n\r\n" % told)) as service:
            conf = {"uri": f"http://127.0.0.1:{service.port}/", "consumer_header": "X-Who"}
            resources = {
                "routes/1": {"uri": "/*", "plugins": {"forward-auth": conf}},
                "consumers/jack": {"username": "jack", "plugins": {"mark": {"text": "j"}}},
            }
            async with world(tmp_path, resources) as here:
                answer = await here.ask("/", "X-Consumer-Username: admin")
                if isinstance(expected, int):
                    assert (answer.status, here.served) == (expected, [])
                else:
                    assert answer.header("x-marked") == expected
                    assert here.told()["x-consumer-username"] == "jack"

    run(main())
