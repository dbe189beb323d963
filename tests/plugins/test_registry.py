"""Plugins as they are found, looked at, put in order and made."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gw
from gw.cli.main import main
from gw.errors import ConfigError
from gw.pipeline.phases import PHASES
from gw.plugins.api import Environment, Plugin
from gw.plugins.registry import PluginError, Registered, Registry, load_registry, register
from gw.schema import load_plugin_schemas
from gw.schema.installed import InstalledPlugin, choose_plugins, installed_plugins
from gw.settings.tree import OWN_PLUGINS
from tests.support.packages import GREETING, install, install_greeting

ROOT = Path(__file__).resolve().parents[2]

# Apache APISIX 3.x, conf/config-default.yaml: all plugins that come with the gateway, in the order in which they run.
ORDER = {
    "request-id": 12015,
    "basic-auth": 2520,
    "key-auth": 2500,
    "forward-auth": 2002,
    "proxy-rewrite": 1008,
    "limit-count": 1002,
    "response-rewrite": 899,
    "http-logger": 410,
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that Python looks for packages in."""
    directory = tmp_path / "site"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    before = set(sys.modules)
    yield directory
    for name in set(sys.modules) - before:
        if name.startswith("jwtest"):
            del sys.modules[name]


def is_there(plugin: InstalledPlugin) -> bool:
    """Whether the module of one of ours is there yet."""
    return (ROOT / Path(*plugin.module.split("."))).with_suffix(".py").exists()


def test_the_order_of_ours_is_that_of_apisix():
    assert tuple(ORDER) == OWN_PLUGINS
    ours = choose_plugins(OWN_PLUGINS, installed_plugins())
    registered = {name: register(plugin) for name, plugin in ours.items() if is_there(plugin)}
    assert {name: each.cls.priority for name, each in registered.items()} == {name: ORDER[name] for name in registered}
    ran = [each.installed.name for each in Registry(registered.values(), {}).plugins]
    assert ran == [name for name in ORDER if name in registered]


def test_every_one_of_ours_is_declared_as_others_declare_theirs():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["gw.plugins"]
    assert set(declared) == set(OWN_PLUGINS)
    found = {plugin.name: f"{plugin.module}:{plugin.attribute}" for plugin in installed_plugins()}
    assert found.items() >= declared.items(), "run make .venv/.test-installed"


def test_the_schemas_of_ours_lie_in_one_folder():
    folder = Path(gw.__file__).parent / "schema" / "plugins"
    ours = choose_plugins(OWN_PLUGINS, installed_plugins())
    assert {plugin.schema_path for plugin in ours.values()} == {folder / f"{name}.json" for name in OWN_PLUGINS}


def test_a_third_partys_schema_is_read_and_its_module_is_not_imported(site: Path):
    traces = install_greeting(site)
    modules = set(sys.modules)
    schemas = load_plugin_schemas(["greeting"])
    assert schemas.problems == {}
    assert schemas.schema_of("greeting")["required"] == ["text"]
    assert not [name for name in set(sys.modules) - modules if name.startswith("jwtest")]
    assert list(traces.glob("imported-by-*")) == []

    registry = load_registry(["greeting"])
    found = registry.find("greeting")
    assert found is not None
    assert (found.cls.priority, found.cls.version, found.phases) == (10, "1.2", ("header_filter",))
    assert [trace.name for trace in traces.glob("imported-by-*")] == [f"imported-by-{os.getpid()}"]


PLACES = [
    # module, files there are, where the schema of `mine` is looked for
    ("jwtest_a", ["jwtest_a/__init__.py"], "jwtest_a/schemas/mine.json"),
    ("jwtest_a.plug", ["jwtest_a/__init__.py", "jwtest_a/plug.py"], "jwtest_a/schemas/mine.json"),
    ("jwtest_a.plug", ["jwtest_a/__init__.py", "jwtest_a/plug/__init__.py"], "jwtest_a/plug/schemas/mine.json"),
    ("jwtest_a.b.plug", ["jwtest_a/__init__.py", "jwtest_a/b/plug.py"], "jwtest_a/b/schemas/mine.json"),
    ("jwtest_a.plug", ["jwtest_a/plug.py"], "jwtest_a/schemas/mine.json"),  # a namespace package
    ("jwtest_a", ["jwtest_a.py"], None),  # would share its folder with everybody
    ("jwtest_a.plug", ["jwtest_a/__init__.py"], None),
    ("jwtest_a", [], None),
]


@pytest.mark.parametrize(("module", "files", "place"), PLACES)
def test_where_a_schema_is_looked_for(site: Path, module: str, files: list[str], place: str | None):
    install(site, "jwtest-a", {"mine": f"{module}:Mine"}, dict.fromkeys(files, ""))
    [plugin] = [plugin for plugin in installed_plugins() if plugin.name == "mine"]
    assert plugin.schema_path == (None if place is None else site / place)
    if place is None:
        assert "lie in a package" in load_plugin_schemas(["mine"]).problems["mine"]


@pytest.mark.parametrize("name", ["a.b", "../a", "a/b", "a" * 65, "-a"])
def test_a_name_that_would_lead_elsewhere_has_no_schema(site: Path, name: str):
    install(site, "jwtest-a", {name: "jwtest_a.plug:Mine"}, {"jwtest_a/plug.py": ""})
    assert "its name must be" in load_plugin_schemas([name]).problems[name]


