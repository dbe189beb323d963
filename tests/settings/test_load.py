"""From files to settings: what is taken from where, and every way a file can be wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gw.errors import ConfigError
from gw.settings import ConfigErrors, Listen, load_agent_settings, load_settings

Config = Callable[[str], Path]

ISSUE_EXAMPLE = """
apisix:
  node_listen: [19080]
  control: {ip: 127.0.0.1, port: 19090}
  status: {ip: 127.0.0.1, port: 17085}
deployment:
  role: traditional
  role_traditional: {config_provider: etcd}
  etcd: {host: ['http://127.0.0.1:12379'], prefix: /apisix}
  admin:
    admin_key: [{name: admin, key: example-admin-key-0123456789abcdef, role: admin}]
    admin_listen: {ip: 127.0.0.1, port: 19180}
gw:
  workers: 2
  shm: {name: example}
"""

APISIX_DOCKER = """
apisix:
  node_listen: 9080
  enable_ipv6: false
  enable_control: true
  control: {ip: "0.0.0.0", port: 9092}
  proxy_mode: http
  ssl: {enable: false}
deployment:
  admin:
    allow_admin: [0.0.0.0/0]
    admin_key:
      - {name: "admin", key: 0123456789abcdef0123456789abcdex, role: admin}
      - {name: "viewer", key: fedcba9876543210fedcba9876543210x, role: viewer}
  etcd:
    host: ["http://etcd:2379"]
    prefix: "/apisix"
    timeout: 30
    startup_retry: 2
plugins: [limit-count, cors]
plugin_attr:
  prometheus: {export_addr: {ip: "0.0.0.0", port: 9091}, refresh_interval: 15}
  log-rotate: {interval: 3600}
  of-our-own: {anything: {at: all}}
nginx_config:
  worker_processes: 3
  error_log_level: warn
  http: {client_max_body_size: 10m, keepalive_timeout: 75s}
