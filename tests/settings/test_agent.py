"""The agent's part: the store that is chosen, credentials and admin keys, and the file of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gw.errors import ConfigError
from gw.settings import load_agent_settings, load_settings

Config = Callable[[str], Path]
KEY = "a-key-of-our-own-0123456789"


@pytest.mark.parametrize(
    ("text", "store"),
    [
        ("", "sqlite:///{dir}/var/config.db"),
        ("gw: {data_dir: d}", "sqlite:///{dir}/d/config.db"),
        ("gw: {store: 'sqlite:///../x.db'}", "sqlite:///{parent}/x.db"),
        ("gw: {store: etcd}", "etcd"),
        ("deployment: {etcd: {prefix: /bk-gateway-apisix}}", "etcd"),
        ("deployment: {role_traditional: {config_provider: etcd}}", "etcd"),
        ("deployment: {etcd: {prefix: /x}}\ngw: {store: 'sqlite:///y.db'}", "sqlite:///{dir}/y.db"),
        ("gw: {store: 'yaml:///y.yaml'}", "yaml:///{dir}/y.yaml"),
        ("gw: {store: 'json:////y.json'}", "json:////y.json"),
        ("deployment: {role: data_plane}", "etcd"),
        ("deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}", "yaml:///{dir}/apisix.yaml"),
        ("deployment: {role: data_plane, role_data_plane: {config_provider: json}}", "json:///{dir}/apisix.json"),
        ("deployment: {role_data_plane: {config_provider: yaml}}", "sqlite:///{dir}/var/config.db"),
        (
            "deployment: {role_traditional: {config_provider: yaml}}",
            "standalone:///{dir}/var/standalone.jitterway.json",
        ),
        (
            "deployment: {role_traditional: {config_provider: yaml}}\napisix: {enable_admin: false}",
            "yaml:///{dir}/apisix.yaml",
        ),
    ],
)
def test_which_store_it_is(config: Config, tmp_path: Path, text: str, store: str) -> None:
    agent = load_agent_settings(config(text), environ={})
    assert agent.store_url == store.format(dir=tmp_path, parent=tmp_path.parent)


@pytest.mark.parametrize(
    ("etcd", "path", "reason"),
    [
        ("host: []", "host", "at least 1 item"),
        ("host: ['127.0.0.1:2379']", "host[0]", "must be http://host:port"),
        ("host: ['http://a:1', 'https://b:1']", "host", "all http or all https"),
        ("host: ['http://a:99999']", "host[0]", "must be http://host:port"),
        ("host: ['http://a:2379/v3']", "host[0]", "must be http://host:port"),
        ("prefix: ''", "prefix", "more than slashes"),
        ("prefix: //", "prefix", "more than slashes"),
        ("user: root", "password", "is missing, but user is given"),
        ("password: x", "user", "is missing, but password is given"),
        ("tls: {cert: c.pem}", "tls.key", "is missing, but cert is given"),
        ("timeout: 0", "timeout", "from 0.1"),
    ],
)
def test_what_is_wrong_about_etcd(config: Config, etcd: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(config(f"deployment: {{etcd: {{{etcd}}}}}"), environ={})
    assert caught.value.path == f"deployment.etcd.{path}"
    assert reason in caught.value.reason


def test_etcd_endpoints_tls_and_prefix(config: Config, tmp_path: Path) -> None:
    text = """
apisix: {ssl: {ssl_trusted_certificate: ca.pem}}
deployment:
  etcd:
    host: ['https://etcd-1', 'https://[::1]:2380/']
    prefix: /bk-gateway-apisix/a b/
    timeout: 1500ms
    user: root
    password: s3cret
    tls: {cert: c.pem, key: /k.pem, sni: etcd.local}