def test_a_name_that_two_distributions_claim_is_refused_where_it_is_enabled(site: Path):
    for package in ("jwtest_one", "jwtest_two"):
        install_greeting(site, package)
    assert load_plugin_schemas(["forward-auth"]).problems == {}
    for load in (load_plugin_schemas, load_registry):
        with pytest.raises(ConfigError, match=r"two plugins are called greeting: .*jwtest-one and .*jwtest-two"):
            load(["greeting"])


def test_nobody_takes_the_name_of_one_of_ours(site: Path):
    install(site, "jwtest-a", {"limit-count": "jwtest_a.plug:Mine"}, {"jwtest_a/plug.py": ""})
    with pytest.raises(ConfigError, match="limit-count"):
        load_registry(["limit-count"])


FAULTS = [
    # the module, what is said of it
    ("raise RuntimeError('no database')", "cannot be imported: RuntimeError: no database"),
    ("raise SystemExit('bye')", "cannot be imported: SystemExit: bye"),
    ("import jwtest_not_there", "cannot be imported: ModuleNotFoundError"),
    ("syntax error", "cannot be imported: SyntaxError"),
    ("", "the module has no 'Greeting'"),
    ("Greeting = 7", "is not a subclass of gw.plugins.api.Plugin"),
    (GREETING.replace("(Plugin)", ""), "is not a subclass of gw.plugins.api.Plugin"),
    (GREETING.replace('"greeting"', '"other"'), "has the name 'other', and its entry point says 'greeting'"),
    (GREETING.replace('name = "greeting"', ""), "has the name None"),
    (GREETING.replace("priority = 10", ""), "has the priority None"),
    (GREETING.replace("priority = 10", "priority = True"), "has the priority True"),
    (GREETING.replace("priority = 10", "priority = 1.5"), "has the priority 1.5"),
    (GREETING.replace('version = "1.2"', "version = 1.2"), "has the version 1.2; it must be a text"),
    (GREETING.replace("self, ctx: Context", "self"), "has header_filter(self) -> None; it is called as"),
    (GREETING.replace("header_filter", "body_filter"), "called as body_filter(self, ctx, piece, is_last)"),
    (GREETING + "    rewrite = 7\n", "has rewrite as int"),
]


@pytest.mark.parametrize(("source", "said"), FAULTS)
def test_what_cannot_be_run_is_told_with_its_module_and_harms_nobody(
    site: Path, caplog: pytest.LogCaptureFixture, source: str, said: str
):
    traces = install_greeting(site)
    (traces / "greeting.py").write_text(source)
    good = GREETING.replace("greeting", "good").replace("Greeting", "Good")
    files = {"jwtest_good/plug.py": good, "jwtest_good/schemas/good.json": {}}
    install(site, "jwtest-good", {"good": "jwtest_good.plug:Good"}, files)
    registry = load_registry(["greeting", "good"])
    assert said in registry.problems["greeting"]
    assert "jwtest_greeting.parts.greeting:Greeting of jwtest-greeting" in registry.problems["greeting"]
    assert [each.installed.name for each in registry.plugins] == ["good"]
    assert said in caplog.text


def test_without_a_schema_nothing_runs_that_nobody_could_check(site: Path):
    traces = install_greeting(site)
    (traces / "schemas" / "greeting.json").unlink()
    registry = load_registry(["greeting"])
    assert "greeting.json cannot be read" in registry.problems["greeting"]
    assert list(traces.glob("imported-by-*")) == []


def of(name: str, priority: int) -> Registered:
    cls = type(name, (Plugin,), {"name": name, "priority": priority})
    return Registered(InstalledPlugin(name, "m", "C", "d", None), cls, ())


def test_the_higher_priority_goes_first_and_of_equal_ones_the_name_decides():
    registry = Registry([of("b", 1), of("a", 1), of("c", 3), of("d", -1)], {})
    assert [each.installed.name for each in registry.plugins] == ["c", "a", "b", "d"]


def test_instances_get_their_configuration_the_environment_and_the_owner(site: Path):
    install_greeting(site)
    loop = asyncio.new_event_loop()
    env = Environment(loop)
    make = load_registry(["greeting", "absent"]).maker(env)
    instance = make("greeting", {"text": "hello"}, "routes/1")
    assert (instance.conf, instance.env, instance.owner) == ({"text": "hello"}, env, "routes/1")
    with pytest.raises(PluginError, match="is not installed"):
        make("absent", {}, "routes/1")
    with pytest.raises(PluginError, match="is not enabled"):
        make("forward-auth", {}, "routes/1")
    loop.close()


def test_gw_plugins_shows_what_there_is(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    install_greeting(site)
    importlib.invalidate_caches()
    config = tmp_path / "config.yaml"
    config.write_text("plugins: [greeting, prometheus]\n")
    assert main(["plugins", "--json", "-c", str(config)]) == 1
    shown = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert shown["greeting"] == {
        "name": "greeting",
        "priority": 10,
        "version": "1.2",
        "phases": ["header_filter"],
        "module": "jwtest_greeting.parts.greeting:Greeting",
        "distribution": "jwtest-greeting",
        "schema": str(site / "jwtest_greeting/parts/schemas/greeting.json"),
        "enabled": True,
        "problem": None,
    }
    assert (shown["prometheus"]["enabled"], shown["prometheus"]["problem"]) == (True, "is not installed")
    assert shown["forward-auth"]["enabled"] is False
    assert set(shown["greeting"]["phases"]) <= set(PHASES)

    config.write_text("plugins: [greeting]\n")
    assert main(["plugins", "-c", str(config)]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("greeting")]
    assert line.split()[:5] == ["greeting", "10", "1.2", "yes", "header_filter"]