"""


def test_the_example_of_the_issue_works_as_it_stands(config: Config) -> None:
    agent = load_agent_settings(config(ISSUE_EXAMPLE), environ={})
    settings = agent.settings
    assert settings.apisix.node_listen == (Listen("0.0.0.0", 19080),)
    assert settings.apisix.control.listen == Listen("127.0.0.1", 19090)
    assert settings.apisix.status.listen == Listen("127.0.0.1", 17085)
    assert settings.deployment.admin.listen == Listen("127.0.0.1", 19180)
    assert (settings.gw.workers, settings.gw.shm.name) == (2, "example")
    assert agent.store_url == "etcd"
    assert agent.etcd.hosts == ("http://127.0.0.1:12379",)
    assert [(key.name, key.role) for key in agent.admin_keys] == [("admin", "admin")]
    assert agent.warnings == ()


def test_the_example_with_the_embedded_store(config: Config) -> None:
    lines = [line for line in ISSUE_EXAMPLE.splitlines() if "role: tr" not in line and "config_provider" not in line]
    text = "\n".join(line for line in lines if "etcd" not in line) + "\n  store: 'sqlite:////some/dir/config.db'\n"
    agent = load_agent_settings(config(text), environ={})
    assert agent.store_url == "sqlite:////some/dir/config.db"
    assert not agent.generate_admin_key


def test_a_configuration_written_for_apisix_loads_and_says_what_does_nothing(config: Config) -> None:
    agent = load_agent_settings(config(APISIX_DOCKER), environ={})
    assert agent.settings.gw.workers == 3
    assert agent.settings.nginx_config.http.client_max_body_size_bytes == 10 << 20
    assert agent.settings.nginx_config.http.keepalive_timeout_s == 75
    named = {warning.partition(" ")[0] for warning in agent.warnings}
    assert named >= {"apisix.ssl.enable", "deployment.etcd.startup_retry"}
    assert named >= {"plugin_attr.prometheus.refresh_interval", "plugin_attr.log-rotate", "plugin_attr.of-our-own"}
    assert agent.settings.plugin_attr.prometheus.listen == Listen("0.0.0.0", 9091)
    assert "apisix.proxy_mode" not in named


@pytest.mark.parametrize(
    ("written", "uri", "prefix", "listen"),
    [
        ("", "/apisix/prometheus/metrics", "apisix_", "127.0.0.1:9091"),
        ("export_uri: /metrics/", "/metrics/", "apisix_", "127.0.0.1:9091"),
        ("export_uri: /", "/", "apisix_", "127.0.0.1:9091"),
        ("metric_prefix: ''", "/apisix/prometheus/metrics", "", "127.0.0.1:9091"),
        ("export_addr: {ip: '::1', port: 9191}", "/apisix/prometheus/metrics", "apisix_", "[::1]:9191"),
    ],
)
def test_where_the_metrics_are(config: Config, written: str, uri: str, prefix: str, listen: str) -> None:
    prometheus = load_settings(config(f"plugin_attr:\n  prometheus: {{{written}}}\n")).plugin_attr.prometheus
    assert prometheus.enable_export_server
    assert (prometheus.export_uri, prometheus.metric_prefix, str(prometheus.listen)) == (uri, prefix, listen)


def test_no_address_is_taken_by_a_metrics_listener_that_is_off(config: Config) -> None:
    text = "apisix: {control: {port: 9091}}\nplugin_attr: {prometheus: {enable_export_server: false}}\n"
    settings = load_settings(config(text))
    assert settings.warnings == ()
    assert not settings.plugin_attr.prometheus.enable_export_server


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "---\n", "apisix:\n", "gw:\n  shm:\n", "apisix:\n  node_listen: null\n"],
)
def test_what_is_not_written_has_its_default(config: Config, text: str) -> None:
    assert load_settings(config(text)).apisix.node_listen == (Listen("0.0.0.0", 9080),)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("9080", ["0.0.0.0:9080"]),
        ("[9080, 9081]", ["0.0.0.0:9080", "0.0.0.0:9081"]),
        ("[{port: 9082}, {ip: 127.0.0.2, port: 9082}]", None),
        ("[{ip: 127.0.0.1, port: 9080}, {ip: '::1', port: 9080}]", ["127.0.0.1:9080", "[::1]:9080"]),
        ("[{ip: '::', port: 9080}, 9080]", ["[::]:9080", "0.0.0.0:9080"]),
        ("['${{PORT}}', '${{OTHER:=9333}}']", ["0.0.0.0:9222", "0.0.0.0:9333"]),
        ("'${{PORT}}'", ["0.0.0.0:9222"]),
    ],
)
def test_the_forms_of_node_listen(config: Config, written: str, expected: list[str] | None) -> None:
    path = config(f"apisix:\n  node_listen: {written}\n")
    if expected is None:
        with pytest.raises(ConfigError, match=r"node_listen\[1\]: 127.0.0.2:9082 is taken by apisix.node_listen\[0\]"):
            load_settings(path, environ={})
    else:
        assert [str(listen) for listen in load_settings(path, environ={"PORT": "9222"}).apisix.node_listen] == expected


@pytest.mark.parametrize(
    ("written", "window"),
    [("0", (0, 0)), ("[0, 0]", (0, 0)), ("30", (0, 30)), ("[10, 30]", (10, 30)), ("'${{JITTER}}'", (0, 40))],
)
def test_one_number_of_a_window_is_the_highest(config: Config, written: str, window: tuple[int, int]) -> None:
    text = f"gw: {{rebuild: {{full_jitter_ms: {written}, update_jitter_ms: {written}}}}}"
    rebuild = load_settings(config(text), environ={"JITTER": "40"}).gw.rebuild
    assert rebuild.full_jitter_ms == rebuild.update_jitter_ms == window


@pytest.mark.parametrize(("cap", "files"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_a_cap_has_as_many_locks_as_it_can_need_and_no_cap_has_none(config: Config, cap: int, files: int) -> None:
    settings = load_settings(config(f"gw: {{workers: 3, rebuild: {{max_concurrent_full: {cap}}}}}"))
    assert len(settings.turn_paths) == files


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("gw: {workerz: 2}", "gw.workerz", "unknown key; did you mean gw.workers?"),
        ("gw: {rebuild: {poll_intervall_ms: 5}}", "gw.rebuild.poll_intervall_ms", "mean gw.rebuild.poll_interval_ms?"),
        ("gw: {poll_interval_ms: 5}", "gw.poll_interval_ms", "mean gw.rebuild.poll_interval_ms?"),
        ("apisx: {}", "apisx", "did you mean apisix?"),
        ("gw: {zzz: 1}", "gw.zzz", "unknown key; known here are admin, data_dir"),
        ("7: 1", "7", "unknown key"),
        ("gw: {workers: two}", "gw.workers", "not 'two' (or auto)"),
        ("gw: {workers: 0}", "gw.workers", "a whole number from 1 to 1024, not 0"),
        ("gw: {workers: true}", "gw.workers", "not True"),
        ("gw: {workers: 1.5}", "gw.workers", "not 1.5"),
        ("gw: []", "gw", "must be a mapping of settings, not list"),
        ("apisix: 9080", "apisix", "must be a mapping"),
        ("apisix: {node_listen: []}", "apisix.node_listen", "at least 1 item"),
        ("apisix: {node_listen: [9080, 99999]}", "apisix.node_listen[1]", "from 1 to 65535, not 99999"),
        ("apisix: {node_listen: [{ip: localhost, port: 1}]}", "apisix.node_listen[0].ip", "must be an IP address"),
        ("apisix: {node_listen: [{ip: 127.0.0.1}]}", "apisix.node_listen[0]", "port is missing"),
        ("apisix: {node_listen: [{port: 1, prot: 2}]}", "apisix.node_listen[0]", "unknown key 'prot'"),
        ("apisix: {node_listen: '9080'}", "apisix.node_listen", "must be a port"),
        ("apisix: {enable_admin: maybe}", "apisix.enable_admin", "must be true or false, not 'maybe'"),
        ("apisix: {router: {http: radixtree}}", "apisix.router.http", "must be one of radixtree_host_uri"),
        ("deployment: {role: data_plane}", "deployment.role", "data_plane is not supported yet"),
        (
            "deployment: {role_traditional: {config_provider: yaml}}",
            "deployment.role_traditional.config_provider",
            "yaml is not supported yet",
        ),
        ("nginx_config: {http: {send_timeout: fast}}", "nginx_config.http.send_timeout", "a time such as"),
        ("nginx_config: {http: {send_timeout: .nan}}", "nginx_config.http.send_timeout", "a time such as"),
        ("nginx_config: {http: {send_timeout: 0}}", "nginx_config.http.send_timeout", "from 0.001"),
        ("gw: {shm: {log_size: 8q}}", "gw.shm.log_size", "a size such as"),
        ("gw: {shm: {name: a/b}}", "gw.shm.name", "letters, digits"),
        ("gw: {shm: {name: 7}}", "gw.shm.name", "put it in quotes"),
        ("gw: {rebuild: {full_jitter_ms: [9, 3]}}", "gw.rebuild.full_jitter_ms", "lowest (9) is above highest (3)"),
        ("gw: {rebuild: {full_jitter_ms: [5]}}", "gw.rebuild.full_jitter_ms", "[lowest, highest]"),
        ("gw: {rebuild: {full_jitter_ms: off}}", "gw.rebuild.full_jitter_ms", "from 0 to 600000, not False"),
        ("gw: {rebuild: {update_jitter_ms: -1}}", "gw.rebuild.update_jitter_ms", "from 0 to 600000, not -1"),
        ("gw: {rebuild: {update_jitter_ms: 0.5}}", "gw.rebuild.update_jitter_ms", "[lowest, highest]"),
        ("gw: {rebuild: {max_concurrent_full: -1}}", "gw.rebuild.max_concurrent_full", "from 0 to 1024, not -1"),
        ("gw: {run_dir: ''}", "gw.run_dir", "must be a path"),
        (f"gw: {{run_dir: /{'x' * 100}}}", "gw.run_dir", "bytes too long"),
        (
            "plugin_attr: {prometheus: {export_addr: {port: 9090}}}",
            "plugin_attr.prometheus.export_addr",
            "127.0.0.1:9090 is taken by apisix.control",
        ),
        (
            "plugin_attr: {prometheus: {export_adr: {port: 1}}}",
            "plugin_attr.prometheus.export_adr",
            "did you mean plugin_attr.prometheus.export_addr?",
        ),
        ("plugin_attr: {prometheus: {export_uri: '/{m}'}}", "plugin_attr.prometheus.export_uri", "must be"),
        ("plugin_attr: {prometheus: {export_uri: metrics}}", "plugin_attr.prometheus.export_uri", "a path of letters"),
        ("plugin_attr: {prometheus: {export_uri: /a//b}}", "plugin_attr.prometheus.export_uri", "between slashes"),
        ("plugin_attr: {prometheus: {metric_prefix: my-gw_}}", "plugin_attr.prometheus.metric_prefix", "not 'my-gw_'"),
        ("plugin_attr: {prometheus: {metric_prefix: 1gw_}}", "plugin_attr.prometheus.metric_prefix", "digits first"),
        ("apisix: {status: {port: 9080}}", "apisix.status", "127.0.0.1:9080 is taken by apisix.node_listen[0]"),
        ("apisix: {control: {port: 9180}}", "apisix.control", "is taken by deployment.admin.admin_listen"),
        ("apisix: {node_listen: ${{NOWHERE}}}", "", "put quotes around ${{...}}"),
        ("apisix: {node_listen: ['${{NOWHERE}}']}", "apisix.node_listen[0]", "environment variable NOWHERE is not set"),
        ("apisix: {node_listen: ['${{}}']}", "apisix.node_listen[0]", "${{NAME}}"),
        ("apisix: {node_listen: &a [*a]}", "apisix.node_listen", "contains itself"),
        ("etcd: {host: []}", "etcd", "is deployment.etcd since APISIX 3"),
        ("apisix: {proxy_mode: stream}", "apisix.proxy_mode", "not supported yet"),
        ("apisix: {stream_proxy: {tcp: [9100]}}", "apisix.stream_proxy", "not supported yet"),
        ("deployment: {admin: {https_admin: true}}", "deployment.admin.https_admin", "in clear"),
        ("gw: {workers: 2, workers: 3}", "", "key 'workers' is written twice"),
        ("- 9080", "", "must hold a mapping of settings, not a list"),
        ("just text", "", "must hold a mapping"),
        ("gw: {workers: 2", "", "line 1, column"),
        ("gw:\n\tworkers: 2", "", "line 2, column 1"),
        ("gw: !!python/object/apply:os.getpid []", "", "could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_refused_with_path_and_reason(config: Config, text: str, path: str, reason: str) -> None:
    file = config(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ={})
    assert caught.value.path == path
    assert reason in caught.value.reason
    assert caught.value.source == str(file)


def test_all_problems_of_a_file_are_shown_at_once(config: Config) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_agent_settings(config("gw: {workers: 0, slice: 1}\ndeployment: {etcd: {timeout: x}}\n"), environ={})
    assert [problem.path for problem in caught.value.problems] == ["gw.slice", "gw.workers", "deployment.etcd.timeout"]
    assert len(str(caught.value).splitlines()) == 3


def test_files_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_settings(tmp_path)
    broken = tmp_path / "latin1.yaml"
    broken.write_bytes(b"gw:\n  shm: {name: caf\xe9}\n")
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 21\)"):
        load_settings(broken)
    deep = tmp_path / "deep.yaml"
    deep.write_text("[" * 5000)
    with pytest.raises(ConfigError):
        load_settings(deep)
    big = tmp_path / "big.yaml"
    big.write_text("#" * (5 << 20))
    with pytest.raises(ConfigError, match="larger than"):
        load_settings(big)


def test_an_error_never_quotes_a_secret(config: Config) -> None:
    for text in (
        "deployment: {etcd: {user: u, password: *hidden-secret}}",
        "deployment: {etcd: {user: u, password: !hidden-secret x}}",
        "deployment: {etcd: {user: u, password: [hidden-secret]}}",
        "deployment: {etcd: {host: ['http://u:hidden-secret@127.0.0.1:2379']}}",
        "deployment: {admin: {admin_key: hidden-secret}}",
        "deployment: {admin: {admin_key: [{name: a, key: hidden-secret, role: admin}]}}",
        "deployment: {admin: {admin_key: [{name: a, key: [hidden-secret], role: admin}]}}",
        "gw: {store: 'postgresql://u:hidden-secret@db/x'}",
        "gw: {store: 'sqlit://u:hidden-secret@db/x'}",
    ):
        with pytest.raises(ConfigError) as caught:
            load_agent_settings(config(text), environ={})
        assert "hidden-secret" not in str(caught.value), text


def test_variables_are_typed_by_the_setting(config: Config) -> None:
    text = """