"""
    etcd = load_agent_settings(config(text), environ={}).etcd
    assert etcd.hosts == ("https://etcd-1:2379", "https://[::1]:2380")
    assert etcd.prefix == "/bk-gateway-apisix/a b/"
    assert etcd.timeout_s == 1.5
    assert etcd.tls.ca == tmp_path / "ca.pem"
    assert (etcd.tls.cert, etcd.tls.key, etcd.tls.sni) == (tmp_path / "c.pem", Path("/k.pem"), "etcd.local")
    assert (etcd.user, etcd.password) == ("root", "s3cret")


@pytest.mark.parametrize(
    ("url", "verify", "warned"),
    [("https://a:1", "false", True), ("https://a:1", "true", False), ("http://a:1", "false", False)],
)
def test_an_etcd_that_is_not_verified_is_warned_of(config: Config, url: str, verify: str, warned: bool) -> None:
    text = f"deployment: {{etcd: {{host: ['{url}'], tls: {{verify: {verify}}}}}}}\napisix: {{enable_admin: false}}"
    agent = load_agent_settings(config(text), environ={})
    assert agent.etcd.tls.verify is (verify == "true")
    assert any("tls.verify is off" in warning for warning in agent.warnings) is warned


@pytest.mark.parametrize(
    ("keys", "path", "reason"),
    [
        ("[{name: a, key: edd1c9f034335f136f87ad84b625c8f1, role: admin}]", "[0].key", "APISIX published"),
        ("[{name: a, key: 4054f7cf07e344346cd3f287985e76a2, role: viewer}]", "[0].key", "APISIX published"),
        ("[{name: a, key: short, role: admin}]", "[0].key", "shorter than 16"),
        ('[{name: a, key: "0123456789abcdef\\n", role: admin}]', "[0].key", "printable ASCII"),
        ("[{name: a, key: 1234567890123456, role: admin}]", "[0].key", "put it in quotes"),
        (f"[{{name: a, key: {KEY}, role: owner}}]", "[0].role", "one of admin, viewer"),
        (f"[{{name: a, key: {KEY}}}]", "[0]", "role is missing"),
        (f"[{{name: a, key: {KEY}, role: admin}}, {{name: a, key: x{KEY}, role: admin}}]", "", "the name 'a'"),
        (f"[{{name: a, key: {KEY}, role: admin}}, {{name: b, key: {KEY}, role: viewer}}]", "", "another one's"),
        ("{name: a}", "", "must be a list"),
    ],
)
def test_keys_that_are_refused(config: Config, keys: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(config(f"deployment: {{admin: {{admin_key: {keys}}}}}"), environ={})
    assert caught.value.path == f"deployment.admin.admin_key{path}"
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "generated", "warned"),
    [
        ("", True, False),
        ("deployment: {admin: {admin_key: [{name: admin, key: '', role: admin}]}}", True, False),
        (f"deployment: {{admin: {{admin_key: [{{name: admin, key: {KEY}, role: admin}}]}}}}", False, False),
        ("gw: {store: etcd}", False, True),
        ("apisix: {enable_admin: false}", False, False),
        ("apisix: {enable_admin: false}\ngw: {store: etcd}", False, False),
        ("deployment: {admin: {admin_key_required: false}}", False, False),
    ],
)
def test_when_a_key_is_to_be_generated(config: Config, text: str, generated: bool, warned: bool) -> None:
    agent = load_agent_settings(config(text), environ={})
    assert agent.generate_admin_key is generated
    assert any("nobody can use the Admin API" in warning for warning in agent.warnings) is warned


def test_no_secret_in_a_repr(config: Config) -> None:
    text = f"""
deployment:
  admin: {{admin_key: [{{name: a, key: {KEY}, role: admin}}]}}
  etcd: {{user: root, password: s3cret-word}}
"""
    path = config(text)
    agent = load_agent_settings(path, environ={})
    assert agent.etcd.password == "s3cret-word"
    for shown in (repr(agent), repr(load_settings(path, environ={}))):
        assert KEY not in shown
        assert "s3cret-word" not in shown


def test_the_agents_file_wins_and_workers_never_read_it(config: Config, tmp_path: Path) -> None:
    path = config("deployment: {etcd: {prefix: /mine, timeout: 5}}\ngw: {workers: 2}")
    agent_file = tmp_path / "agent.yaml"
    agent_file.write_text(
        f"deployment:\n  etcd: {{user: root, password: pw, timeout: 7}}\n"
        f"  admin: {{admin_key: [{{name: a, key: {KEY}, role: admin}}]}}\n"
    )
    agent_file.chmod(0o600)
    agent = load_agent_settings(path, environ={})
    assert (agent.etcd.prefix, agent.etcd.timeout_s, agent.etcd.user) == ("/mine", 7, "root")
    assert agent.admin_keys[0].key == KEY
    assert agent.warnings == ()

    agent_file.write_text("this: [is not: read")
    load_settings(path, environ={})


def test_the_agents_file_must_be_private_and_hold_the_agents_keys_only(config: Config, tmp_path: Path) -> None:
    path = config("")
    agent_file = tmp_path / "agent.yaml"
    agent_file.write_text("gw: {workers: 3, storr: etcd}\ndeployment: {etcd: {timeout: x}}\n")
    agent_file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 0640 lets others at it: chmod 600"):
        load_agent_settings(path, environ={})
    agent_file.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(path, environ={})
    text = str(caught.value)
    assert f"{agent_file}: gw.workers: does not belong here" in text
    assert f"{agent_file}: gw.storr: unknown key; did you mean gw.store?" in text
    assert f"{agent_file}: deployment.etcd.timeout: must be" in text


def test_secrets_in_a_file_that_others_can_read_are_warned_of(config: Config) -> None:
    path = config(f"deployment: {{admin: {{admin_key: [{{name: a, key: {KEY}, role: admin}}]}}}}")
    path.chmod(0o644)
    assert any("readable by others" in warning for warning in load_agent_settings(path, environ={}).warnings)
    path.chmod(0o600)
    assert load_agent_settings(path, environ={}).warnings == ()


def test_a_document_and_a_store_are_two_sources(config: Config) -> None:
    text = "deployment: {role_traditional: {config_provider: yaml}}\ngw: {store: etcd}"
    with pytest.raises(ConfigError, match="take one of them out") as caught:
        load_agent_settings(config(text), environ={})
    assert caught.value.path == "gw.store"


def test_a_data_plane_has_no_admin_api(config: Config) -> None:
    text = "deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}\napisix: {enable_admin: true}"
    agent = load_agent_settings(config(text), environ={})
    assert not agent.settings.apisix.enable_admin
    assert not agent.generate_admin_key