apisix: {enable_control: '${{CONTROL}}'}
gw:
  workers: '${{ WORKERS := 3 }}'
  shm: {name: 'gw-${{SITE}}'}
deployment:
  admin:
    admin_key: [{name: a, key: '${{KEY}}', role: admin}]
nginx_config: {http: {send_timeout: '${{SECONDS:=2}}s', client_max_body_size: '${{SIZE:=}}0'}}
"""
    environ = {"CONTROL": "off", "SITE": "7", "KEY": "1234567890123456"}
    agent = load_agent_settings(config(text), environ=environ)
    assert agent.settings.apisix.control.enabled is False
    assert agent.settings.gw.workers == 3
    assert agent.settings.gw.shm.name == "gw-7"
    assert agent.settings.nginx_config.http.send_timeout_s == 2
    assert agent.settings.nginx_config.http.client_max_body_size_bytes == 0
    assert agent.admin_keys[0].key == "1234567890123456"  # APISIX would make a number of it


def test_a_worker_needs_no_variable_of_the_agent(config: Config) -> None:
    path = config("deployment: {etcd: {user: root, password: '${{ETCD_PASSWORD}}'}}")
    load_settings(path, environ={})
    with pytest.raises(ConfigError, match="ETCD_PASSWORD is not set"):
        load_agent_settings(path, environ={})


def test_paths_count_from_the_configuration_file(config: Config, tmp_path: Path) -> None:
    path = config("gw: {run_dir: ../run, data_dir: /srv/data, store: 'sqlite:///db/x.db'}")
    agent = load_agent_settings(os.path.relpath(path))
    assert agent.settings.gw.run_dir == tmp_path.parent / "run"
    assert agent.settings.gw.data_dir == Path("/srv/data")
    assert agent.store_url == f"sqlite:///{tmp_path}/db/x.db"
    assert agent.settings.source == path


def test_switched_off_listeners_do_not_collide(config: Config) -> None:
    text = "apisix: {enable_control: false, enable_admin: false, node_listen: [9090, 9180]}"
    assert load_settings(config(text)).apisix.control.enabled is False


def test_workers_count_the_cpus_we_may_use(config: Config) -> None:
    assert load_settings(config("")).gw.workers == len(os.sched_getaffinity(0))
    assert load_settings(config("nginx_config: {worker_processes: 5}")).gw.workers == 5
    assert load_settings(config("nginx_config: {worker_processes: 5}\ngw: {workers: 2}")).gw.workers == 2


def test_a_plugins_own_section_is_for_the_plugin_where_it_is_enabled(config: Config) -> None:
    text = """
plugins: [request-id, mine]
plugin_attr:
  mine: {hosts: ["${{HOST}}"], port: "${{PORT:=80}}", deep: {on: true}}
  other: {a: 1}
  prometheus: {export_uri: /metrics}
"""
    settings = load_settings(config(text), environ={"HOST": "a.com"})
    assert settings.plugins == ("request-id", "mine")
    assert settings.attr_of("mine") == {"hosts": ["a.com"], "port": 80, "deep": {True: True}}
    assert settings.attr_of("other") == settings.attr_of("request-id") == settings.attr_of("prometheus") == {}
    assert [warning.partition(" ")[0] for warning in settings.warnings] == ["plugin_attr.other"]
    assert "a.com" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("plugins: [mine]\nplugin_attr: {mine: 7}", "plugin_attr.mine", "must be a mapping"),
        ("plugins: [mine]\nplugin_attr: {mine: {a: ['${{NOT_SET}}']}}", "plugin_attr.mine.a[0]", "NOT_SET is not set"),
        ("plugins: cors", "plugins", "must be a list of names of plugins"),
        ("plugins: [7]", "plugins[0]", "must be the name of a plugin"),
        ("plugins: ['a b']", "plugins[0]", "must be the name of a plugin"),
    ],
)
def test_what_is_wrong_with_plugins(config: Config, text: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(config(text), environ={})
    assert refused.value.path == path
    assert reason in refused.value.reason
